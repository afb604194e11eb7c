"""How fast this machine trains: a few steps of each distinct kind of training, just now."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.advice.plan.clock import seconds
from pipeline.config.datasets import SPLIT_CLASSES
from pipeline.data.packed import Origin, Packed
from pipeline.data.packing import pack
from pipeline.models.embedding import build
from pipeline.streams import generator
from pipeline.training.algorithm import Algorithm
from pipeline.training.loop import start

Settings = Mapping[str, Any]

# What does not change how long a step takes.
_IDLE = {
    *("steps", "validations", "validation_episodes", "validation_steps", "validation_shots"),
    *("validation_batch_size", "selection", "sampler", "lr", "lr_factors", "momentum", "clip"),
    *("weight_decay", "label_smoothing", "inner_lr", "ramp_passes"),
}
# Images of a class that the noise has, and the fewest of a batch: two pairs of classes.
_IMAGES_PER_CLASS, _FEWEST = 40, 8
# Whole seconds would be wasted on a pass that takes less.
_ENOUGH_S = 0.3


def kind(settings: Settings, image_size: int) -> str:
    """What the time of a training step depends on."""
    algorithm = {key: one for key, one in settings["algorithm"].items() if key not in _IDLE}
    # A pull costs the same whatever its strength, but none at all costs nothing.
    if "coefficient" in algorithm:
        algorithm["coefficient"] = bool(algorithm["coefficient"])
    backbone = {key: one for key, one in settings["backbone"].items() if key not in _IDLE}
    return json.dumps([image_size, backbone, algorithm], sort_keys=True)


def load(algorithm: Settings) -> int:
    """Images that pass through the network in one step, a gradient step's as often as it is."""
    if algorithm["algorithm"] == "classical":
        return int(algorithm["batch_size"])
    n_way, episodes = algorithm["n_way"], algorithm["meta_batch"]
    support, query = n_way * algorithm["n_shot"], n_way * algorithm["n_query"]
    match algorithm["algorithm"]:
        case "episodic":
            return int(episodes * (support + query))
        case "maml":
            return int(episodes * (algorithm["inner_steps"] * support + query))
        case _:
            batch = min(algorithm["batch_size"], support)
            return int(episodes * algorithm["inner_steps"] * batch)


def reduced(algorithm: Settings, share: float) -> dict[str, Any]:
    """The same training with steps of about a share of the load, though no less than it can do.

    First there are fewer episodes, then fewer images of a class.
    """
    if algorithm["algorithm"] == "classical":
        batch = int(algorithm["batch_size"] * share) // 4 * 4
        return {**algorithm, "batch_size": min(algorithm["batch_size"], max(_FEWEST, batch))}
    fewest = 2 if algorithm.get("coefficient") else 1
    episodes = min(algorithm["meta_batch"], max(fewest, int(algorithm["meta_batch"] * share)))
    small = {**algorithm, "meta_batch": episodes}
    left = min(1.0, share * load(algorithm) / load(small))
    most = _IMAGES_PER_CLASS / (algorithm["n_shot"] + algorithm["n_query"])
    for name in ("n_shot", "n_query"):
        small[name] = max(1, int(algorithm[name] * min(left, most)))
    return small


@dataclass(frozen=True)
class Step:
    """The time of a training step."""

    seconds: float
    # How many were timed, and which part of the step's images each had.
    n: int
    share: float


@dataclass(frozen=True)
class Passes:
    """Of one backbone at one image size."""

    # Seconds an image: through it, and there and back.
    forward: float
    both: float
    n_features: int
    n_parameters: int


class Speed:
    """Measures on a device; each kind once, in about so many seconds in all. To be closed.

    Parameters
    ----------
    n_kinds
        How many will be asked for: each gets its share of the time.
    """

    def __init__(self, device: torch.device, n_kinds: int, budget_s: float = 75.0) -> None:
        self.device = device
        self.each_s = budget_s / max(1, n_kinds)
        self._steps: dict[str, Step] = {}
        self._passes: dict[str, Passes] = {}
        self._folder = tempfile.TemporaryDirectory()
        self._packed: dict[int, Packed] = {}

    def __enter__(self) -> "Speed":
        return self

    def __exit__(self, *_: object) -> None:
        self._packed.clear()
        self._folder.cleanup()

    def step(self, settings: Settings, image_size: int) -> Step:
        name = kind(settings, image_size)
        if name not in self._steps:
            self._steps[name] = self._time_steps(settings, image_size)
        return self._steps[name]

    def _time_steps(self, settings: Settings, image_size: int) -> Step:
        whole = settings["algorithm"]
        algorithm = reduced(whole, 0.0)
        running = self._algorithm(settings, algorithm, image_size)
        # The first is slower than all others.
        _, first = self._time(running, 2)
        # So many times as much that a warm-up and three steps fit.
        more = self.each_s / 4 / max(first, 1e-6)
        if more > 1.2:
            algorithm = reduced(whole, min(1.0, more * load(algorithm) / load(whole)))
            running = self._algorithm(settings, algorithm, image_size)
            self._time(running, 1)
            times = self._time(running, 3)
        else:
            times = [first]
        ratio = load(whole) / load(algorithm)
        return Step(float(np.median(times)) * ratio, len(times), 1 / ratio)

    def _algorithm(self, settings: Settings, algorithm: Settings, image_size: int) -> Algorithm:
        return start({**settings, "algorithm": algorithm}, self._noise(image_size), self.device)

    def _time(self, algorithm: Algorithm, n: int) -> list[float]:
        algorithm.modules.train()
        return [seconds(partial(algorithm.step, index), self.device) for index in range(n)]

    def passes(self, settings: Settings, image_size: int) -> Passes:
        """Of the backbone of these settings."""
        name = json.dumps([image_size, settings["backbone"]], sort_keys=True)
        if name not in self._passes:
            self._passes[name] = self._time_passes(settings["backbone"], image_size)
        return self._passes[name]

    def _time_passes(self, settings: dict[str, Any], image_size: int) -> Passes:
        backbone = build(settings, image_size)
        backbone.to(self.device).to(memory_format=torch.channels_last).train()

        def images(n: int) -> torch.Tensor:
            made = torch.randn(n, 3, image_size, image_size, device=self.device)
            return made.contiguous(memory_format=torch.channels_last)

        def forward(n: int) -> Callable[[], Any]:
            batch = images(n)
            return torch.inference_mode()(lambda: backbone.eval()(batch))

        def both(n: int) -> Callable[[], Any]:
            batch = images(n)
            return lambda: backbone.train()(batch).sum().backward()

        with torch.inference_mode():
            n_features = int(backbone.eval()(images(1)).shape[1])
        return Passes(
            forward=self._per_image(forward),
            both=self._per_image(both),
            n_features=n_features,
            n_parameters=sum(one.numel() for one in backbone.state_dict().values()),
        )

    def _per_image(self, action: Callable[[int], Callable[[], Any]]) -> float:
        """Seconds an image, of the first batch that takes long enough to be timed."""
        n = 2
        while True:
            run = action(n)
            run()
            taken = seconds(run, self.device)
            if taken > min(_ENOUGH_S, self.each_s / 4) or n >= 128:
                return taken / n
            n *= 4

    def _noise(self, image_size: int) -> Packed:
        if image_size not in self._packed:
            folder = Path(self._folder.name) / str(image_size)
            pack(Noise(image_size), f"noise_{image_size}", folder, workers=1)
            self._packed[image_size] = Packed.open(folder)
        return self._packed[image_size]


@dataclass(frozen=True)
class Noise:
    """Images to time a training with: of the right size, but of nothing."""

    image_size: int
    images_per_class: int = _IMAGES_PER_CLASS
    one_reader = False
    origin = Origin(form="noise", variant="noise")

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        return {
            split: [f"{split}_{index}" for index in range(n)] for split, n in SPLIT_CLASSES.items()
        }

    def images(self, name: str) -> NDArray[np.uint8]:
        random = generator(0, f"noise {name}", 0)
        shape = (self.images_per_class, self.image_size, self.image_size, 3)
        return random.integers(0, 256, shape, dtype=np.uint8)
