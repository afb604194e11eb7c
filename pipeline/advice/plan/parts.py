"""How fast this machine does what jobs do besides training: a part of each, just now, on noise."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial, wraps
from typing import Any, TypeVar, cast

import torch

from pipeline.advice.plan.clock import seconds
from pipeline.analysis.clustering import class_pairs, pairwise
from pipeline.analysis.projection import discriminant_plane
from pipeline.data.episodes import sample
from pipeline.heads.scoring import Head, correct, gram
from pipeline.plugins import find

Settings = Mapping[str, Any]
Measure = TypeVar("Measure", bound=Callable[..., float])

# Of the noise that stands for features, and how much is done with it.
_CLASSES, _PER_CLASS, _FEATURES = 20, 40, 640
_EPISODES, _PAIRS, _PRODUCT = 400, 200, 2048


def _once(measure: Measure) -> Measure:
    """Of the same part the time is taken once, when it is first asked for."""

    @wraps(measure)
    def known(self: "Parts", *given: Any) -> float:
        key = json.dumps([measure.__name__, given], sort_keys=True)
        if key not in self.known:
            self.known[key] = measure(self, *given)
        return self.known[key]

    return cast(Measure, known)


class Parts:
    """Seconds that parts of jobs take on a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known: dict[str, float] = {}

    @_once
    def start(self, module: str) -> float:
        """Until a process is there that has read a module and what it imports."""
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import pipeline.__main__, {module}"], check=True)
        return time.perf_counter() - began

    @_once
    def product(self) -> float:
        """Of one of the images x images x features multiplications of a Gram matrix."""
        features = self._noise(_PRODUCT, _PRODUCT)
        return self._seconds(lambda: gram(features)) / _PRODUCT**3

    @_once
    def episode(self, head: Settings, n_way: int, n_shot: int, n_query: int) -> float:
        """Of an episode with one head, once there is a Gram matrix."""
        per_class = max(_PER_CLASS, n_shot + n_query)
        products = gram(self._noise(_CLASSES * per_class, _FEATURES) / _FEATURES**0.5)
        episodes = sample(
            torch.arange(_CLASSES).repeat_interleave(per_class).numpy(),
            n_way=n_way,
            n_shot=n_shot,
            n_query=n_query,
            n_episodes=_EPISODES,
            seed=0,
            stream="plan",
        )
        heads: dict[str, Head] = {
            "": partial(find("heads", head["name"], "logits"), **head["options"])
        }
        return self._seconds(lambda: correct(products, episodes, heads)) / _EPISODES

    @_once
    def pair(self, n_features: int) -> float:
        """Of a pair of classes, whose clustering is measured."""
        labels = torch.arange(_CLASSES).repeat_interleave(_PER_CLASS).numpy()
        pairs = class_pairs(labels, _PAIRS, 0, "plan")
        features = self._noise(len(labels), n_features)
        return self._seconds(lambda: pairwise(features, pairs, self.device)) / _PAIRS

    @_once
    def plane(self, n_classes: int, n_images: int, n_features: int) -> float:
        """Of the plane that divides some classes best, fitted to so many images of each."""
        noise = self._noise(n_classes * n_images, n_features).cpu().numpy()
        images = noise.reshape(n_classes, n_images, n_features)
        return self._seconds(lambda: discriminant_plane(images, images))

    @_once
    def image(self, settings: Settings) -> float:
        """Of an image that is generated."""
        source = find("data", settings["source"], "source")(settings, None)
        first = source.classes["base"][0]
        return self._seconds(lambda: source.images(first)) / int(settings["images_per_class"])

    def _noise(self, n_images: int, n_features: int) -> torch.Tensor:
        return torch.randn(n_images, n_features, device=self.device)

    def _seconds(self, action: Callable[[], Any]) -> float:
        """Of the second time: the first is slower than all others."""
        action()
        return seconds(action, self.device)
