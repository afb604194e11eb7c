"""Max-pool with a written-out second derivative.

torch's own rearranges channels-last images, and adds zeros for what the maxima's places depend on.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Images = Float[Tensor, "image channel h w"]


def max_pool(layer: nn.MaxPool2d, images: Images) -> Images:
    """What ``layer`` gives; differentiable twice, and not by ``torch.func``."""
    windows = [
        [size, size] if isinstance(size, int) else list(size)
        for size in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    ]
    pooled: Tensor = _Pool.apply(images, [*windows, layer.ceil_mode])
    return pooled


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, windows: list[Any]) -> Tensor:
        y, places = torch.ops.aten.max_pool2d_with_indices(x, *windows)
        ctx.save_for_backward(x, places)
        ctx.windows = windows
        pooled: Tensor = y
        return pooled

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _Slope.apply(g, *ctx.saved_tensors, ctx.windows), None


class _Slope(torch.autograd.Function):
    """g at the places of the maxima, which are taken for constants."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, places: Tensor, windows: list[Any]) -> Tensor:
        ctx.save_for_backward(places)
        slope: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(g, x, *windows, places)
        return slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        pixels, chosen = (each.movedim(1, -1).flatten(1, 2) for each in (v, places))
        of_g = pixels.gather(1, chosen).unflatten(1, places.shape[2:]).movedim(-1, 1)
        return of_g, None, None, None
