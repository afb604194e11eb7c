"""Few-shot accuracy of one model when the whole network is fine-tuned on each episode."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline import records
from pipeline.analysis.model import Weights
from pipeline.config.evaluation import Adaptation
from pipeline.data.augmentation import Normalisation
from pipeline.data.episodes import sample, stream
from pipeline.data.packed import Packed
from pipeline.machine import describe
from pipeline.training.adaptation import Initial, correct
from pipeline.training.inner import Network, SecondMoments


def adapt(
    settings: dict[str, Any], code: str, weights: Path, data: Path, out: Path, device: torch.device
) -> None:
    """Write a record of how many queries of each episode each adaptation gets right.

    An adaptation with as many queries per class as the heads meets their first episodes.
    """
    started = time.monotonic()
    packed = Packed.open(data)
    trained = Weights(weights)
    initial = _initial(trained, settings["backbone"], packed.passport.image_size, device)
    images = torch.from_numpy(np.array(packed.images("novel"))).to(device)
    protocol = settings["episodes"]
    values: dict[str, Any] = {}
    for name, options in settings["adaptations"].items():
        adaptation = Adaptation.model_validate(options)
        counts = {}
        for n_shot in protocol["n_shots"]:
            episodes = sample(
                packed.labels("novel"),
                n_way=protocol["n_way"],
                n_shot=n_shot,
                n_query=adaptation.n_query,
                n_episodes=adaptation.n_episodes,
                seed=protocol["seed"],
                stream=stream(settings["dataset"], protocol["n_way"], n_shot),
            )
            right = correct(
                initial,
                adaptation,
                images,
                Normalisation.of(packed.passport, settings["normalise"]),
                episodes,
                protocol["seed"],
            )
            counts[str(n_shot)] = right.tolist()
            print(f"{name}, {n_shot} shot: {right.double().mean():.2f} right", flush=True)
        values[name] = {"n_queries": protocol["n_way"] * adaptation.n_query, "correct": counts}
    records.write(
        out,
        "adaptation",
        settings,
        code=code,
        sources={"images": packed.passport.fingerprint, "weights": trained.sha256},
        device=describe(device),
        wall_s=time.monotonic() - started,
        values=values,
    )


def _initial(
    weights: Weights, settings: dict[str, Any], image_size: int, device: torch.device
) -> Initial:
    backbone = weights.backbone(settings, image_size, device)
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    n_features = backbone(image).shape[1]
    head = moments = None
    if tensors := weights.part("head"):
        head = nn.Linear(n_features, len(next(iter(tensors.values()))), device=device)
        weights.load(head, "head")
    if head and weights.part("moments"):
        moments = SecondMoments(Network(backbone, head).read())
        weights.load(moments, "moments")
    return Initial(backbone, n_features, head, moments)
