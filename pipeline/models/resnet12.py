"""The ResNet-12 of MetaOptNet (Lee et al., 2019), which the paper's code took over."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import UserError

DROP_RATE = 0.1


class ResNet12(nn.Module):
    """Four residual blocks, without a pooling at the end: the features are the last maps.

    Parameters
    ----------
    width
        Factor on the channels 64, 160, 320, 640; 1 is the published network of 12,424,320
        parameters, with 2,560 features at 32 pixels and 16,000 at 84.
    block_size
        Side of the squares that DropBlock drops after blocks 3 and 4; None drops nothing
        there. A tenth of all single features is dropped after blocks 1 and 2 in any case.
    ramp_passes
        Training passes until DropBlock is at its full rate.
    """

    def __init__(
        self, width: float = 1.0, block_size: int | None = 5, ramp_passes: int = 40_000
    ) -> None:
        super().__init__()

        def drop_block() -> nn.Module:
            return DropBlock(block_size, ramp_passes) if block_size else nn.Identity()

        c1, c2, c3, c4 = (max(1, round(width * channels)) for channels in (64, 160, 320, 640))
        self.block1 = Block(3, c1, nn.Dropout(DROP_RATE))
        self.block2 = Block(c1, c2, nn.Dropout(DROP_RATE))
        self.block3 = Block(c2, c3, drop_block())
        self.block4 = Block(c3, c4, drop_block())

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, 3, height, width) to features (batch, features)."""
        maps: Tensor = self.block4(self.block3(self.block2(self.block1(images))))
        return maps.flatten(1)


class Block(nn.Module):
    """Three convolutions beside a 1 x 1 one, then activation, max-pool and ``drop``."""

    def __init__(self, channels_in: int, channels_out: int, drop: nn.Module) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_convolution(channels_in, channels_out, 3),
            nn.LeakyReLU(0.1),
            *_convolution(channels_out, channels_out, 3),
            nn.LeakyReLU(0.1),
            *_convolution(channels_out, channels_out, 3),
        )
        self.shortcut = nn.Sequential(*_convolution(channels_in, channels_out, 1))
        self.tail = nn.Sequential(nn.LeakyReLU(0.1), nn.MaxPool2d(2))
        self.drop = drop

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (batch, channel, height, width) to maps of half the height and width."""
        dropped: Tensor = self.drop(self.tail(self.residual(maps) + self.shortcut(maps)))
        return dropped


class DropBlock(nn.Module):
    """Drops squares out of feature maps in training (Ghiasi et al., 2018).

    The rate grows with the training passes, of which ``passes`` keeps count as a part of
    the state; MetaOptNet counts validation too and forgets the count when a run goes on.
    Nothing here reads a tensor's value, so a GPU is never waited for.

    Parameters
    ----------
    block_size
        Side of a square, at most the maps' own.
    ramp_passes
        Passes in which the rate grows from 0 to a tenth, linearly.
    """

    passes: Tensor

    def __init__(self, block_size: int, ramp_passes: int) -> None:
        super().__init__()
        self.block_size = block_size
        self.ramp_passes = ramp_passes
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def gamma(self, height: int, width: int) -> Tensor:
        """Probability that a square begins at a place where it fits, after ``passes`` passes."""
        size = self.block_size
        rate = DROP_RATE * (self.passes / self.ramp_passes).clamp(max=1)
        places = (height - size + 1) * (width - size + 1)
        return rate / size**2 * (height * width / places)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (batch, channel, height, width); what is kept grows by what is dropped."""
        if not self.training:
            return maps
        self.passes.add_(1)
        margin = self.block_size - 1
        *outer, height, width = maps.shape
        draws = torch.rand(*outer, height - margin, width - margin, device=maps.device)
        corners = (draws < self.gamma(height, width)).float()
        # A place is dropped if a square begins there or up to ``margin`` places before it.
        reach = functional.pad(corners, (margin, margin, margin, margin))
        kept = 1 - functional.max_pool2d(reach, self.block_size, stride=1)
        # Few small maps may be dropped as a whole.
        scale = kept.numel() / kept.sum().clamp(min=1)
        return maps * (kept * scale).to(maps.dtype)


def build(
    image_size: int,
    *,
    width: float = 1.0,
    drop_block: bool = True,
    block_size: int | None = None,
    ramp_passes: int = 40_000,
) -> ResNet12:
    """The network for images of ``image_size`` pixels.

    Parameters
    ----------
    drop_block
        False: nothing is dropped after blocks 3 and 4. The published runs on several GPUs
        were like this, since each pass counted on a throw-away copy of the network.
    block_size
        None: 2 below 64 pixels and 5 from there on, as published for 32 and 84, but no more
        than the last block's maps have.

    Raises
    ------
    UserError
        If ``block_size`` does not fit the feature maps.
    """
    third, fourth = image_size // 8, image_size // 16
    if not drop_block:
        return ResNet12(width, None, ramp_passes)
    if block_size is None:
        block_size = min(2 if image_size < 64 else 5, fourth)
    if not 1 <= block_size <= fourth:
        raise UserError(
            f"resnet12: block_size {block_size} does not fit: at {image_size} pixels the feature "
            f"maps are {third} x {third} after block 3 and {fourth} x {fourth} after block 4. "
            f"Set block_size to at least 1 and at most {fourth}, or drop_block to false."
        )
    return ResNet12(width, block_size, ramp_passes)


def _convolution(channels_in: int, channels_out: int, side: int) -> tuple[nn.Conv2d, nn.Module]:
    layer = nn.Conv2d(channels_in, channels_out, side, padding=side // 2, bias=False)
    # The sources set no slope, so the gain is ReLU's.
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer, nn.BatchNorm2d(channels_out)
