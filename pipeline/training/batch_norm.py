"""Batch norm and the max-pool behind it, differentiated by hand; see ``pipeline.training.chain``.

Normalising keeps the order of values, or turns it round. So the maxima can be found first, and
they alone are normalised. Slopes come to them alone, and what the statistics add to those is a
line in each value: derivatives pass few times over the features. Of second derivatives, which
torch composes of some forty passes, four are left.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

Images = Float[Tensor, "image channel h w"]
Maxima = Float[Tensor, "image channel pooled_h pooled_w"]
# In a channel's pixels.
Places = Int64[Tensor, "image channel pooled_h*pooled_w"]
Channels = Float[Tensor, " channel"]
# Of a max-pool: size, stride, padding, dilation, and whether the last may be smaller.
Windows = tuple[Any, Any, Any, Any, bool]


class PooledNorm:
    """y = w z + b at the maxima, where z = r (x - mean), and r is one by the deviation.

    The places of maxima are taken for constants. Below, n is the number of a channel's pixels.
    """

    def __init__(
        self, epsilon: float, windows: Windows, x: Images, w: Channels, b: Channels
    ) -> None:
        n, _, height, width = x.shape
        self.x, self.w, self.n = x, w, n * height * width
        self.mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        self.r = variance.add_(epsilon).rsqrt_()
        self.scale = w * self.r
        # Weights above 0 keep the order of values; others are few, and seldom.
        rising = w.min().item() > 0
        self.maxima, places = functional.max_pool2d_with_indices(
            x if rising else x * _wide(w.sign()), *windows
        )
        self.places = places.flatten(2)
        if not rising:
            self.maxima = self._at_maxima(x)
        self.y = self._line(self.maxima, self.scale, b)

    def backward(self, g: Maxima, of_x: bool) -> tuple[Images, list[Tensor]]:  # noqa: ARG002
        """w r (g - sum(g) / n - z sum(g z) / n), sum(g z), sum(g); g is 0 but at the maxima."""
        self.g = g
        self.g_z, self.g_sum = self._sums(g, self.maxima)
        share = self.scale * (-1 / self.n)
        of_x_ = self._line(self.x, share * self.r * self.g_z, share * self.g_sum)
        return self._add_at_maxima(of_x_, g * _wide(self.scale)), [self.g_z, self.g_sum]

    def tangent(self, dx: Images, dw: Channels, db: Channels) -> Maxima:
        """dw z + w dz + db, where dz = r (dx - sum(dx) / n - z sum(dx z) / n)."""
        self.dx, self.dw = dx, dw
        self.dx_z, self.dx_sum = self._sums(dx, self.x)
        r, n = self.r, self.n
        dz = self._line(self.maxima, r * r * self.dx_z / -n, r * self.dx_sum / -n)
        self.dz = dz.addcmul_(self._at_maxima(dx), _wide(r))
        return self._line(self.maxima, dw * r, db).addcmul_(self.dz, _wide(self.w))

    def backward_tangent(self, dg: Maxima) -> tuple[Images, list[Tensor]]:
        """How each factor of what ``backward`` gave moves; dr = -r r sum(dx z) / n."""
        r, n, scale = self.r, self.n, self.scale
        dg_z, dg_sum = self._sums(dg, self.maxima)
        of_w = dg_z + (self.g * self.dz).sum((0, 2, 3))
        d_scale = self.dw * r - scale * r * self.dx_z / n
        # dz is a sum too: factors of dx, of z, and what is the same for all pixels.
        of_dx = scale * r * self.g_z / -n
        of_z = (d_scale * self.g_z + scale * of_w + of_dx * self.dx_z) / -n
        constant = (d_scale * self.g_sum + scale * dg_sum + of_dx * self.dx_sum) / -n
        of_x = self._line(self.x, of_z * r, constant).addcmul_(self.dx, _wide(of_dx))
        moved = (self.g * _wide(d_scale)).addcmul_(dg, _wide(scale))
        return self._add_at_maxima(of_x, moved), [of_w, dg_sum]

    def _line(self, x: Images, factor: Channels, constant: Channels) -> Images:
        """factor (x - mean) + constant, in one pass."""
        at_zero = torch.addcmul(constant, factor, self.mean, value=-1)
        return torch.addcmul(_wide(at_zero), x, _wide(factor))

    def _sums(self, v: Images, x: Images) -> tuple[Channels, Channels]:
        """sum(v z) and sum(v)."""
        _, v_z, v_sum = torch.ops.aten.native_batch_norm_backward.default(
            v, x, None, None, None, self.mean, self.r, True, 0.0, (False, True, True)
        )
        return v_z, v_sum

    def _at_maxima(self, x: Images) -> Maxima:
        return x.flatten(2).gather(2, self.places).view_as(self.maxima)

    def _add_at_maxima(self, x: Images, g: Maxima) -> Images:
        """x, to which g is added."""
        x.view(*x.shape[:2], -1).scatter_add_(2, self.places, g.flatten(2))
        return x


def _wide(channels: Channels) -> Float[Tensor, "channel 1 1"]:
    return channels.view(-1, 1, 1)
