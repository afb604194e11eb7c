"""R_FC: variance within classes relative to the variance between them (paper section 4.4)."""

from typing import Literal

from torch import Tensor

# The released code adds this to the denominator.
EPSILON = 1e-6


def ratio(features: Tensor, epsilon: float = 0.0) -> Tensor:
    """C/N * sum_ij ||phi_ij - mu_i||^2 / sum_i ||mu_i - mu||^2, as the paper prints it.

    N is the number of images *per class*, as the paper says; the value then depends on C
    and N. The released code uses C = N = 2, where the factor is 1.

    Parameters
    ----------
    features
        (..., class, image, feature).

    Returns
    -------
    Tensor
        (...,), in [0, inf). Two classes of two images with equal centres tend to 4 as
        features grow many.
    """
    n_classes, n_images = features.shape[-3:-1]
    centres = features.mean(-2, keepdim=True)
    within = (features - centres).square().sum((-1, -2, -3))
    between = (centres - centres.mean(-3, keepdim=True)).square().sum((-1, -2, -3))
    return n_classes / n_images * within / (between + epsilon)


def per_pair(features: Tensor) -> Tensor:
    """The released form, one value for each pair of classes.

    Parameters
    ----------
    features
        (pair, 2 classes, 2 images, feature).

    Returns
    -------
    Tensor
        (pair,). The released code names the function that computes this
        ``hyperplane_variation``: the two bodies are swapped there.
    """
    return ratio(features, EPSILON)


def penalty(features: Tensor, form: Literal["printed", "released"]) -> Tensor:
    """The term added to the loss: the mean over pairs (released), or one ratio over the batch.

    Parameters
    ----------
    features
        (pair, 2 classes, 2 images, feature).
    """
    if form == "released":
        return per_pair(features).mean()
    return ratio(features.flatten(0, 1), EPSILON)
