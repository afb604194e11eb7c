"""The features of one model on disk, as ``embed`` writes them and every analysis reads them.

Without torch, which not every analysis needs.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import records
from pipeline.errors import UserError


def paths(folder: Path, split: str) -> tuple[Path, Path]:
    """Where the features of a split are, and where their labels."""
    return folder / f"{split}.npy", folder / f"{split}_labels.npy"


class Features:
    """The features of one model, opened for reading.

    ``settings`` are those of a job about this model alone: its scale, data set, run and seed
    must be the features' own.
    """

    def __init__(self, folder: Path, settings: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.record = records.read(folder / "record.json", "features")
        if settings is not None:
            records.require_same(folder, self.record, settings)

    def split(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Features (image, feature) and labels (image,), mapped from disk.

        They are read-only; torch takes such arrays by ``from_dlpack``, without a copy. Both files
        are read whole, to be compared with the checksums in the record.

        Raises
        ------
        UserError
            If they cannot be read, have changed, or do not belong together.
        """
        try:
            for path in paths(self.folder, name):
                records.verify(path, self.record)
            features, labels = (np.load(path, mmap_mode="r") for path in paths(self.folder, name))
            if features.ndim != 2 or len(features) != len(labels):
                raise ValueError(
                    f"{name}.npy has shape {features.shape}, needed is ({len(labels)}, features)"
                )
        except (OSError, ValueError, EOFError) as error:
            raise UserError(
                f"cannot read the features of {name} in {self.folder}: {error}; "
                "delete the folder and run snakemake again"
            ) from None
        return features, labels
