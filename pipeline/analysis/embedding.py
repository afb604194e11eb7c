"""The features of one model, computed once and read by every analysis."""

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline import records
from pipeline.data.augmentation import Normalisation
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.files import replacing
from pipeline.machine import describe
from pipeline.models import embedding
from pipeline.plugins import find


def embed(
    settings: dict[str, Any], code: str, weights: Path, data: Path, out: Path, device: torch.device
) -> None:
    """Write ``<split>.npy`` (image, feature) float32, ``<split>_labels.npy`` and ``record.json``.

    The backbone is in evaluation mode and images are not augmented. Of each split the
    settings name, all images are embedded or the first so many of each class.

    Raises
    ------
    UserError
        If a feature is not finite.
    """
    started = time.monotonic()
    packed = Packed.open(data)
    passport = packed.passport
    backbone = find("models", settings["backbone"]["name"], "build")(settings["backbone"]["width"])
    prefix = "backbone."
    backbone.load_state_dict(
        {
            name.removeprefix(prefix): tensor
            for name, tensor in load_file(weights).items()
            if name.startswith(prefix)
        }
    )
    backbone.to(device=device, memory_format=torch.channels_last).eval()
    normalisation = Normalisation()
    if settings["normalise"]:
        normalisation = Normalisation(passport.channel_mean, passport.channel_std)
    for split, images_per_class in settings["images_per_class"].items():
        chosen = first_of_each_class(packed.labels(split), images_per_class)
        images = torch.from_numpy(packed.images(split)[chosen]).to(device)
        with replacing(out / f"{split}.npy") as temporary:
            mapped = None
            place = 0
            for batch in embedding.embed(backbone, images, normalisation):
                if not bool(batch.isfinite().all()):
                    raise UserError(f"{weights}: features of {split} images are not finite")
                if mapped is None:
                    shape = (len(images), batch.shape[1])
                    mapped = np.lib.format.open_memmap(
                        temporary, mode="w+", dtype=np.float32, shape=shape
                    )
                mapped[place : place + len(batch)] = batch.cpu().numpy()
                place += len(batch)
            if mapped is not None:
                mapped.flush()
        with replacing(out / f"{split}_labels.npy") as temporary:
            np.save(temporary, packed.labels(split)[chosen])
    records.write(
        out / "record.json",
        "features",
        settings,
        code=code,
        sources={
            "images": passport.fingerprint,
            "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        },
        device=describe(device),
        wall_s=time.monotonic() - started,
        values={},
    )


def first_of_each_class(labels: NDArray[np.int64], n: int | None) -> NDArray[np.int64]:
    """Indices of the first ``n`` images of each class; of all images if ``n`` is None."""
    if n is None:
        return np.arange(len(labels))
    return np.concatenate([np.flatnonzero(labels == one)[:n] for one in np.unique(labels)])


class Features:
    """The features of one model, opened for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = records.read(folder / "record.json", "features")

    def split(self, name: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
        """Features (image, feature) float32 and labels (image,)."""
        try:
            features = np.load(self.folder / f"{name}.npy")
            labels = np.load(self.folder / f"{name}_labels.npy")
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot read the features of {name} in {self.folder}: {error}; "
                "delete the folder and run snakemake again"
            ) from None
        return torch.from_numpy(features), labels
