"""Batches of images for training: crop, colour jitter and flip, with one draw per image.

The images stay on one device as uint8. A batch is made there by a fixed sequence of tensor
operations: no loop over images, no shape that varies, nothing the host has to wait for.

The transformation is that of MetaOptNet's training code: RandomCrop with black padding,
ColorJitter without hue, RandomHorizontalFlip, Normalize. torchvision draws once per batch; here
every image has its own draw, the order of the jitter's three changes included. For given draws
the result is torchvision's on float tensors, up to float32 rounding. MetaOptNet used PIL images,
which are rounded to 8 bits after every change; here nothing is rounded.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from pipeline.data.packed import Passport
from pipeline.machine import send

BRIGHTNESS, CONTRAST, SATURATION = range(3)
LUMA = (0.2989, 0.587, 0.114)  # torchvision's weights of red, green and blue

Images = UInt8[Tensor, "image height width 3"]
Indices = Int64[Tensor, " batch"]
Batch = Float32[Tensor, "batch 3 height width"]


@dataclass(frozen=True)
class Normalisation:
    """``(pixel - mean) / std`` per channel, for pixels in [0, 1]. The default changes nothing."""

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def of(cls, passport: Passport, wanted: bool) -> "Normalisation":
        """That of a data set, or none."""
        return cls(passport.channel_mean, passport.channel_std) if wanted else cls()

    def __post_init__(self) -> None:
        """Raise ValueError unless there are three finite means and three positive deviations."""
        if len(self.mean) != 3 or not all(math.isfinite(mean) for mean in self.mean):
            raise ValueError(f"mean is {self.mean}; it must be three finite numbers")
        if len(self.std) != 3 or not all(0 < std < math.inf for std in self.std):
            raise ValueError(f"std is {self.std}; it must be three positive numbers")


@dataclass(frozen=True)
class Draws:
    """The random parameters of a batch, one row per image.

    ``offset``: the crop's first row and column in the padded image. ``flip``: whether left and
    right are swapped. ``factors``: of brightness, contrast and saturation; 1 changes nothing.
    ``order``: which of the three is changed first, second and third.
    """

    offset: Int64[Tensor, "batch 2"]
    flip: Bool[Tensor, " batch"]
    factors: Float32[Tensor, "batch 3"]
    order: Int64[Tensor, "batch 3"]

    def to(self, device: torch.device) -> "Draws":
        """The same draws on another device."""
        return Draws(
            offset=send(self.offset, device),
            flip=send(self.flip, device),
            factors=send(self.factors, device),
            order=send(self.order, device),
        )


def draw(batch: int, rng: np.random.Generator, padding: int, jitter: float) -> Draws:
    """Draw the parameters of ``batch`` images: on the CPU, whatever device will use them.

    Offsets are uniform in 0..2 ``padding``, factors in [1 - ``jitter``, 1 + ``jitter``]; an image
    is flipped with probability 1/2; the six orders are equally likely.
    """
    return Draws(
        offset=torch.from_numpy(rng.integers(0, 2 * padding, (batch, 2), endpoint=True)),
        flip=torch.from_numpy(rng.random(batch) < 0.5),
        factors=torch.from_numpy(rng.uniform(1 - jitter, 1 + jitter, (batch, 3))).float(),
        order=torch.from_numpy(rng.permuted(np.tile(np.arange(3), (batch, 1)), axis=1)),
    )


def plain(images: Images, indices: Indices, normalisation: Normalisation) -> Batch:
    """The chosen images, normalised only, in channels_last memory.

    Raises ValueError for images or indices of another shape or type.
    """
    _check_images(images)
    _check_indices(indices)
    chosen = images.index_select(0, send(indices, images.device))
    return _normalise(_unit(chosen.permute(0, 3, 1, 2)), normalisation)


class Augmentation:
    """Augmented batches of images that stay, padded, on the device where they were given.

    The padded copy takes 3 (height + 2 padding) (width + 2 padding) bytes per image; the images
    given are not kept. RandomCrop pads by 4 at 32 pixels and by 8 at 84.
    """

    def __init__(
        self, images: Images, normalisation: Normalisation, padding: int = 4, jitter: float = 0.4
    ) -> None:
        """Raise ValueError for images of another shape or type and parameters out of range."""
        _check_images(images)
        if padding < 0:
            raise ValueError(f"padding is {padding}; it must be 0 or more pixels")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter is {jitter}; it must lie in [0, 1]")
        self.normalisation = normalisation
        self.padding = padding
        self.jitter = jitter
        planes = images.permute(0, 3, 1, 2)
        count, _, height, width = planes.shape
        self._size = height, width
        self._padded = images.new_zeros(count, 3, height + 2 * padding, width + 2 * padding)
        self._padded[:, :, padding : padding + height, padding : padding + width] = planes

    def __call__(self, indices: Indices, rng: np.random.Generator) -> Batch:
        """The chosen images, augmented by draws from ``rng``, in channels_last memory.

        Raises ValueError for indices of another shape or type.
        """
        return self.apply(indices, draw(len(indices), rng, self.padding, self.jitter))

    def apply(self, indices: Indices, draws: Draws) -> Batch:
        """The chosen images, augmented by one given draw each."""
        _check_indices(indices)
        if len(draws.flip) != len(indices):
            raise ValueError(f"{len(draws.flip)} draws for {len(indices)} images; each needs one")
        draws = draws.to(self._padded.device)
        pixels = _unit(self._crop(send(indices, self._padded.device), draws))
        _colour_jitter(pixels, draws)
        return _normalise(pixels, self.normalisation)

    def _crop(self, indices: Indices, draws: Draws) -> UInt8[Tensor, "batch 3 height width"]:
        """Gather every crop from its padded image, with its columns in the order after the flip."""
        height, width = self._size
        first_row, first_column = draws.offset.unbind(1)
        steps = torch.arange(width, device=indices.device)
        columns = torch.where(draws.flip[:, None], steps.flip(0), steps) + first_column[:, None]
        rows = torch.arange(height, device=indices.device) + first_row[:, None]
        places = rows[:, :, None] * self._padded.shape[3] + columns[:, None, :]
        chosen = self._padded.index_select(0, indices).flatten(2)
        crops = chosen.gather(2, places.flatten(1)[:, None].expand(-1, 3, -1))
        return crops.view(len(indices), 3, height, width)


def _colour_jitter(pixels: Batch, draws: Draws) -> None:
    """Blend each image in place with black, its mean grey or its grey version, in its own order.

    All three changes are ``clamp(factor * pixel + (1 - factor) * target)``. They do not commute,
    since each one clamps: so there are three stages, and a target per image in each.
    """
    shifts = _stages(1 - draws.factors.gather(1, draws.order))
    to_mean = _stages((draws.order == CONTRAST).float())
    to_grey = _stages((draws.order == SATURATION).float())
    for stage in range(3):
        red, green, blue = pixels[:, 0:1], pixels[:, 1:2], pixels[:, 2:3]
        grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
        mean = grey.mean((2, 3), keepdim=True)
        target = grey.mul_(to_grey[stage]).add_(mean * to_mean[stage])
        pixels.lerp_(target, shifts[stage]).clamp_(0, 1)


def _stages(values: Float32[Tensor, "batch 3"]) -> tuple[Float32[Tensor, "batch 1 1 1"], ...]:
    """One column for each stage, shaped to broadcast over an image."""
    return values[:, :, None, None, None].unbind(1)


def _unit(pixels: UInt8[Tensor, "batch 3 height width"]) -> Batch:
    """Pixels in [0, 1], one contiguous plane per channel: the layout that arithmetic likes."""
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def _normalise(pixels: Batch, normalisation: Normalisation) -> Batch:
    """Normalise in place; return a copy in channels_last memory, which convolutions like."""
    for plane, mean, std in zip(
        pixels.unbind(1), normalisation.mean, normalisation.std, strict=True
    ):
        plane.sub_(mean).div_(std)
    return pixels.contiguous(memory_format=torch.channels_last)


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; "
            "they must be torch.uint8 of shape (image, height, width, 3)"
        )


def _check_indices(indices: Tensor) -> None:
    if indices.dtype != torch.int64 or indices.ndim != 1:
        raise ValueError(
            f"indices are {indices.dtype} of shape {tuple(indices.shape)}; "
            "they must be torch.int64 of shape (batch,)"
        )
