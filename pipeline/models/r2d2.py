"""The R2-D2 backbone, as MetaOptNet and the paper's code have it or as Bertinetto et al. (2018) do.

The two differ in pooling, dropout and the last activation.
"""

from typing import Literal

import torch
from torch import Tensor, nn


class R2D2(nn.Module):
    """Four convolution blocks; the features are those of the last two, side by side.

    Parameters
    ----------
    width
        Factor on the channels; 1 is the published network.
    form
        ``metaoptnet``: 8,192 features at 32 pixels and 51,200 at 84. ``original``: 8,064 and
        72,576; it pools the last block's maps, and the third's once more, with stride 1, and
        keeps the last activation.
    channels
        Of the four blocks. As published: 2,605,056 parameters in either form.
    dropout
        Rates after block 3 and block 4. Bertinetto et al. use 0.4 in both for CIFAR-FS and
        0.1 in both for mini-ImageNet.
    """

    def __init__(
        self,
        width: float = 1.0,
        *,
        form: Literal["metaoptnet", "original"] = "metaoptnet",
        channels: tuple[int, int, int, int] = (96, 192, 384, 512),
        dropout: tuple[float, float] = (0.1, 0.3),
    ) -> None:
        super().__init__()
        original = form == "original"
        c1, c2, c3, c4 = (max(1, round(width * each)) for each in channels)
        self.block1 = _block(3, c1, nn.LeakyReLU(0.1))
        self.block2 = _block(c1, c2, nn.LeakyReLU(0.1))
        self.block3 = _block(c2, c3, nn.LeakyReLU(0.1), nn.Dropout(dropout[0]))
        # The code that the paper used has no activation here.
        last = [nn.LeakyReLU(0.1)] if original else []
        self.block4 = _block(c3, c4, *last, nn.Dropout(dropout[1]), stride=1 if original else 2)
        self.pool3 = nn.MaxPool2d(2, stride=1) if original else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to features (batch, features)."""
        third = self.block3(self.block2(self.block1(images)))
        return torch.cat([self.pool3(third).flatten(1), self.block4(third).flatten(1)], 1)


def build(
    image_size: int,  # noqa: ARG001 (all backbones are built alike)
    *,
    width: float = 1.0,
    form: Literal["metaoptnet", "original"] = "metaoptnet",
    channels: tuple[int, int, int, int] = (96, 192, 384, 512),
    dropout: tuple[float, float] = (0.1, 0.3),
) -> R2D2:
    """The network for images of ``image_size`` pixels: any from 16 on."""
    return R2D2(width, form=form, channels=channels, dropout=dropout)


def _block(channels_in: int, channels_out: int, *tail: nn.Module, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.MaxPool2d(2, stride=stride),
        *tail,
    )
