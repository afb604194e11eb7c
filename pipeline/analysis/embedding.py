"""The features of one model, computed once."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import records
from pipeline.analysis.features import paths
from pipeline.analysis.model import Weights
from pipeline.data.augmentation import Normalisation
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.files import replacing, sha256
from pipeline.machine import describe
from pipeline.models import embedding


def embed(
    settings: dict[str, Any], code: str, weights: Path, data: Path, out: Path, device: torch.device
) -> None:
    """Write ``<split>.npy`` (image, feature) float32, ``<split>_labels.npy`` and ``record.json``.

    The backbone is in evaluation mode and images are not augmented. Of each split the
    settings name, all images are embedded or the first so many of each class.

    Raises
    ------
    UserError
        If the weights cannot be used or are of other images, or a feature is not finite.
    """
    started = time.monotonic()
    packed = Packed.open(data, settings["dataset"])
    passport = packed.passport
    trained = Weights(weights, settings | {"images": passport.fingerprint})
    backbone = trained.backbone(settings["backbone"], passport.image_size, device)
    checksums = {}
    for split, images_per_class in settings["images_per_class"].items():
        chosen = first_of_each_class(packed.labels(split), images_per_class)
        images = torch.from_numpy(packed.images(split)[chosen]).to(device)
        features_file, labels_file = paths(out, split)
        # Not through a memory map: there, a full disk kills the process instead of raising.
        with replacing(features_file) as temporary, temporary.open("wb") as file:
            for batch in embedding.embed(
                backbone, images, Normalisation.of(passport, settings["normalise"])
            ):
                if not bool(batch.isfinite().all()):
                    raise UserError(
                        f"{weights}: features of {split} images are not finite; the run "
                        "diverged, lower its lr in config.yaml"
                    )
                if file.tell() == 0:
                    shape = (len(images), batch.shape[1])
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(batch.cpu().numpy().astype("<f4").tobytes())
        with replacing(labels_file) as temporary:
            np.save(temporary, packed.labels(split)[chosen])
        for path in (features_file, labels_file):
            checksums[path.name] = sha256(path)
    records.write(
        out / "record.json",
        "features",
        settings,
        code=code,
        sources=passport.sources | {"weights": trained.sha256},
        device=describe(device),
        wall_s=time.monotonic() - started,
        values={"sha256": checksums},
    )


def first_of_each_class(labels: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    """Indices of the first ``n`` images of each class; of all images if ``n`` is None."""
    if n is None:
        return np.arange(len(labels))
    return np.concatenate([np.flatnonzero(labels == one)[:n] for one in np.unique(labels)])
