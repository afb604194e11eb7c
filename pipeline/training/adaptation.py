"""Fine-tuning of the whole network on each episode by gradient steps, and what comes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import vmap

from pipeline.config.evaluation import Adaptation
from pipeline.config.training import OnEpisodes
from pipeline.data.augmentation import Normalisation, plain
from pipeline.data.episodes import Episodes
from pipeline.errors import UserError
from pipeline.machine import send
from pipeline.streams import generator
from pipeline.training.algorithm import Task
from pipeline.training.inner import (
    Network,
    SecondMoments,
    Vectors,
    adam,
    gradients,
    minibatches,
    runs_together,
)
from pipeline.training.tasks import validation_scores

# Bounds on memory: episodes at a time, their parameters, and queries each seen with the support.
EPISODES, PARAMETERS, QUERIES = 16, 2**26, 15


@dataclass(frozen=True)
class Initial:
    """What fine-tuning starts from: a model as a run left it."""

    backbone: nn.Module
    n_features: int
    # The head and the second moments of Adam, of runs that leave them.
    head: nn.Linear | None = None
    moments: SecondMoments | None = None


@dataclass(frozen=True)
class Tuned:
    """Some episodes before and after the steps."""

    support: Float[Tensor, "episode image 3 h w"]
    query: Float[Tensor, "episode query 3 h w"]
    start: Vectors
    end: Vectors


def correct(
    initial: Initial,
    adaptation: Adaptation,
    images: Tensor,
    normalisation: Normalisation,
    episodes: Episodes,
    seed: int,
) -> Int64[Tensor, " episode"]:
    """Count the queries of each episode that the fine-tuned network classifies correctly.

    Parameters
    ----------
    images, normalisation, episodes, seed
        See ``FineTuner.tune``.

    Returns
    -------
    Tensor
        Counts out of way * query.

    Raises
    ------
    UserError
        If logits are not finite: nothing could be said of their accuracy.
    """
    tuner = FineTuner(initial, adaptation, episodes.support.shape[1], images.device)
    tuned = tuner.tune(images, normalisation, episodes, seed)
    counts = torch.cat([tuner.correct(some) for some in tuned])
    require_finite(counts)
    return counts


def require_finite(counts: Tensor, *others: Tensor) -> None:
    """Refuse what fine-tuning with too large steps gives.

    Parameters
    ----------
    counts
        Of ``FineTuner.correct``.
    """
    finite = [(counts >= 0).all(), *(each.isfinite().all() for each in others)]
    if not torch.stack(finite).all():
        raise UserError(
            "logits or parameters are not finite after fine-tuning; lower lr of the adaptation in "
            "config.yaml"
        )


def adapted_scores(
    task: Task, run: OnEpisodes, initial: Initial, adaptation: Adaptation
) -> dict[str, float]:
    """The validation of a training whose model is meant to be fine-tuned."""
    return validation_scores(
        task,
        run,
        lambda episodes: correct(
            initial, adaptation, task.validation, task.normalisation, episodes, task.seed
        ),
    )


class FineTuner:
    """One adaptation of one model."""

    def __init__(
        self, initial: Initial, adaptation: Adaptation, n_way: int, device: torch.device
    ) -> None:
        self.adaptation = adaptation
        self.n_way = n_way
        self.together = runs_together(adaptation.batching, device)
        head, moments = initial.head, initial.moments
        self.is_new = adaptation.head == "new" or head is None or head.out_features != n_way
        if head is None or self.is_new:
            head, moments = nn.Linear(initial.n_features, n_way, device=device), None
        self.network = Network(initial.backbone, head, running=adaptation.statistics == "running")
        self.parameters = self.network.read()
        self.moments = moments or SecondMoments(self.parameters)
        self.moves = self.network.moves(adaptation.adapt_batch_norm)

    def tune(
        self, images: Tensor, normalisation: Normalisation, episodes: Episodes, seed: int
    ) -> Iterator[Tuned]:
        """Fine-tune on the support of each episode; as many at a time as memory is meant to hold.

        Each episode starts from the same model, whatever came before. New heads and the order
        of inner batches are drawn for each episode from ``seed``.

        Parameters
        ----------
        images
            (image, height, width, 3) uint8, resident on the device.
        episodes
            Indices into them.
        """
        size = max(1, min(EPISODES, PARAMETERS // len(self.parameters)))
        for first in range(0, len(episodes.support), size):
            support, query = (
                _images(images, part[first : first + size], normalisation)
                for part in (episodes.support, episodes.query)
            )
            randoms = [generator(seed, "fine-tuning", first + i) for i in range(len(support))]
            start = self.start(randoms)
            yield Tuned(support, query, start, self.descend(start, support, randoms))

    def correct(self, tuned: Tuned) -> Int64[Tensor, " episode"]:
        """Queries classified correctly; -1 where a logit is not finite.

        To refuse it here would make the host wait for the device.
        """
        logits = self.classify(tuned.end, tuned.support, tuned.query)
        right = (logits.argmax(-1) == self.labels(tuned.query)).sum(-1)
        return right.where(logits.isfinite().flatten(1).all(1), -1)

    def start(self, randoms: list[np.random.Generator]) -> Vectors:
        """The parameters before the first step, with heads drawn if they are new."""
        parameters = self.parameters.repeat(len(randoms), 1)
        if self.is_new:
            head = self.network.parts(parameters)["head.weight"]
            n_features = head.shape[-1]
            deviation = (2 / n_features) ** 0.5 if self.adaptation.new_head == "kaiming" else 0.0
            draws = np.stack([random.standard_normal(head.shape[1:]) for random in randoms])
            head.copy_(send(torch.from_numpy(deviation * draws), head.device))
            self.network.parts(parameters)["head.bias"].zero_()
        return parameters

    def descend(
        self, parameters: Vectors, support: Tensor, randoms: list[np.random.Generator]
    ) -> Vectors:
        """The parameters after the last step on images (episode, image, 3, height, width)."""
        adaptation, (n_episodes, n_images) = self.adaptation, support.shape[:2]
        labels = self.labels(support)
        squares, steps = self.moments.squares.expand(n_episodes, -1), self.moments.steps
        orders = [
            minibatches(n_images, adaptation.batch_size, adaptation.steps, random)
            for random in randoms
        ]
        batches = send(torch.from_numpy(np.stack(orders)), support.device)
        rows = torch.arange(n_episodes, device=support.device)[:, None]
        for batch in batches.unbind(1):
            slopes, _ = gradients(
                self.network,
                parameters,
                support[rows, batch],
                labels[batch],
                together=self.together,
            )
            slopes = slopes * self.moves
            if adaptation.optimizer == "adam":
                parameters, squares = adam(parameters, slopes, squares, steps, adaptation.lr)
                steps = steps + 1
            else:
                parameters = parameters - adaptation.lr * slopes
        return parameters

    def classify(
        self, parameters: Vectors, support: Tensor, query: Tensor
    ) -> Float[Tensor, "episode query way"]:
        """The logits of queries."""

        def episode(parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
            if self.adaptation.statistics != "inductive":
                return self.network.logits(parameters, query)

            def one(image: Tensor) -> Tensor:
                return self.network.logits(parameters, torch.cat([support, image[None]]))[-1]

            scores: Tensor = vmap(one, chunk_size=QUERIES)(query)
            return scores

        return self.each(episode, parameters, support, query)

    def labels(self, images: Tensor) -> Int64[Tensor, " image"]:
        """Of images (episode, image, ...) in the order of their classes."""
        classes = torch.arange(self.n_way, device=images.device)
        return classes.repeat_interleave(images.shape[1] // self.n_way)

    def each(self, episode: Callable[..., Tensor], *arguments: Tensor) -> Tensor:
        """A function of all episodes, called with its own part of each of the arguments."""
        with torch.no_grad():
            if self.together:
                results: Tensor = vmap(episode)(*arguments)
                return results
            return torch.stack([episode(*own) for own in zip(*arguments, strict=True)])


def _images(images: Tensor, chosen: np.ndarray, normalisation: Normalisation) -> Tensor:
    """(episode, way * image, 3, height, width) of (episode, way, image) indices."""
    flat = plain(images, torch.from_numpy(chosen).flatten(), normalisation)
    return flat.view(len(chosen), chosen[0].size, *flat.shape[1:])
