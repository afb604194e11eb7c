"""What a training draws of a task: episodes, and batches of all classes.

Apart from ``Task``, so that how episodes are drawn is no part of a classical run's code.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from pipeline.config.training import OnEpisodes
from pipeline.data.episodes import Episodes, sample
from pipeline.models.embedding import BATCH
from pipeline.streams import generator
from pipeline.training.algorithm import Task

# Batches that batch norm statistics are taken of: 8,192 images.
STATISTICS = 64


def episodes(
    task: Task, run: OnEpisodes, n_query: int, index: int
) -> tuple[Float32[Tensor, "episode support 3 h w"], Float32[Tensor, "episode query 3 h w"]]:
    """Images of the meta-batch of training step ``index``, those of a class together."""
    drawn = sample(
        task.base_labels,
        n_way=run.n_way,
        n_shot=run.n_shot,
        n_query=n_query,
        n_episodes=run.meta_batch,
        seed=task.seed,
        stream="training episodes",
        block=run.meta_batch,
        first_block=index,
    )
    n_support = drawn.support.size
    images = task.batch(np.concatenate([drawn.support.ravel(), drawn.query.ravel()]), index)
    support, query = images[:n_support], images[n_support:]
    shape = images.shape[1:]
    return (
        support.view(run.meta_batch, run.n_way * run.n_shot, *shape),
        query.view(run.meta_batch, run.n_way * n_query, *shape),
    )


def validation_scores(
    task: Task, run: OnEpisodes, correct: Callable[[Episodes], Tensor]
) -> dict[str, float]:
    """Accuracy on episodes of validation classes, the same ones at every validation.

    Parameters
    ----------
    correct
        From episodes of indices into the validation images to (episode,) counts of right answers.
    """
    scores: dict[str, float] = {}
    for n_shot in run.validation_shots:
        episodes = sample(
            task.validation_labels,
            n_way=run.n_way,
            n_shot=n_shot,
            n_query=run.n_query,
            n_episodes=run.validation_episodes,
            seed=task.seed,
            stream="validation episodes",
        )
        share = float(correct(episodes).double().mean()) / (run.n_way * run.n_query)
        scores[f"validation_{n_shot}shot" if scores else "validation"] = share
    return scores


def random_batches(task: Task) -> Iterator[Float32[Tensor, "batch 3 h w"]]:
    """Batches of base images of all classes, to take statistics of."""
    order = generator(task.seed, "statistics").permutation(len(task.base_labels))
    # The last batch would be a part of one; a data set smaller than a batch is one.
    for index in range(min(STATISTICS, max(1, len(order) // BATCH))):
        yield task.batch(order[index * BATCH : (index + 1) * BATCH], index)
