"""Ridge regression on one-hot labels, in its dual form (Bertinetto et al., 2018; MetaOptNet)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor


def logits(
    support_gram: Float[Tensor, "episode support support"],
    query_support: Float[Tensor, "episode query support"],
    labels: Float[Tensor, "episode support way"],
    *,
    regularization: float = 50.0,
    form: Literal["metaoptnet", "original"] = "metaoptnet",
) -> Float[Tensor, "episode query way"]:
    """Predictions of W = X^T (X X^T + lambda I)^-1 Y, without a bias.

    Only inner products are needed, so one call serves training (products of live
    features) and evaluation (gathered from one Gram matrix).

    Parameters
    ----------
    support_gram
        Inner products among the support.
    query_support
        Inner products of queries with the support.
    labels
        One-hot.
    regularization
        lambda; 50 in both sources.
    form
        The original adds a feature that is always 1, the bias, and divides X and Y by the
        square root of the number of support images: lambda grows by as much.
    """
    if form == "original":
        support_gram, query_support = support_gram + 1, query_support + 1
        regularization = regularization * support_gram.shape[-1]
    identity = torch.eye(
        support_gram.shape[-1], dtype=support_gram.dtype, device=support_gram.device
    )
    # The shifted Gram matrix is positive definite: Cholesky is fastest, and no inverse is formed.
    factor, failed = torch.linalg.cholesky_ex(support_gram + regularization * identity)
    weights = torch.cholesky_solve(labels, factor)
    # Unless features so large that rounding is larger than lambda; scoring and training refuse NaN.
    return query_support @ torch.where((failed == 0)[:, None, None], weights, torch.nan)
