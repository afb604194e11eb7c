"""A trained model, read back from what a run wrote."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import tensor_files
from pipeline.errors import UserError
from pipeline.models.embedding import build


class Weights:
    """The weights of a run, by part: "backbone", and what else its algorithm trained.

    Parameters
    ----------
    whose
        What they must be of, as far as it is said: scale, dataset, run, seed and the fingerprint
        of the images.

    Raises
    ------
    UserError
        If they are missing, damaged or of another run or other images.
    """

    def __init__(self, path: Path, whose: Mapping[str, Any]) -> None:
        self.path = path
        try:
            self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            self._tensors, about = tensor_files.load(path)
        except (OSError, tensor_files.DamagedError) as error:
            raise self._unusable(error) from None
        for name, value in about.items():
            if whose.get(name, value) != value:
                raise self._unusable(f"they are of {name} {value}, not {whose[name]}")

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of a part; none if the run has no such part."""
        prefix = f"{name}."
        return {
            place.removeprefix(prefix): tensor
            for place, tensor in self._tensors.items()
            if place.startswith(prefix)
        }

    def load(self, module: nn.Module, part: str) -> None:
        """Load a part into a module.

        Raises
        ------
        UserError
            If they do not fit.
        """
        try:
            module.load_state_dict(self.part(part))
        except RuntimeError as error:
            raise self._unusable(error) from None

    def backbone(
        self, settings: dict[str, Any], image_size: int, device: torch.device
    ) -> nn.Module:
        """The backbone that the settings name, with these weights, in evaluation mode."""
        backbone = build(settings, image_size)
        self.load(backbone, "backbone")
        return backbone.to(device).to(memory_format=torch.channels_last).eval()

    def _unusable(self, error: Exception | str) -> UserError:
        return UserError(
            f"cannot use the weights {self.path}: {error}; delete the file and run snakemake again"
        )
