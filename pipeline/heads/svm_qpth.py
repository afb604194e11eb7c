"""The support vector machine as MetaOptNet solves it: with qpth, to qpth's accuracy."""

import contextlib
import io
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import UserError


def logits(
    support_gram: Float[Tensor, "episode support support"],
    query_support: Float[Tensor, "episode query support"],
    labels: Float[Tensor, "episode support way"],
    *,
    C: float = 0.1,
    jitter: float = 1.0,
    max_iter: int = 15,
) -> Float[Tensor, "episode query way"]:
    """The logits of ``pipeline.heads.svm``, from an interior point method stopped early.

    qpth leaves a batch when all of its problems are solved, so logits depend on the batch
    within qpth's accuracy, which three iterations do not reach.

    Parameters
    ----------
    support_gram
        Inner products among the support.
    query_support
        Inner products of queries with the support.
    labels
        One-hot.
    C
        How much a support image may weigh; MetaOptNet's 0.1 by default.
    jitter
        What is added to the diagonal; MetaOptNet's 1 by default.
    max_iter
        Iterations at most; MetaOptNet trains with 15 and tests with 3.

    Raises
    ------
    UserError
        If qpth is not installed.
    """
    try:
        from qpth.qp import QPFunction
    except ImportError as error:
        raise UserError(
            "the svm_qpth head needs qpth: pip install qpth==0.0.18, or take the svm head"
        ) from error
    n_episodes, n_support, n_way = labels.shape
    # One problem of support x way unknowns per episode, with the class as the faster index.
    identity = torch.eye(n_support * n_way).to(labels)
    # As MetaOptNet's kronecker product of the Gram matrix with the identity over the classes.
    blocks = torch.einsum("eij,mn->eimjn", support_gram, torch.eye(n_way).to(labels))
    quadratic = blocks.reshape(n_episodes, *identity.shape) + jitter * identity
    sums = torch.eye(n_support).to(labels).repeat_interleave(n_way, 1)
    targets = labels.flatten(1)
    # qpth prints when it stops short, and warns of functions that torch has since renamed.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        alpha: Tensor = QPFunction(verbose=False, maxIter=max_iter)(
            quadratic,
            -targets,
            identity.expand(n_episodes, -1, -1),
            C * targets,
            sums.expand(n_episodes, -1, -1),
            torch.zeros(n_episodes, n_support).to(labels),
        )
    return query_support @ alpha.view(labels.shape)
