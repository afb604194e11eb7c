"""Images to features with a frozen backbone."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pipeline.data.augmentation import Normalisation, plain

# A batch this small stays in a CPU's cache; a GPU is busy with it at 84 pixels.
BATCH = 128


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
