"""Nearest class mean (Snell et al., 2017), from inner products alone."""

from torch import Tensor


def logits(support_gram: Tensor, query_support: Tensor, labels: Tensor) -> Tensor:
    """Minus half the squared distance to each class mean, up to a constant per query.

    ||q - c||^2 = ||q||^2 - 2 <q, c> + ||c||^2, and the query's own norm shifts all of its
    logits alike, so it is left out.

    Parameters
    ----------
    support_gram
        (episode, support, support): inner products among the support.
    query_support
        (episode, query, support): inner products of queries with the support.
    labels
        (episode, support, way): one-hot.

    Returns
    -------
    Tensor
        (episode, query, way).
    """
    means = labels / labels.sum(-2, keepdim=True)
    squared_norms = (means * (support_gram @ means)).sum(-2, keepdim=True)
    return query_support @ means - squared_norms / 2
