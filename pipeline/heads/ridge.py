"""Ridge regression on one-hot labels, in its dual form (Bertinetto et al., 2018; MetaOptNet)."""

import torch
from torch import Tensor


def logits(
    support_gram: Tensor, query_support: Tensor, labels: Tensor, *, regularization: float = 50.0
) -> Tensor:
    """Predictions of W = X^T (X X^T + lambda I)^-1 Y, without a bias.

    Only inner products are needed, so one call serves training (products of live
    features) and evaluation (gathered from one Gram matrix).

    Parameters
    ----------
    support_gram
        (episode, support, support): inner products among the support.
    query_support
        (episode, query, support): inner products of queries with the support.
    labels
        (episode, support, way): one-hot.
    regularization
        lambda; MetaOptNet's 50 by default.

    Returns
    -------
    Tensor
        (episode, query, way).
    """
    identity = torch.eye(
        support_gram.shape[-1], dtype=support_gram.dtype, device=support_gram.device
    )
    # The shifted Gram matrix is positive definite: Cholesky is fastest, and no inverse is formed.
    factor = torch.linalg.cholesky_ex(support_gram + regularization * identity)[0]
    return query_support @ torch.cholesky_solve(labels, factor)
