"""The multi-class support vector machine of MetaOptNet (Lee et al., 2019), solved exactly."""

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.heads import crammer_singer

# The largest relative duality gap of an alpha that logits are made of. The steps that a GPU
# takes end far below it; a training need not end over the one episode in a million where not.
USABLE = 1e-4


def logits(
    support_gram: Float[Tensor, "episode support support"],
    query_support: Float[Tensor, "episode query support"],
    labels: Float[Tensor, "episode support way"],
    *,
    C: float = 0.1,
    jitter: float = 1.0,
) -> Float[Tensor, "episode query way"]:
    """Inner products of the queries with W = X^T alpha, without a bias.

    alpha solves the dual problem of Crammer & Singer (2001), see
    ``pipeline.heads.crammer_singer``. Where the best alpha found is further from it than
    USABLE, logits are NaN, which scoring and training refuse: to raise an error here, a GPU
    would have to be waited for at each step. ``crammer_singer.solve`` says what is wrong.

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
        What is added to the Gram matrix's diagonal; MetaOptNet's 1 by default. It is as if
        each support image had one more feature, of its own.
    """
    alpha, gap = crammer_singer.dual(support_gram, labels, C=C, jitter=jitter)
    solved = (gap <= USABLE)[:, None, None]
    return query_support @ torch.where(solved, alpha, torch.nan)
