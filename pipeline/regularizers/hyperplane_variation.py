"""R_HV: how much one-shot separating hyperplanes vary with the sample (paper section 4.5)."""

from typing import Literal

from torch import Tensor
from torch.linalg import vector_norm

# The released code adds this to the mean norm.
EPSILON = 1e-4


def printed(features: Tensor) -> Tensor:
    """||d1 - d2|| / (||d1|| + ||d2||), where d_k joins image k of one class to that of the other.

    Parameters
    ----------
    features
        (pair, 2 classes, 2 images, feature).

    Returns
    -------
    Tensor
        (pair,) in [0, 1] by the triangle inequality; 0 where all four images coincide.
    """
    change, total = _norms(features)
    return change / total.where(total > 0, 1.0)


def released(features: Tensor) -> Tensor:
    """The square of twice the printed value: (pair,) in [0, 4].

    The paper's tables hold values above 1, so this is the form they were made with. The
    released code names the function that computes it ``feature_clustering``: the two
    bodies are swapped there.

    Parameters
    ----------
    features
        (pair, 2 classes, 2 images, feature).
    """
    change, total = _norms(features)
    return (change / (total / 2 + EPSILON)).square()


def penalty(features: Tensor, form: Literal["printed", "released"]) -> Tensor:
    """The term added to the loss: the mean over pairs of classes.

    Parameters
    ----------
    features
        (pair, 2 classes, 2 images, feature).
    """
    return (released if form == "released" else printed)(features).mean()


def _norms(features: Tensor) -> tuple[Tensor, Tensor]:
    differences = features[:, 0] - features[:, 1]
    change = vector_norm(differences[:, 0] - differences[:, 1], dim=-1)
    return change, vector_norm(differences, dim=-1).sum(-1)
