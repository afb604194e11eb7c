"""Batch norm with the statistics of the batch, and a written-out second derivative.

torch composes the second derivative of batch norm of some forty passes over the features, a
third of MAML's time on a CPU. Two of its own kernels and a few passes are enough.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

Images = Float[Tensor, "image channel h w"]
Channels = Float[Tensor, " channel"]


def normalise(norm: _BatchNorm, batch: Tensor, *, twice: bool) -> Tensor:
    """What ``norm`` gives by the batch's own statistics.

    Parameters
    ----------
    twice
        Make second derivatives fast where that is written out; not for ``torch.func``.
    """
    if twice and isinstance(norm, nn.BatchNorm2d) and norm.affine:
        return batch_norm(batch, norm.weight, norm.bias, norm.eps)
    return functional.batch_norm(
        batch, None, None, norm.weight, norm.bias, training=True, eps=norm.eps
    )


def batch_norm(images: Images, weight: Channels, bias: Channels, epsilon: float) -> Images:
    """Normalise by the batch's own statistics; differentiable twice, and not by ``torch.func``."""
    normalised: Tensor = _Normalise.apply(images, weight, bias, epsilon)
    return normalised


class _Normalise(torch.autograd.Function):
    """y = w z + b, where z = r (x - mean) and r is one by the deviation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor, epsilon: float) -> Tensor:
        y, mean, r = torch.native_batch_norm(x, w, b, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, w, mean, r)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return *_Slope.apply(g, *ctx.saved_tensors), None


class _Slope(torch.autograd.Function):
    """The gradients of x, w and b: w P(g), sum(g z), sum(g).

    Here P(g) = r (g - mean(g) - z mean(g z)), with means over each channel.
    """

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, mean: Tensor, r: Tensor
    ) -> tuple[Tensor, ...]:
        slope, g_z, g_sum = _projected(g, x, mean, r)
        ctx.save_for_backward(slope, g_z, x, w, mean, r)
        return slope * _wide(w), g_z, g_sum

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, v_w: Tensor, v_b: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of <v, w P(g)> + v_w sum(g z) + v_b sum(g); P is its own adjoint."""
        slope, g_z, x, w, mean, r = ctx.saved_tensors
        n = x.numel() // len(w)
        projected, v_z, _ = _projected(v, x, mean, r)
        of_w = (v * slope).sum((0, 2, 3))

        def plus_z(factor: Tensor, constant: Tensor | float) -> Tensor:
            """factor z + constant, as one pass over x."""
            return torch.addcmul(_wide(constant - factor * r * mean), x, _wide(factor * r))

        of_g = plus_z(v_w, v_b).addcmul_(projected, _wide(w))
        # z depends on x, and so does r, by -r r z / n.
        of_x = plus_z(-w * r * of_w / n, 0.0)
        of_x.addcmul_(slope, _wide(v_w - w * r * v_z / n))
        of_x.addcmul_(projected, _wide(-w * r * g_z / n))
        return of_g, of_x, of_w, None, None


def _projected(g: Tensor, x: Tensor, mean: Tensor, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """P(g), sum(g z) and sum(g)."""
    ones = torch.ones_like(r)
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_batch_norm_backward(
        g, x, ones, None, None, mean, r, True, 0.0, [True, True, True]
    )
    return found


def _wide(channels: Tensor) -> Tensor:
    return channels.view(-1, 1, 1)
