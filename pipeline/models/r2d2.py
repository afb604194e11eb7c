"""The R2-D2 backbone (Bertinetto et al., 2018) in the form of MetaOptNet and the paper's code.

It differs from the original in pooling, dropout and the missing last activation.
"""

import torch
from torch import Tensor, nn


class R2D2(nn.Module):
    """Four convolution blocks; the features are those of the last two, side by side.

    Parameters
    ----------
    width
        Factor on the channels 96, 192, 384, 512; 1 is the published network of 2,605,056
        parameters, with 8,192 features at 32 pixels and 51,200 at 84.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        c1, c2, c3, c4 = (max(1, round(width * channels)) for channels in (96, 192, 384, 512))
        self.block1 = _block(3, c1, nn.LeakyReLU(0.1))
        self.block2 = _block(c1, c2, nn.LeakyReLU(0.1))
        self.block3 = _block(c2, c3, nn.LeakyReLU(0.1), nn.Dropout(0.1))
        # The code that the paper used has no activation here.
        self.block4 = _block(c3, c4, nn.Dropout(0.3))

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to features (batch, features)."""
        third = self.block3(self.block2(self.block1(images)))
        return torch.cat([third.flatten(1), self.block4(third).flatten(1)], 1)


def build(width: float) -> R2D2:
    return R2D2(width)


def _block(channels_in: int, channels_out: int, *tail: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2),
        *tail,
    )
