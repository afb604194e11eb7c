"""Similarity (linear CKA) of a meta-learned run and its classical twins, for Table 4."""

import hashlib
import time
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import records
from pipeline.analysis.cka import Centred, similarities, stratified_folds
from pipeline.analysis.features import Features, paths
from pipeline.config.evaluation import COMPARED_IMAGES
from pipeline.errors import UserError
from pipeline.machine import describe

# A run and a seed.
Model: TypeAlias = tuple[str, int]


def compare(
    settings: dict[str, Any], code: str, features: list[Path], out: Path, device: torch.device
) -> None:
    """Write a record of how similar the run's features are to those of its twins.

    A twin is compared with the run of the same seed, on novel and on base images. The
    ceiling is the run against itself with another seed. Besides all images, each of
    ``n_folds`` folds is compared on its own, so that differences between twins can be paired.

    Raises
    ------
    UserError
        If ``features`` are not of exactly the run and its twins on the same images, or a
        similarity is not defined.
    """
    started = time.monotonic()
    sources = _by_model(settings, [Features(folder) for folder in features])
    pairs = _pairs(settings, list(sources))
    compared = {model: sources[model] for model in sources if any(model in pair for pair in pairs)}
    values = {
        split: _compare_split(split, compared, pairs, settings["n_folds"], device)
        for split in ("novel", "base")
    }
    weights = sorted(source.record.sources["weights"] for source in sources.values())
    records.write(
        out,
        "similarity",
        settings,
        code=code,
        sources={
            "images": next(iter(sources.values())).record.sources["images"],
            "weights": hashlib.sha256("\n".join(weights).encode()).hexdigest(),
        },
        device=describe(device),
        wall_s=time.monotonic() - started,
        values=values,
    )


def _by_model(settings: dict[str, Any], features: list[Features]) -> dict[Model, Features]:
    """Features by run and seed, in that order; refused unless they are those of the settings."""
    found: dict[Model, Features] = {}
    needed: list[str] = [settings["run"], *settings["twins"]]
    for source in features:
        record = source.record
        if record.run not in needed or record.seed is None:
            raise UserError(
                f"{source.folder}: features of run {record.run}, seed {record.seed}, which are not "
                f"compared; allowed are the runs {', '.join(needed)}: name their folders alone"
            )
        for key in ("scale", "dataset"):
            if getattr(record, key) != settings[key]:
                raise UserError(
                    f"{source.folder}: features of {key} {getattr(record, key)}, compared are "
                    f"those of {settings[key]}; name its folders alone"
                )
        first = next(iter(found.values()), source)
        if record.sources["images"] != first.record.sources["images"]:
            raise UserError(
                f"{source.folder} and {first.folder} are features of different images; "
                "delete the older folder and run snakemake again"
            )
        model = (record.run, record.seed)
        if model in found:
            raise UserError(
                f"{source.folder} and {found[model].folder} are both features of {model[0]}, "
                f"seed {model[1]}; name one of them"
            )
        found[model] = source
    if absent := sorted(set(needed) - {run for run, _ in found}):
        raise UserError(
            f"features of {', '.join(absent)} are missing; name the folders of {', '.join(needed)}"
        )
    return dict(sorted(found.items()))


def _pairs(settings: dict[str, Any], models: list[Model]) -> list[tuple[Model, Model]]:
    """Each twin with the run of its seed; then the run with itself, of each two seeds."""
    run: str = settings["run"]
    seeds = [seed for name, seed in models if name == run]
    pairs: list[tuple[Model, Model]] = []
    for twin in settings["twins"]:
        shared = [seed for seed in seeds if (twin, seed) in models]
        if not shared:
            raise UserError(
                f"{twin} and {run} have no seed in common, {run} has {', '.join(map(str, seeds))}; "
                "name features of the same seed"
            )
        pairs += [((twin, seed), (run, seed)) for seed in shared]
    return pairs + [((run, later), (run, earlier)) for earlier, later in combinations(seeds, 2)]


def _compare_split(
    split: str,
    sources: dict[Model, Features],
    pairs: list[tuple[Model, Model]],
    n_folds: int,
    device: torch.device,
) -> dict[str, Any]:
    folders = [source.folder for source in sources.values()]
    arrays = [source.split(split) for source in sources.values()]
    labels = [own for _, own in arrays]
    for folder, own in zip(folders, labels, strict=True):
        if not np.array_equal(own, labels[0]):
            raise UserError(
                f"{folder} and {folders[0]} have {split} images of different labels; "
                "delete the older folder and run snakemake again"
            )
    folds = stratified_folds(labels[0], n_folds)
    if min(map(len, folds)) < COMPARED_IMAGES:
        raise UserError(
            f"n_folds: {n_folds} leaves {min(map(len, folds))} of {len(labels[0])} {split} images "
            f"to a fold, at least {COMPARED_IMAGES} are needed; lower n_folds or embed more images"
        )
    found = similarities(
        [
            _centred(features, paths(folder, split)[0], device)
            for folder, (features, _) in zip(folders, arrays, strict=True)
        ],
        folds,
    )
    every = torch.cat([found.debiased[None], found.by_fold])
    for folder, own_similarity in zip(folders, every.diagonal(dim1=1, dim2=2).T, strict=True):
        if not bool(own_similarity.isfinite().all()):
            raise UserError(
                f"{folder}: CKA of {split} images is not defined, since the features of all or of "
                "a fold are alike, equally far from each other, or too large; the run failed to "
                "learn, look into the log in its record"
            )
    place = {model: index for index, model in enumerate(sources)}
    return {
        "n_images": len(labels[0]),
        "n_images_per_fold": [len(fold) for fold in folds],
        "pairs": [
            {
                "run": model[0],
                "seed": model[1],
                "against": other[1],
                "cka": float(found.plain[place[model], place[other]]),
                "cka_debiased": float(found.debiased[place[model], place[other]]),
                "folds": found.by_fold[:, place[model], place[other]].tolist(),
            }
            for model, other in pairs
        ],
    }


def _centred(features: NDArray[np.float32], path: Path, device: torch.device) -> Centred:
    centred = Centred(features, device)
    if not centred.finite:
        raise UserError(
            f"{path}: features are not finite; delete the folder and run snakemake again"
        )
    return centred
