"""What a training algorithm supplies to the loop, and what it gets."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from pipeline.data.augmentation import Augmentation, Normalisation, plain
from pipeline.models.embedding import embed
from pipeline.streams import generator


@dataclass(frozen=True)
class Task:
    """What an algorithm starts from."""

    # A training model of pipeline.config, dumped; a head in it stands with its options.
    settings: dict[str, Any]
    seed: int
    device: torch.device
    backbone: nn.Module
    n_features: int
    normalisation: Normalisation
    # Images are resident on the device, labels on the host. Base images come augmented, or as
    # they are.
    base: Augmentation | UInt8[Tensor, "base height width 3"]
    base_labels: NDArray[np.int64]
    validation: UInt8[Tensor, "validation height width 3"]
    validation_labels: NDArray[np.int64]

    def batch(self, images: NDArray[np.int64], index: int) -> Float32[Tensor, "batch 3 h w"]:
        """Base images for training step ``index``, augmented if the run asks for it."""
        indices = torch.from_numpy(images)
        if isinstance(self.base, Augmentation):
            return self.base(indices, generator(self.seed, "augmentation", index))
        return plain(self.base, indices, self.normalisation)

    def validation_features(self) -> Float[Tensor, "image feature"]:
        return torch.cat(list(embed(self.backbone, self.validation, self.normalisation)))


class Algorithm(Protocol):
    """State, step, and the model it leaves.

    A step must depend on nothing but the modules, the optimizer and its index, so that a
    run can be stopped and continued anywhere.
    """

    # What is trained; its "backbone" is the model that the run leaves.
    modules: nn.ModuleDict
    optimizer: Optimizer

    def step(self, index: int) -> dict[str, Tensor]:
        """Train on batch ``index``; returns scalars for the log, "loss" among them."""
        ...

    def validate(self) -> dict[str, float]:
        """Scores on the validation classes, higher is better, for the log.

        The one named "validation" decides which weights are best. The modules are in
        evaluation mode.
        """
        ...

    def finish(self) -> None:
        """Complete the modules once the weights to keep stand in them."""
