"""Backbones by name, and images to features with a frozen one."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pipeline.data.augmentation import Normalisation, plain
from pipeline.plugins import find

# A batch this small stays in a CPU's cache; a GPU is busy with it at 84 pixels.
BATCH = 128


def build(settings: dict[str, Any], image_size: int) -> nn.Module:
    """The backbone ``pipeline.models.<name>`` of the settings, with its first weights.

    Parameters
    ----------
    settings
        ``name``, and the options that the backbone's own ``build`` takes.
    image_size
        Pixels of a side; the backbone maps (batch, 3, side, side) to (batch, features).

    Raises
    ------
    UserError
        If an option does not fit the image size.
    """
    options = {key: value for key, value in settings.items() if key != "name"}
    backbone: nn.Module = find("models", settings["name"], "build")(image_size, **options)
    return backbone


def embed(
    backbone: nn.Module, images: UInt8[Tensor, "image height width 3"], normalisation: Normalisation
) -> Iterator[Float[Tensor, "batch feature"]]:
    """Features of all images in order, a batch at a time, in float32.

    The backbone is used as it is: put it in evaluation mode first.
    """
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            indices = torch.arange(start, min(start + BATCH, len(images)))
            yield backbone(plain(images, indices, normalisation)).float()
