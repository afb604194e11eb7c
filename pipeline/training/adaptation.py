"""Fine-tuning of the whole network on each episode by gradient steps, and what comes of it."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
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


def correct(
    initial: Initial,
    adaptation: Adaptation,
    images: Tensor,
    normalisation: Normalisation,
    episodes: Episodes,
    seed: int,
) -> Tensor:
    """Count the queries of each episode that the fine-tuned network classifies correctly.

    Each episode starts from the same model, whatever came before. New heads and the order of
    inner batches are drawn for each episode from ``seed``.

    Parameters
    ----------
    images
        (image, height, width, 3) uint8, resident on the device.
    episodes
        Indices into them.

    Returns
    -------
    Tensor
        (episode,) counts out of way * query.

    Raises
    ------
    UserError
        If logits are not finite: nothing could be said of their accuracy.
    """
    n_episodes, n_way, _ = episodes.support.shape
    tuner = _FineTuner(initial, adaptation, n_way, images.device)
    truth = torch.arange(n_way, device=images.device).repeat_interleave(episodes.query.shape[-1])
    counts = []
    finite = torch.ones((), dtype=torch.bool, device=images.device)
    size = max(1, min(EPISODES, PARAMETERS // len(tuner.parameters)))
    for start in range(0, n_episodes, size):
        chosen = range(start, min(start + size, n_episodes))
        support, query = (
            _images(images, part[chosen.start : chosen.stop], normalisation)
            for part in (episodes.support, episodes.query)
        )
        randoms = [generator(seed, "fine-tuning", episode) for episode in chosen]
        logits = tuner.logits(support, query, randoms)
        finite &= logits.isfinite().all()
        counts.append((logits.argmax(-1) == truth).sum(-1))
    if not finite:
        raise UserError(
            "logits are not finite after fine-tuning; lower lr of the adaptation in config.yaml"
        )
    return torch.cat(counts)


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


class _FineTuner:
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

    def logits(
        self, support: Tensor, query: Tensor, randoms: list[np.random.Generator]
    ) -> Float[Tensor, "episode query way"]:
        """From images (episode, image, 3, height, width)."""
        adaptation, (n_episodes, n_images) = self.adaptation, support.shape[:2]
        classes = torch.arange(self.n_way, device=support.device)
        labels = classes.repeat_interleave(n_images // self.n_way)
        parameters = self._start(randoms)
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
        return self._classify(parameters, support, query)

    def _start(self, randoms: list[np.random.Generator]) -> Vectors:
        parameters = self.parameters.repeat(len(randoms), 1)
        if self.is_new:
            head = self.network.parts(parameters)["head.weight"]
            n_features = head.shape[-1]
            deviation = (2 / n_features) ** 0.5 if self.adaptation.new_head == "kaiming" else 0.0
            draws = np.stack([random.standard_normal(head.shape[1:]) for random in randoms])
            head.copy_(torch.from_numpy(deviation * draws))
            self.network.parts(parameters)["head.bias"].zero_()
        return parameters

    def _classify(self, parameters: Vectors, support: Tensor, query: Tensor) -> Tensor:
        def episode(parameters: Tensor, support: Tensor, query: Tensor) -> Tensor:
            if self.adaptation.statistics != "inductive":
                return self.network.logits(parameters, query)

            def one(image: Tensor) -> Tensor:
                return self.network.logits(parameters, torch.cat([support, image[None]]))[-1]

            scores: Tensor = vmap(one, chunk_size=QUERIES)(query)
            return scores

        with torch.no_grad():
            if self.together:
                scores: Tensor = vmap(episode)(parameters, support, query)
                return scores
            return torch.stack(
                [episode(*own) for own in zip(parameters, support, query, strict=True)]
            )


def _images(images: Tensor, chosen: np.ndarray, normalisation: Normalisation) -> Tensor:
    """(episode, way * image, 3, height, width) of (episode, way, image) indices."""
    flat = plain(images, torch.from_numpy(chosen).flatten(), normalisation)
    return flat.view(len(chosen), chosen[0].size, *flat.shape[1:])
