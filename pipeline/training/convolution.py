"""Convolution with a written-out second derivative.

torch composes the second derivative of a convolution of others in which images and channels, or
filters and images, change geometry, and of some that nobody asked for. On a CPU it takes half as
long, and a fifth for the first layer, from the kernels of the first derivative.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Images = Float[Tensor, "image channel h w"]


def convolve(layer: nn.Conv2d, images: Images) -> Images:
    """What ``layer`` gives; differentiable twice, and not by ``torch.func``."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return nn.Conv2d.forward(layer, images)
    geometry = layer.stride, layer.padding, layer.dilation, False, (0, 0), layer.groups
    convolved: Tensor = _Convolve.apply(images, layer.weight, layer.bias, geometry)
    return convolved


class _Convolve(torch.autograd.Function):
    """y = w * x + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, geometry: Any) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        return torch.convolution(x, w, b, *geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        return *_Slope.apply(g, *ctx.saved_tensors, ctx.geometry, wanted), None


class _Slope(torch.autograd.Function):
    """The gradients of x, w and b; each is linear in g, and in one of x and w."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, geometry: Any, wanted: tuple[bool, ...]
    ) -> tuple[Tensor | None, ...]:
        ctx.save_for_backward(g, x, w)
        ctx.geometry = geometry
        return _slopes(g, x, w, geometry, wanted)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, v_x: Tensor | None, v_w: Tensor, v_b: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        (g, x, w), geometry = ctx.saved_tensors, ctx.geometry
        of_g = torch.convolution(x, v_w, v_b, *geometry)
        of_x = of_w = None
        if v_x is not None:
            of_g += torch.convolution(v_x, w, None, *geometry)
            of_x, _, _ = _slopes(g, x, v_w, geometry, (True, False, False))
            _, of_w, _ = _slopes(g, v_x, w, geometry, (False, True, False))
        return of_g, of_x, of_w, None, None


def _slopes(
    g: Tensor, x: Tensor, w: Tensor, geometry: Any, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    found: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
        g, x, w, [len(w)], *geometry, wanted
    )
    return found
