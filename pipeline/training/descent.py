"""What the gradient-descent algorithms share: the optimizer, its schedule, autocast."""

from bisect import bisect_right
from collections.abc import Iterable
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config.training import Descent, Training


def sgd(run: Descent, parameters: Iterable[nn.Parameter]) -> torch.optim.SGD:
    """SGD with Nesterov momentum; as in the released code, every parameter decays."""
    return torch.optim.SGD(
        parameters,
        lr=run.lr,
        momentum=run.momentum,
        weight_decay=run.weight_decay,
        nesterov=run.momentum > 0,
        # A fifth faster on a CPU too. Fused takes the memory of weights, gradients and momentum for
        # laid out alike, without a look: after a resume it mixed them (PyTorch 2.14).
        foreach=True,
    )


def learning_rate(run: Training, step: int) -> float:
    """The rate at a step: ``lr`` times the factor of the part of the run that it lies in."""
    if run.lr_factors == "linear":
        return run.lr * (1 - step / run.steps)
    starts = sorted(run.lr_factors)
    # Compared as fractions: a third of 180,000 steps is exactly 60,000.
    part = bisect_right(starts, Fraction(step, run.steps)) - 1
    return run.lr * run.lr_factors[starts[part]]


def autocast(run: Descent, device: torch.device) -> torch.autocast:
    """bfloat16 for the backbone's passes, if the run asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=run.precision == "bfloat16")


def step_down(loss: Tensor, optimizer: torch.optim.Optimizer, run: Descent, step: int) -> None:
    """One update against the loss's gradient at this step's rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(run, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy to targets that give ``smoothing`` to the other classes, in equal parts.

    torch gives a share to the true class too, so its parameter is a little larger.
    """
    n_classes = logits.shape[-1]
    return functional.cross_entropy(
        logits, labels, label_smoothing=smoothing * n_classes / (n_classes - 1)
    )
