"""R_FC and R_HV of one model's features, in the printed and the released form (section 4)."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from pipeline import records
from pipeline.analysis.features import Features
from pipeline.data.episodes import sample
from pipeline.errors import UserError
from pipeline.machine import describe, send
from pipeline.regularizers import feature_clustering, hyperplane_variation

# Pairs at a time; four images each.
CHUNK = 256


def measure(
    settings: dict[str, Any], code: str, features: Path, out: Path, device: torch.device
) -> None:
    """Write a record of both measures on base and on novel classes.

    The released forms and the printed R_HV are means over random pairs of classes with two
    images of each, as in training; one value per pair is kept, and all models of a data set
    meet the same pairs. The printed R_FC is one ratio over all classes and embedded images, and
    ``population`` is what the released forms tend to, without sampling.

    Features are read block by block, so memory need not hold them where they are mapped.

    Raises
    ------
    UserError
        If a measure is not finite.
    """
    started = time.monotonic()
    source = Features(features, settings)
    values: dict[str, Any] = {}
    for split in ("base", "novel"):
        mapped, labels = source.split(split)
        embedded = from_dlpack(mapped)
        pairs = class_pairs(labels, settings["n_pairs"], settings["measurement_seed"], split)
        per_pair = pairwise(embedded, pairs, device)
        counts = np.bincount(labels)
        every = alike = moments(embedded, labels, device)
        if counts.min() < counts.max():
            alike = moments(embedded, labels, device, int(counts.min()))
        ratio, limits = printed_r_fc(alike), population(every)
        parts = (ratio, *limits.values(), *per_pair.values())
        if not all(bool(part.isfinite().all()) for part in parts):
            raise UserError(
                f"{features}: R_FC or R_HV of {split} classes is not finite, so the features are "
                "all alike or very large; the run failed to learn, look into the log in its record"
            )
        values[split] = {
            "n_classes": len(np.unique(labels)),
            "images_per_class": int(counts.min()),
            "r_fc_printed": float(ratio),
            "population": {name: float(value) for name, value in limits.items()},
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
    features: Float[Tensor, "image feature"], pairs: NDArray[np.int64], device: torch.device
) -> dict[str, Float[Tensor, " pair"]]:
    """Each measure of each pair of classes."""
    parts: dict[str, list[Tensor]] = {"r_fc_released": [], "r_hv_released": [], "r_hv_printed": []}
    for start in range(0, len(pairs), CHUNK):
        chosen = send(features[torch.from_numpy(pairs[start : start + CHUNK])], device)
        parts["r_fc_released"].append(feature_clustering.per_pair(chosen))
        parts["r_hv_released"].append(hyperplane_variation.released(chosen))
        parts["r_hv_printed"].append(hyperplane_variation.printed(chosen))
    return {name: torch.cat(part) for name, part in parts.items()}


@dataclass(frozen=True)
class Moments:
    """Of the features of each class."""

    counts: Int64[Tensor, " class"]
    centres: Float64[Tensor, "class feature"]
    # The total variance: the sum over features of the unbiased variance.
    spreads: Float64[Tensor, " class"]


def moments(
    features: Float[Tensor, "image feature"],
    labels: NDArray[np.int64],
    device: torch.device,
    images_per_class: int | None = None,
) -> Moments:
    """In double precision, one class at a time; of its first images if a number is given."""
    counts, centres, spreads = [], [], []
    for one in np.unique(labels):
        chosen = np.flatnonzero(labels == one)[:images_per_class]
        block = send(features[torch.from_numpy(chosen)], device).double()
        counts.append(len(block))
        centres.append(block.mean(0))
        spreads.append(block.sub_(centres[-1]).square_().sum() / (len(block) - 1))
    return Moments(torch.tensor(counts, device=device), torch.stack(centres), torch.stack(spreads))


def printed_r_fc(moments: Moments) -> Float64[Tensor, ""]:
    """The printed ratio over all classes, of equally many images each."""
    n_classes, n = len(moments.counts), moments.counts[0]
    within = (n - 1) * moments.spreads.sum()
    between = (moments.centres - moments.centres.mean(0)).square().sum()
    return n_classes / n * within / between


def population(moments: Moments) -> dict[str, Float64[Tensor, ""]]:
    """What the released forms tend to as features grow many, and the variances behind them.

    For two classes of total variances s_a and s_b around centres at a squared distance D, with
    s their mean, R_FC is 4s / (D + s) and R_HV is 4s / (D + 2s). These are ratios of
    expectations over all draws of two images of each class, with ``D`` freed from the variance
    of the centres that it is computed from; so it may be negative where classes coincide.

    Returns
    -------
    dict
        ``r_fc`` and ``r_hv``: means over pairs of classes; ``within``: the mean of s_a over
        classes; ``between``: the mean of D over pairs.
    """
    spreads, uncertain = moments.spreads, moments.spreads / moments.counts
    first, second = torch.triu_indices(len(spreads), len(spreads), 1, device=spreads.device)
    # In the order of these indices.
    apart = torch.pdist(moments.centres).square() - uncertain[first] - uncertain[second]
    spread = (spreads[first] + spreads[second]) / 2
    return {
        "r_fc": (4 * spread / (apart + spread)).mean(),
        "r_hv": (4 * spread / (apart + 2 * spread)).mean(),
        "within": spreads.mean(),
        "between": apart.mean(),
    }
