"""Networks that are chains of layers, differentiated by hand.

MAML and Reptile take many steps of a small network on few images, where much of a CPU's time goes
into autograd's bookkeeping, and most of second order into what autograd composes it of. A chain
needs neither: each layer remembers what it was applied to, goes back once for the gradient, and
forward and back again along a direction for the product of the Hessian with that direction
(Pearlmutter, 1994).
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from pipeline.training.batch_norm import PooledNorm
from pipeline.training.convolution import Geometry

# All parameters: of layer after layer, convolutions' by filter, row, column and channel.
Vector = Float[Tensor, " parameter"]
Images = Float[Tensor, "image channel h w"]
Labels = Int64[Tensor, " image"]
# By x and by each parameter.
Slopes = tuple[Any, list[Tensor]]


@runtime_checkable
class Applied(Protocol):
    """A layer that was applied to x, with its parameters, each of them flat."""

    y: Tensor

    def backward(self, g: Any, of_x: bool) -> Slopes:
        """The gradients of <g, y> by x, if ``of_x``, and by the parameters."""

    def tangent(self, *moves: Any) -> Tensor:
        """How y moves while x and the parameters move along these.

        Images are constants: a layer that is applied to them gets None for their move.
        """

    def backward_tangent(self, dg: Any) -> Slopes:
        """How what ``backward`` gave moves with all that, while g moves along dg."""


# And a max-pool behind a batch norm.
_KNOWN = nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Flatten, nn.Linear


class Chain:
    """A network as a function of the vector of its parameters.

    Batch norm goes by the batch's own statistics.

    Parameters
    ----------
    layers
        How each is applied to x and its parameters, and their numbers.
    """

    def __init__(self, layers: list[tuple[Callable[..., Applied], list[int]]]) -> None:
        self._layers = [(apply, len(sizes)) for apply, sizes in layers]
        self._sizes = [size for _, sizes in layers for size in sizes]

    @classmethod
    def of(cls, network: nn.Module) -> "Chain | None":
        """None if a layer is not known here, or the first one is not a convolution."""
        layers: list[tuple[Callable[..., Applied], list[int]]] = []
        modules = _flat(network)
        for module in modules:
            apply: Callable[..., Applied]
            # A subclass may do anything else.
            if type(module) not in _KNOWN:
                return None
            match module:
                case nn.Conv2d(padding_mode="zeros", padding=tuple()):
                    apply = Geometry(module).convolution
                case nn.BatchNorm2d(affine=True):
                    pool = next(modules, None)
                    if not isinstance(pool, nn.MaxPool2d):
                        return None
                    sizes = pool.kernel_size, pool.stride, pool.padding, pool.dilation
                    apply = partial(PooledNorm, module.eps, (*sizes, pool.ceil_mode))
                case nn.ReLU():
                    apply = Rectified
                case nn.Flatten(start_dim=1, end_dim=-1):
                    apply = Flat
                case nn.Linear() if module.bias is not None:
                    apply = Linear
                case _:
                    return None
            layers.append((apply, [own.numel() for own in module.parameters()]))
        # No other layer takes images for constants.
        return cls(layers) if isinstance(next(_flat(network), None), nn.Conv2d) else None

    @torch.inference_mode()
    def __call__(
        self, parameters: Vector, images: Images, labels: Labels, *, twice: bool = False
    ) -> "Pass":
        """The mean cross-entropy and its gradient; with ``twice``, all that a product needs.

        They are inference tensors: autograd refuses them, and nothing may change them in place.
        """
        return Pass(self, parameters, images, labels, twice)

    def apply(self, parameters: Vector, images: Images) -> list[Applied]:
        """The layers one after the other."""
        x, applied = images, []
        for apply, own in self.shares(parameters):
            applied.append(apply(x, *own))
            x = applied[-1].y
        return applied

    def shares(self, parameters: Vector) -> Iterator[tuple[Callable[..., Applied], list[Tensor]]]:
        """Each layer, and its parameters."""
        parts = iter(parameters.split_with_sizes(self._sizes))
        for apply, count in self._layers:
            yield apply, list(islice(parts, count))


class Pass:
    """A chain's mean cross-entropy on one batch, forward and backward.

    Attributes
    ----------
    loss
    gradient
        By the parameters.
    """

    def __init__(
        self, chain: Chain, parameters: Vector, images: Images, labels: Labels, twice: bool
    ) -> None:
        applied = chain.apply(parameters, images)
        logs = applied[-1].y.log_softmax(1)
        self.loss = functional.nll_loss(logs, labels)
        # The gradient by the logits is p, less 1 at the label.
        p = logs.exp()
        g = p.scatter_add(1, labels[:, None], -torch.ones_like(p[:, :1])).div_(len(p))
        self._memory = (chain, list(applied), p) if twice else None
        self.gradient = _back(g, applied, lambda layer, g, of_x: layer.backward(g, of_x))

    @torch.inference_mode()
    def product(self, direction: Vector) -> Vector:
        """The Hessian by the parameters, times a direction in them; once, if at all."""
        if self._memory is None:
            raise RuntimeError("a product was not asked for, or was taken before")
        (chain, applied, p), self._memory = self._memory, None
        dx: Any = None
        for layer, (_, own) in zip(applied, chain.shares(direction), strict=True):
            dx = layer.tangent(dx, *own)
        dp = p * dx
        dg = dp.addcmul_(p, dp.sum(1, keepdim=True), value=-1).div_(len(dp))
        return _back(dg, applied, lambda layer, dg, _: layer.backward_tangent(dg))


def _back(g: Tensor, applied: list[Applied], way: Callable[[Applied, Any, bool], Slopes]) -> Vector:
    """What comes to all parameters on the way back, which is told whether x needs a gradient.

    Each layer is forgotten as soon as it is passed, so that its memory is used again while the
    processor's cache still has it.
    """
    slopes = []
    while applied:
        layer = applied.pop()
        g, own = way(layer, g, bool(applied))
        slopes.append(own)
    return torch.cat([slope for own in reversed(slopes) for slope in own])


class Linear:
    """y = x w' + b."""

    def __init__(self, x: Tensor, w: Tensor, b: Tensor) -> None:
        self.x, self.w = x, w.view(len(b), -1)
        self.y = torch.addmm(b, x, self.w.T)

    def backward(self, g: Tensor, of_x: bool) -> Slopes:  # noqa: ARG002
        self.g = g
        return g @ self.w, [(g.T @ self.x).view(-1), g.sum(0)]

    def tangent(self, dx: Tensor, dw: Tensor, db: Tensor) -> Tensor:
        self.dx, self.dw = dx, dw.view_as(self.w)
        return torch.addmm(db, self.x, self.dw.T).addmm_(dx, self.w.T)

    def backward_tangent(self, dg: Tensor) -> Slopes:
        of_w = (dg.T @ self.x).addmm_(self.g.T, self.dx)
        return (dg @ self.w).addmm_(self.g, self.dw), [of_w.view(-1), dg.sum(0)]


class Rectified:
    """y = max(x, 0)."""

    def __init__(self, x: Tensor) -> None:
        self.y = x.relu()

    def backward(self, g: Tensor, of_x: bool) -> Slopes:  # noqa: ARG002
        return self.tangent(g), []

    def tangent(self, dx: Tensor) -> Tensor:
        dy: Tensor = torch.ops.aten.threshold_backward.default(dx, self.y, 0)
        return dy

    def backward_tangent(self, dg: Tensor) -> Slopes:
        return self.tangent(dg), []


class Flat:
    """Each image's features as one row; from and to channels last in memory."""

    def __init__(self, x: Tensor) -> None:
        self.shape, self.y = x.shape, x.flatten(1)

    def backward(self, g: Tensor, of_x: bool) -> Slopes:  # noqa: ARG002
        return self.backward_tangent(g)

    def tangent(self, dx: Tensor) -> Tensor:
        return dx.flatten(1)

    def backward_tangent(self, dg: Tensor) -> Slopes:
        return dg.view(self.shape).contiguous(memory_format=torch.channels_last), []


def _flat(network: nn.Module) -> Iterator[nn.Module]:
    if isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward:
        for module in network:
            yield from _flat(module)
    else:
        yield network
