"""R_FC and R_HV of one model's features, in the printed and the released form (section 4)."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pipeline import records
from pipeline.analysis.embedding import Features, first_of_each_class
from pipeline.data.episodes import sample
from pipeline.errors import UserError
from pipeline.machine import describe
from pipeline.regularizers import feature_clustering, hyperplane_variation

# Pairs at a time; four images each.
CHUNK = 256


def measure(
    settings: dict[str, Any], code: str, features: Path, out: Path, device: torch.device
) -> None:
    """Write a record of both measures on base and on novel classes.

    The released forms and the printed R_HV are means over random pairs of classes with two
    images of each, as in training; one value per pair is kept, and all models of a data set
    meet the same pairs. The printed R_FC is one ratio over all classes and embedded images.

    Raises
    ------
    UserError
        If a measure is not finite.
    """
    started = time.monotonic()
    source = Features(features)
    values: dict[str, Any] = {}
    for split in ("base", "novel"):
        embedded, labels = source.split(split)
        embedded = embedded.to(device)
        pairs = class_pairs(labels, settings["n_pairs"], settings["measurement_seed"], split)
        per_pair = pairwise(embedded, pairs)
        ratio = printed_r_fc(embedded, labels)
        if not all(bool(part.isfinite().all()) for part in (ratio, *per_pair.values())):
            raise UserError(
                f"{features}: R_FC or R_HV of {split} classes is not finite, so the features are "
                "all alike or very large; the run failed to learn, look into the log in its record"
            )
        values[split] = {
            "n_classes": len(np.unique(labels)),
            "images_per_class": int(np.bincount(labels).min()),
            "r_fc_printed": float(ratio),
            "pairs": {
                # Seven digits are what float32 holds.
                name: [float(f"{value:.7g}") for value in part.tolist()]
                for name, part in per_pair.items()
            },
        }
    records.write(
        out,
        "measurement",
        settings,
        code=code,
        sources=source.record.sources,
        device=describe(device),
        wall_s=time.monotonic() - started,
        values=values,
    )


def class_pairs(
    labels: NDArray[np.int64], n_pairs: int, seed: int, split: str
) -> NDArray[np.int64]:
    """Random pairs of different classes with two images of each: (pair, 2, 2) indices."""
    episodes = sample(
        labels, n_way=2, n_shot=1, n_query=1, n_episodes=n_pairs, seed=seed, stream=f"{split} pairs"
    )
    return np.concatenate([episodes.support, episodes.query], -1)


def pairwise(
    features: Float[Tensor, "image feature"], pairs: NDArray[np.int64]
) -> dict[str, Float[Tensor, " pair"]]:
    """Each measure of each pair of classes."""
    parts: dict[str, list[Tensor]] = {"r_fc_released": [], "r_hv_released": [], "r_hv_printed": []}
    for start in range(0, len(pairs), CHUNK):
        chosen = features[torch.from_numpy(pairs[start : start + CHUNK])]
        parts["r_fc_released"].append(feature_clustering.per_pair(chosen))
        parts["r_hv_released"].append(hyperplane_variation.released(chosen))
        parts["r_hv_printed"].append(hyperplane_variation.printed(chosen))
    return {name: torch.cat(part) for name, part in parts.items()}


def printed_r_fc(
    features: Float[Tensor, "image feature"], labels: NDArray[np.int64]
) -> Float[Tensor, ""]:
    """The printed ratio over all classes, with as many images of each as the smallest has."""
    n = int(np.bincount(labels).min())
    chosen = torch.from_numpy(first_of_each_class(labels, n))
    by_class = features[chosen].view(-1, n, features.shape[1])
    return feature_clustering.ratio(by_class)
