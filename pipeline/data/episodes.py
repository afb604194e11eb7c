"""Few-shot episodes: which images are support and which are query."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.streams import generator

# Episodes are drawn in blocks of this many, so that drawing is vectorised and still every
# episode can be drawn again from its block's address alone.
BLOCK = 256


@dataclass(frozen=True)
class Episodes:
    """Indices of images by class: support (episode, way, shot), query (episode, way, query)."""

    support: NDArray[np.int64]
    query: NDArray[np.int64]


def sample(
    labels: NDArray[np.int64],
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    stream: str,
    block: int = BLOCK,
    first_block: int = 0,
) -> Episodes:
    """Draw episodes: classes without replacement, and in each class support and query disjoint.

    They depend on the arguments alone, never on a model, so all models meet the same
    episodes; more episodes begin with those of fewer.

    Parameters
    ----------
    labels
        (image,) class indices 0 .. classes - 1.
    stream, first_block
        Address of the draws (``pipeline.streams``).
    block
        Episodes per address.

    Raises
    ------
    UserError
        If there are too few classes, or too few images in one of them.
    """
    counts = np.bincount(labels)
    order = np.argsort(labels, kind="stable")
    starts = np.cumsum(counts) - counts
    each = n_shot + n_query
    if n_way > len(counts):
        raise UserError(f"n_way: {n_way} is more than the {len(counts)} classes there are")
    if each > counts.min():
        raise UserError(
            f"{n_shot} shots + {n_query} queries = {each} images of a class, "
            f"but class {counts.argmin()} has {counts.min()}"
        )
    blocks = []
    for index in range(-(-n_episodes // block)):
        random = generator(seed, stream, first_block + index)
        classes = _distinct(random, np.full(block, len(counts)), n_way)
        within = _distinct(random, counts[classes], each)
        blocks.append(order[starts[classes][..., None] + within])
    images = np.concatenate(blocks)[:n_episodes]
    return Episodes(images[..., :n_shot], images[..., n_shot:])


def stream(dataset: str, n_way: int, n_shot: int) -> str:
    """The stream of evaluation episodes, which all fine-tuners of all models share."""
    return f"{dataset} novel {n_way} way {n_shot} shot"


def _distinct(
    random: np.random.Generator, populations: NDArray[np.int64], k: int
) -> NDArray[np.int64]:
    """For each population size p, k distinct numbers below p in random order; shape (..., k).

    Floyd's algorithm, all populations at once: a number already taken is replaced by the
    largest of its round, which cannot have been.
    """
    taken = np.empty((*populations.shape, k), dtype=np.int64)
    for i in range(k):
        largest = populations - k + i
        drawn = random.integers(0, largest + 1)
        repeated = (taken[..., :i] == drawn[..., None]).any(-1)
        taken[..., i] = np.where(repeated, largest, drawn)
    # Floyd's set is uniform, but later numbers tend to be larger.
    return random.permuted(taken, axis=-1)
