"""The dual of Crammer & Singer's multi-class support vector machine (2001), for many episodes.

Per episode, with M = gram + jitter I and one-hot labels Y::

    minimise    1/2 <alpha, M alpha> - <Y, alpha>    over alpha (support, way)
    subject to  alpha <= C Y    and    each row of alpha sums to 0

Two kinds of step take turns. ADMM (Boyd et al., 2011) finds which entries end below their
bounds: its one inverse serves all classes and iterations. A Newton step then solves for these
entries exactly, with the others at their bounds, by one support x support system per class.
With the right entries that is the solution, so accuracy is limited by rounding alone. Rounding
is that of float64 whatever the inputs are: alpha shrinks as features grow, and the terms it
balances do not.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.errors import UserError

# The largest relative duality gap of an answer that is called the solution.
TOLERANCE = 1e-8
# At the solution the gap is below this, unless large features make for more rounding.
EXACT = 1e-14

# Newton steps at most, with ADMM before the first, fourth, seventh and so on. A CPU stops at
# each episode's solution. To know of it a GPU would have to be waited for, so it takes all of
# its steps; in measurements on CIFAR-100 and on clusters 12 were always enough.
NEWTON_STEPS = {"cpu": 300, "cuda": 18}
STOPS_EARLY = {"cpu"}
NEWTON_PER_ADMM = 3
RELAXATION = 1.9


def solve(
    support_gram: Float[Tensor, "episode support support"],
    labels: Float[Tensor, "episode support way"],
    *,
    C: float = 0.1,
    jitter: float = 1.0,
) -> tuple[Float[Tensor, "episode support way"], Float[Tensor, " episode"]]:
    """The solution and its relative duality gap, checked; see ``dual``.

    Raises
    ------
    UserError
        If an episode's gap is not below the tolerance.
    """
    alpha, gap = dual(support_gram, labels, C=C, jitter=jitter)
    bad = ~(gap <= TOLERANCE)
    if bad.any():
        raise UserError(
            f"the svm head: {int(bad.sum())} of {len(gap)} episodes have no solution after "
            f"{NEWTON_STEPS[gap.device.type]} Newton steps: relative duality gap "
            f"{float(gap[bad].max()):.1e}, allowed {TOLERANCE:.0e}; scale the features down, "
            f"raise jitter (now {jitter:g}), or give the Gram matrix in float64"
        )
    return alpha, gap


def dual(
    support_gram: Float[Tensor, "episode support support"],
    labels: Float[Tensor, "episode support way"],
    *,
    C: float,
    jitter: float,
) -> tuple[Float[Tensor, "episode support way"], Float[Tensor, " episode"]]:
    """The best alpha found and how good it is, differentiable with respect to the Gram matrix.

    The gap bounds the objective above its minimum, relative to <Y, alpha>, which is between
    one and two times the size of that minimum. It is infinite where nothing was found. In
    absolute terms, jitter/2 ||alpha - solution||^2 is below it too.

    Parameters
    ----------
    support_gram
        Inner products among the support: symmetric and positive semi-definite up to rounding.
    labels
        One-hot.
    C
        Bound of an alpha of the own class; MetaOptNet's 0.1.
    jitter
        What is added to the Gram matrix's diagonal; MetaOptNet's 1.

    Returns
    -------
    tuple
        alpha in the Gram matrix's precision, feasible up to rounding, and the relative gap in
        float64.

    Raises
    ------
    UserError
        If C or jitter is not positive.
    """
    if not (C > 0 and jitter > 0):
        raise UserError(f"the svm head: C and jitter must be above 0, not {C:g} and {jitter:g}")
    # A product of features with themselves may be symmetric only up to rounding.
    gram = (support_gram + support_gram.mT).double() / 2
    alpha, gap = _Dual.apply(gram, labels.mT.double().contiguous(), C, jitter)
    return alpha.mT.to(support_gram.dtype), gap


class _Dual(torch.autograd.Function):
    """Where the same entries stay at their bounds, alpha is a linear solve, and so its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        gram: Float[Tensor, "episode support support"],
        labels: Float[Tensor, "episode way support"],
        C: float,
        jitter: float,
    ) -> tuple[Float[Tensor, "episode way support"], Float[Tensor, " episode"]]:
        kernel = gram + jitter * _identity(gram)
        alpha, gap = _search(kernel, labels, C, jitter)
        ctx.save_for_backward(kernel, labels, alpha)
        ctx.C, ctx.jitter = C, jitter
        ctx.mark_non_differentiable(gap)
        return alpha, gap

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,
        gradient: Float[Tensor, "episode way support"],
        _: Float[Tensor, " episode"],
    ) -> tuple[Float[Tensor, "episode support support"], None, None, None]:
        kernel, labels, alpha = ctx.saved_tensors
        point = alpha - (alpha @ kernel - labels) / ctx.jitter
        _, free = _project(point, ctx.C * labels, ctx.C)
        change = _minimise(kernel, free, gradient, torch.zeros_like(gradient[:, 0]))
        return -change.mT @ alpha, None, None, None


class _State(NamedTuple):
    """Of the episodes not solved yet. Classes come first, so that each is a row to multiply."""

    episode: Tensor
    kernel: Tensor
    labels: Tensor
    # ADMM's penalty, the feasible one of its two estimates, and its scaled multiplier.
    penalty: Tensor
    primal: Tensor
    multiplier: Tensor
    # Where the next Newton step starts, and which entries it takes to be below their bounds.
    point: Tensor
    free: Tensor


def _search(
    kernel: Float[Tensor, "episode support support"],
    labels: Float[Tensor, "episode way support"],
    C: float,
    jitter: float,
) -> tuple[Float[Tensor, "episode way support"], Float[Tensor, " episode"]]:
    alpha = torch.zeros_like(labels)
    gap = torch.full_like(labels[:, 0, 0], torch.inf)
    device = kernel.device.type
    state = _start(kernel, labels)
    for step in range(NEWTON_STEPS[device]):
        if step % NEWTON_PER_ADMM == 0:
            state = _admm(state, C)
        episode, kernel, labels, penalty, *_ = state
        upper = C * labels
        # From a point near the solution, what is left to solve for is small, and so its rounding.
        near = torch.where(state.free, state.point, upper)
        point = near + _minimise(kernel, state.free, labels - near @ kernel, -near.sum(-2))
        slope = point @ kernel - labels
        found, _ = _project(point - slope / jitter, upper, C)
        found_gap = _gap(kernel, labels, point, found, jitter)
        best = gap[episode]
        better = found_gap < best
        gap[episode] = torch.where(better, found_gap, best)
        alpha[episode] = torch.where(better[:, None, None], found, alpha[episode])
        # ADMM's step size leaves wrong bounds, where 1 / jitter would be much too far.
        _, free = _project(point - slope / penalty, upper, C)
        guess_holds = (free == state.free).flatten(1).all(-1)
        state = state._replace(point=point, free=free)
        if device in STOPS_EARLY:
            # Where the guess holds, another step can only lessen the rounding.
            unsolved = (found_gap > EXACT) & ~(guess_holds & (found_gap > best / 2))
            if not unsolved.any():
                break
            if not unsolved.all():
                state = _State(*(each[unsolved] for each in state))
    return alpha, gap


def _start(
    kernel: Float[Tensor, "episode support support"],
    labels: Float[Tensor, "episode way support"],
) -> _State:
    factor, failed = torch.linalg.cholesky_ex(kernel)
    # The geometric mean of the eigenvalues is blind to the few large ones that features with a
    # common mean have.
    mean = factor.diagonal(dim1=-2, dim2=-1).log().mean(-1).mul(2).exp()
    return _State(
        episode=torch.arange(len(kernel), device=kernel.device),
        kernel=kernel,
        labels=labels,
        penalty=torch.where(failed == 0, 2 * mean, torch.nan)[:, None, None],
        primal=torch.zeros_like(labels),
        multiplier=torch.zeros_like(labels),
        point=torch.zeros_like(labels),
        free=torch.ones_like(labels, dtype=torch.bool),
    )


def _admm(state: _State, C: float) -> _State:
    """In the scaled form of Boyd et al., section 3.1.1, over-relaxed (3.4.3)."""
    _, kernel, labels, penalty, primal, multiplier, _, free = state
    upper = C * labels
    identity = _identity(kernel)
    inverse = _inverse(kernel + penalty * identity, identity)
    for _ in range(iterations(kernel.shape[-1])):
        previous = primal
        solution = (labels + penalty * (primal - multiplier)) @ inverse
        point = primal.lerp(solution, RELAXATION) + multiplier
        primal, free = _project(point, upper, C)
        multiplier = point - primal
    # Should there be a next time: a penalty that makes both residuals equally small (3.4.1),
    # each relative to its largest term as in OSQP (Stellato et al., 2020). Support images that
    # are alike but of different classes need another one than the rest.
    primal_residual = _size(solution - primal) / _size(solution)
    dual_residual = _size(penalty * (primal - previous)) / _size(labels)
    smallest = torch.finfo(kernel.dtype).tiny
    factor = ((primal_residual + smallest) / (dual_residual + smallest)).sqrt().clamp(0.1, 10)
    return state._replace(
        penalty=factor * penalty,
        primal=primal,
        multiplier=multiplier / factor,
        point=primal,
        free=free,
    )


def iterations(n_support: int) -> int:
    """Of ADMM: as many as cost what the Newton steps cost, each of which is by n slower."""
    return max(15, n_support)


def _identity(like: Float[Tensor, "episode support support"]) -> Float[Tensor, "support support"]:
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _size(values: Float[Tensor, "episode way support"]) -> Float[Tensor, "episode 1 1"]:
    return values.square().sum((-2, -1), keepdim=True).sqrt()


def _gap(
    kernel: Float[Tensor, "episode support support"],
    labels: Float[Tensor, "episode way support"],
    point: Float[Tensor, "episode way support"],
    found: Float[Tensor, "episode way support"],
    jitter: float,
) -> Float[Tensor, " episode"]:
    """Primal objective at W = X^T point, less the dual one at its best response, ``found``.

    The primal is 1/2 ||W||^2 + sum_i max_a <Y_i - W x_i, a> - jitter/2 ||a||^2 over feasible
    rows a. Nearly all cancels: the difference is 1/2 <d, gram d> of d = point - found, which
    only a Gram matrix that rounding has made indefinite can turn negative.
    """
    difference = point - found
    twice = (difference * (difference @ kernel - jitter * difference)).sum((-2, -1))
    return twice.abs() / (2 * (labels * found).sum((-2, -1)))


def _project(
    point: Float[Tensor, "episode way support"],
    upper: Float[Tensor, "episode way support"],
    total: float,
) -> tuple[Float[Tensor, "episode way support"], Bool[Tensor, "episode way support"]]:
    """The nearest values, class by class, that are at most ``upper`` and sum to 0.

    ``total`` is the sum of the bounds. The solution is min(upper, point - shift), so with
    slack = point - upper, the sum of max(0, shift - slack) is ``total``. For any other set of
    entries than the right one, (total + their slacks) / their number is too large a shift, and
    the best set of a size is that of the smallest slacks.

    Returns
    -------
    tuple
        The values, and which are below their bounds.
    """
    slack = point - upper
    sizes = torch.arange(1, slack.shape[-2] + 1, device=slack.device)[:, None]
    sums = slack.sort(-2).values.cumsum(-2)
    shift = ((total + sums) / sizes).amin(-2, keepdim=True)
    return torch.minimum(upper, point - shift), slack < shift


def _minimise(
    kernel: Float[Tensor, "episode support support"],
    free: Bool[Tensor, "episode way support"],
    target: Float[Tensor, "episode way support"],
    total: Float[Tensor, "episode support"],
) -> Float[Tensor, "episode way support"]:
    """The least 1/2 <x, kernel x> - <target, x> of x that are 0 where not free.

    Over the classes, x sums to ``total``; each sum's multiplier is an unknown, eliminated last.
    """
    mask = free.to(kernel.dtype)
    # Entries that are not free are decoupled from the others, and get a 1 to keep it definite.
    blocks = kernel[:, None] * (mask[..., None] * mask[..., None, :])
    blocks.diagonal(dim1=-2, dim2=-1).add_(1 - mask)
    inverses = _inverse(blocks, torch.diag_embed(mask))
    unconstrained = _rows_times(target, inverses)
    factor = torch.linalg.cholesky_ex(inverses.sum(1))[0]
    excess = (unconstrained.sum(-2) - total)[..., None]
    multiplier = torch.cholesky_solve(excess, factor).mT
    return unconstrained - _rows_times(multiplier.expand_as(target), inverses)


def _rows_times(
    rows: Float[Tensor, "episode way support"],
    matrices: Float[Tensor, "episode way support support"],
) -> Float[Tensor, "episode way support"]:
    # A row times a matrix is several times as fast here as a matrix times a column.
    return (rows[..., None, :] @ matrices)[..., 0, :]


def _inverse(matrices: Tensor, columns: Tensor) -> Tensor:
    """columns^T matrices^-1 columns, without waiting for a GPU to say whether it exists."""
    factor = torch.linalg.cholesky_ex(matrices)[0]
    half: Tensor = torch.linalg.solve_triangular(factor, columns, upper=False)
    return half.mT @ half
