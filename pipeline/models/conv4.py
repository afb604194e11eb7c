"""The four-block convolutional network: 64 filters in ProtoNet, 32 in MAML and Reptile."""

from collections import OrderedDict
from typing import Literal

from torch import nn


class Conv4(nn.Sequential):
    """Four blocks: 3 x 3 convolution, batch norm, ReLU, 2 x 2 max-pool.

    Images (batch, 3, height, width) become features (batch, features).
    The pool stands before the ReLU: the features and gradients are the same, for a quarter of
    the work.

    Parameters
    ----------
    filters
        Of every block. 64 without bias: 112,832 parameters, 256 features at 32 pixels and
        1,600 at 84 (Snell et al., 2017). 32 with bias: 28,896 parameters, 128 and 800
        features (Finn et al., 2017).
    width
        Factor on ``filters``; 1 is the published network.
    bias
        Whether the convolutions have one.
    pooling
        What becomes of an odd last row or column: ``floor`` leaves it out, ``same`` pools it
        alone, as TensorFlow's SAME padding does (84, 42, 21, 11, 6: Nichol et al., 2018).
    init
        Of the convolutions. ``normal``: N(0, 2 / (9 filters)), torch's default for the bias,
        as MetaOptNet and the paper's code. ``glorot``: Glorot's uniform, bias 0, as Finn et
        al. and Nichol et al.
    epsilon
        Of the batch norm, added to the variance. Finn et al. and Nichol et al.: 1e-3.
    """

    def __init__(
        self,
        filters: int = 64,
        width: float = 1.0,
        *,
        bias: bool = False,
        pooling: Literal["floor", "same"] = "floor",
        init: Literal["normal", "glorot"] = "normal",
        epsilon: float = 1e-5,
    ) -> None:
        filters = max(1, round(width * filters))
        blocks = nn.Sequential(
            *(
                nn.Sequential(
                    _convolution(channels, filters, bias, init),
                    nn.BatchNorm2d(filters, eps=epsilon),
                    nn.MaxPool2d(2, ceil_mode=pooling == "same"),
                    nn.ReLU(),
                )
                for channels in (3, filters, filters, filters)
            )
        )
        super().__init__(OrderedDict(blocks=blocks, features=nn.Flatten()))


def build(
    image_size: int,  # noqa: ARG001 (all backbones are built alike)
    *,
    width: float = 1.0,
    filters: int = 64,
    bias: bool = False,
    pooling: Literal["floor", "same"] = "floor",
    init: Literal["normal", "glorot"] = "normal",
    epsilon: float = 1e-5,
) -> Conv4:
    """The network for images of ``image_size`` pixels: any from 16 on."""
    return Conv4(filters, width, bias=bias, pooling=pooling, init=init, epsilon=epsilon)


def _convolution(
    channels: int, filters: int, bias: bool, init: Literal["normal", "glorot"]
) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 3, padding=1, bias=bias)
    if init == "glorot":
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    else:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
