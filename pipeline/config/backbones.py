"""Backbones and their switches; what they do stands in ``pipeline/models``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.fields import Count, Positive, Share, Strict


class Backbone(Strict):
    width: Positive = Field(1.0, description="Factor on the channels; 1 is the published network.")


class R2D2(Backbone):
    """The R2-D2 backbone, as MetaOptNet and the paper's code have it, or as its authors do."""

    name: Literal["r2d2"]
    form: Literal["metaoptnet", "original"] = "metaoptnet"
    channels: tuple[Count, Count, Count, Count] = (96, 192, 384, 512)
    dropout: tuple[Share, Share] = Field(
        (0.1, 0.3), description="After blocks 3 and 4; the original had 0.1 or 0.4 after both."
    )


class ResNet12(Backbone):
    """MetaOptNet's ResNet-12."""

    name: Literal["resnet12"]
    drop_block: bool = Field(
        True,
        description="False is what several GPUs made of the released code: its ramp never moved.",
    )
    block_size: Count | None = Field(None, description="2 below 64 pixels, 5 from there on.")
    ramp_passes: Count = Field(
        40_000, description="Training passes until DropBlock drops its full tenth."
    )


class Conv4(Backbone):
    """Four convolution blocks: 64 filters for ProtoNet, 32 with biases for MAML and Reptile."""

    name: Literal["conv4"]
    filters: Count = 64
    bias: bool = False
    pooling: Literal["floor", "same"] = Field(
        "floor", description="What max-pooling does at an odd edge; same is Reptile's."
    )
    init: Literal["normal", "glorot"] = Field(
        "normal", description="Of the convolutions: the paper's code, or MAML's and Reptile's."
    )
    epsilon: Positive = Field(1e-5, description="Of the batch norm; MAML and Reptile had 1e-3.")
