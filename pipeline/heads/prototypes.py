"""Nearest class mean (Snell et al., 2017), from inner products alone."""

from jaxtyping import Float
from torch import Tensor


def logits(
    support_gram: Float[Tensor, "episode support support"],
    query_support: Float[Tensor, "episode query support"],
    labels: Float[Tensor, "episode support way"],
) -> Float[Tensor, "episode query way"]:
    """Minus the squared distance to each class mean, up to a constant per query.

    ||q - c||^2 = ||q||^2 - 2 <q, c> + ||c||^2, and the query's own norm shifts all of its
    logits alike, so it is left out.

    Parameters
    ----------
    support_gram
        Inner products among the support.
    query_support
        Inner products of queries with the support.
    labels
        One-hot.
    """
    means = labels / labels.sum(-2, keepdim=True)
    squared_norms = (means * (support_gram @ means)).sum(-2, keepdim=True)
    return 2 * (query_support @ means) - squared_norms
