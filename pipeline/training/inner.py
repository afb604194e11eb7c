"""What takes gradient steps on single episodes shares this: MAML, Reptile, fine-tuning.

The network is a function of one vector that holds all its parameters, so each episode can have
its own, and a step of all parameters is a step of one vector. Episodes run one after the other,
which is faster on a CPU, or as one batch of networks with ``torch.func``, which launches fewer
kernels on a GPU; the code of an episode is the same.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    replace_all_batch_norm_modules_,
    vmap,
)
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.training.chain import Chain

Vector = Float[Tensor, " parameter"]
# One set of parameters, or one gradient, for each episode.
Vectors = Float[Tensor, "episode parameter"]
Losses = Float[Tensor, " episode"]
# Parameters by name.
Parts = dict[str, Tensor]
Images = Float[Tensor, "image 3 h w"]
Labels = Int64[Tensor, " image"]

# Of Adam, beside a beta1 of 0: those of Reptile's code.
BETA2, EPSILON = 0.999, 1e-8


class Network:
    """A backbone and a linear head as a function of their parameters.

    Dropout is off, and batch norm keeps no statistics: each batch is normalised by its own, as
    in MAML and Reptile.

    Parameters
    ----------
    backbone, head
        Images to features to classes; left as they are.
    running
        Normalise by the statistics that the backbone holds instead.
    """

    def __init__(self, backbone: nn.Module, head: nn.Linear, *, running: bool = False) -> None:
        self._parts = nn.Sequential(OrderedDict(backbone=backbone, head=head))
        self._module = copy.deepcopy(self._parts).eval().requires_grad_(False)
        if not running:
            replace_all_batch_norm_modules_(self._module)
        norms = {
            f"{place}.{name}"
            for place, module in self._module.named_modules()
            if isinstance(module, _BatchNorm)
            for name, _ in module.named_parameters()
        }
        # Differentiated by hand only where it was measured to be faster.
        by_hand = head.weight.device.type == "cpu" and not running
        self.chain = Chain.of(self._parts) if by_hand else None
        self.shapes = {name: value.shape for name, value in self._module.named_parameters()}
        self._sizes = [prod(shape) for shape in self.shapes.values()]
        # As the vector holds them.
        self._held = [(*shape[:1], *shape[2:], *shape[1:2]) for shape in self.shapes.values()]
        # 1 for the parameters of batch norm, 0 for all others.
        self.of_norms: Vector = torch.cat(
            [
                value.new_full((value.numel(),), float(name in norms))
                for name, value in self._module.named_parameters()
            ]
        )

    def read(self) -> Vector:
        """The parameters as they are in the backbone and the head now."""
        return joined(value.detach() for value in self._parts.parameters())

    def moves(self, adapt_batch_norm: bool) -> Vector:
        """1 for the parameters that steps on an episode move, 0 for the others."""
        return torch.ones_like(self.of_norms) if adapt_batch_norm else 1 - self.of_norms

    def parts(self, vectors: Float[Tensor, "*episode parameter"]) -> Parts:
        """The parameters by name, each (*episode, *its own shape)."""
        leading = vectors.shape[:-1]
        first = len(leading) + 1
        parts = zip(self.shapes, vectors.split_with_sizes(self._sizes, -1), self._held, strict=True)
        return {
            name: part.view(*leading, *held).movedim(-1, first)
            if len(held) > 2
            else part.view(*leading, *held)
            for name, part, held in parts
        }

    def logits(self, parameters: Vector | Parts, images: Tensor) -> Tensor:
        """Images (image, 3, height, width) to (image, class)."""
        parts = self.parts(parameters) if isinstance(parameters, Tensor) else parameters
        scores: Tensor = functional_call(self._module, parts, (images,))
        return scores

    def loss(self, parameters: Vector | Parts, images: Tensor, labels: Tensor) -> Tensor:
        """The mean cross-entropy over images."""
        return functional.cross_entropy(self.logits(parameters, images), labels)

    def descend(self, gradient: Vector, optimizer: torch.optim.Optimizer, lr: float) -> None:
        """One step of an optimizer of the backbone's and the head's own parameters."""
        for parameter, slope in zip(
            self._parts.parameters(), self.parts(gradient).values(), strict=True
        ):
            parameter.grad = slope
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


def new_head(n_features: int, n_way: int) -> nn.Linear:
    """A linear head that starts as in the paper's MAML code."""
    head = nn.Linear(n_features, n_way)
    nn.init.kaiming_normal_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def joined(parts: Iterable[Tensor]) -> Vector:
    """The vector that has these parts.

    It holds filters with their input channels last, as convolutions on a CPU like them.
    """
    return torch.cat([(part.movedim(1, -1) if part.ndim > 2 else part).flatten() for part in parts])


def _not_asked_for(direction: Vector) -> Vector:  # noqa: ARG001
    raise RuntimeError("second derivatives were not asked for")


class Derivatives(NamedTuple):
    """Of the mean cross-entropy of a batch of images, by the parameters.

    Attributes
    ----------
    gradient, loss
        Where they were found by hand, autograd refuses them, and nothing may change them in place.
    product
        The Hessian times a direction; to be called once, and only if it was asked for.
    """

    gradient: Vector
    loss: Float[Tensor, ""]
    product: Callable[[Vector], Vector] = _not_asked_for


# (network, parameters, images, labels, twice); ``twice`` asks for products with the Hessian.
Differentiate = Callable[..., Derivatives]


def one_by_one(
    network: Network, parameters: Vector, images: Images, labels: Labels, *, twice: bool = False
) -> Derivatives:
    """For one episode after the other: by hand, or by autograd where that is not written."""
    images = images.contiguous(memory_format=torch.channels_last)
    if network.chain is not None:
        done = network.chain(parameters, images, labels, twice=twice)
        product = done.product if twice else _not_asked_for
        return Derivatives(done.gradient, done.loss, product)
    parts = {name: part.requires_grad_() for name, part in network.parts(parameters).items()}
    loss = network.loss(parts, images, labels)
    # By the parts and not by the vector, which would be a node of the graph for each part.
    own = list(parts.values())
    slopes = torch.autograd.grad(loss, own, create_graph=twice)
    gradient = joined(slopes)
    if not twice:
        return Derivatives(gradient, loss.detach())
    return Derivatives(
        gradient.detach(),
        loss.detach(),
        lambda direction: joined(torch.autograd.grad(gradient, own, direction)),
    )


def func(
    network: Network,
    parameters: Vector,
    images: Images,
    labels: Labels,
    *,
    twice: bool = False,  # noqa: ARG001 (nothing is kept for products)
) -> Derivatives:
    """For ``vmap``, which neither of those can be seen through.

    It is the gradient that is mapped over episodes, never the loss: the gradient of a mapped
    loss is wrong in second order where a batch norm takes part (PyTorch 2.13 and 2.14). A product
    computes the gradient again: ``vjp`` refuses batch norm under ``vmap``.
    """

    def slope(parameters: Vector) -> tuple[Vector, Tensor]:
        slopes, loss = grad_and_value(network.loss)(network.parts(parameters), images, labels)
        return joined(slopes.values()), loss

    def product(direction: Vector) -> Vector:
        moved: Tensor = grad(lambda own: slope(own)[0] @ direction)(parameters)
        return moved

    return Derivatives(*slope(parameters), product)


def for_each_episode(
    episode: Callable[..., tuple[Tensor, Tensor]], *arguments: Tensor, together: bool
) -> tuple[Vectors, Losses]:
    """Gradients and losses of all episodes.

    Parameters
    ----------
    episode
        Called with the way to differentiate, and its own part of each of the arguments.
    together
        As one batch of networks, or one after the other.
    """
    if together:
        gradients, losses = vmap(partial(episode, func))(*arguments)
        return gradients, losses
    results = [episode(one_by_one, *own) for own in zip(*arguments, strict=True)]
    return torch.stack([each[0] for each in results]), torch.stack([each[1] for each in results])


def gradients(
    network: Network,
    parameters: Vectors,
    images: Float[Tensor, "episode image 3 h w"],
    labels: Int64[Tensor, "episode image"],
    *,
    together: bool,
) -> tuple[Vectors, Losses]:
    """Of each episode's loss, by its own parameters."""

    def episode(differentiate: Differentiate, *own: Tensor) -> tuple[Tensor, Tensor]:
        return differentiate(network, *own, twice=False)[:2]

    return for_each_episode(episode, parameters, images, labels, together=together)


class SecondMoments(nn.Module):
    """What Adam without momentum remembers: a running mean of squared gradients.

    Reptile never resets it, neither between tasks nor between outer steps.
    """

    squares: Tensor
    steps: Tensor

    def __init__(self, parameters: Vector) -> None:
        super().__init__()
        self.register_buffer("squares", torch.zeros_like(parameters))
        steps = torch.zeros((), dtype=torch.int64, device=parameters.device)
        self.register_buffer("steps", steps)


def adam(
    parameters: Vectors,
    slopes: Vectors,
    squares: Float[Tensor, "*episode parameter"],
    steps: Int64[Tensor, ""],
    lr: float,
) -> tuple[Vectors, Float[Tensor, "*episode parameter"]]:
    """One step of Adam with beta1 = 0 for each episode.

    Epsilon is added where torch adds it. Reptile's TensorFlow adds it to the deviation before
    its correction, which differs while the gradients are few and near epsilon.

    Parameters
    ----------
    squares
        The second moments of each episode (episode, parameter), or shared by all (parameter,):
        then they are handed from episode to episode, in order.
    steps
        How many the moments have seen.

    Returns
    -------
    tuple
        The parameters and the moments after the step.
    """
    seen = steps + 1
    if squares.ndim == 1:
        seen = seen + torch.arange(len(slopes), device=slopes.device)
        each = torch.empty_like(slopes)
        for own, slope in zip(each, slopes, strict=True):
            squares = torch.mul(squares, BETA2, out=own).addcmul_(slope, slope, value=1 - BETA2)
    else:
        each = squares = (BETA2 * squares).addcmul_(slopes, slopes, value=1 - BETA2)
    corrections = (1 - BETA2 ** seen.double()).to(slopes.dtype).view(-1, 1)
    deviations = (each / corrections).sqrt_().add_(EPSILON)
    return torch.addcdiv(parameters, slopes, deviations, value=-lr), squares


def minibatches(
    n_images: int, batch_size: int | None, steps: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Which images each step sees: (step, image).

    The images are shuffled when they are used up, and a batch may reach over two shuffles, as in
    Reptile's code. A batch of all images is in order.
    """
    if batch_size is None or batch_size >= n_images:
        return np.tile(np.arange(n_images), (steps, 1))
    rounds = -(-steps * batch_size // n_images)
    order = np.concatenate([random.permutation(n_images) for _ in range(rounds)])
    return order[: steps * batch_size].reshape(steps, batch_size)


def settle_statistics(backbone: nn.Module, batches: Iterable[Tensor]) -> None:
    """Give a backbone's batch norms the mean statistics of batches of images.

    Training that normalises each batch by its own leaves none, and frozen features need some.
    """
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    backbone.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a mean in which all batches count alike
        norm.train()
    with torch.no_grad():
        for images in batches:
            backbone(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def runs_together(batching: str, device: torch.device) -> bool:
    """Whether episodes run as one batch of networks."""
    return batching == "together" or (batching == "auto" and device.type == "cuda")
