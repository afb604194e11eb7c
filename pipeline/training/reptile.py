"""Reptile (Nichol & Schulman, 2018), and the paper's Weight-Clustering (Algorithm 2).

Inner steps are Adam's without momentum; its second moments persist for the whole run. The outer
step goes towards the mean of the tasks' final parameters. Algorithm 2 as printed subtracts where
it must add, and counts inner steps by the number of tasks; here it does what its text says.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.config.evaluation import Adaptation
from pipeline.config.training import Reptile
from pipeline.machine import send
from pipeline.streams import generator
from pipeline.training.adaptation import Initial, adapted_scores
from pipeline.training.algorithm import Algorithm, Task
from pipeline.training.descent import learning_rate
from pipeline.training.inner import (
    Network,
    SecondMoments,
    Vector,
    Vectors,
    adam,
    gradients,
    minibatches,
    new_head,
    runs_together,
    settle_statistics,
)
from pipeline.training.tasks import episodes, random_batches


class Training(Algorithm):
    """See ``pipeline.training.algorithm.Algorithm``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = run = Reptile.model_validate(task.settings)
        self.together = runs_together(run.batching, task.device)
        head = new_head(task.n_features, run.n_way).to(task.device)
        self.modules = nn.ModuleDict({"backbone": task.backbone, "head": head})
        self.optimizer = torch.optim.SGD(self.modules.parameters(), run.lr)
        self.network = Network(task.backbone, head)
        self.moments = SecondMoments(self.network.read())
        self.modules["moments"] = self.moments
        self.initial = Initial(task.backbone, task.n_features, head, self.moments)

    def step(self, index: int) -> dict[str, Tensor]:
        run = self.run
        images, _ = episodes(self.task, run, 0, index)
        labels = torch.arange(run.n_way, device=images.device).repeat_interleave(run.n_shot)
        random = generator(self.task.seed, "inner batches", index)
        orders = [
            minibatches(len(labels), run.batch_size, run.inner_steps, random)
            for _ in range(run.meta_batch)
        ]
        batches = send(torch.from_numpy(np.stack(orders)), images.device)
        start = self.network.read()
        squares, steps = self.moments.squares, self.moments.steps
        ends, remembered, metrics = [], [], []
        # In lock-step the tasks are one group, otherwise each is a group of its own.
        size = run.meta_batch if run.order == "lock_step" else 1
        for i in range(0, run.meta_batch, size):
            group = slice(i, i + size)
            end, after, metric = self._inner(
                start, squares, steps, images[group], labels, batches[group]
            )
            ends.append(end)
            metrics.append(metric)
            if run.moments == "shared":
                squares, steps = after, steps + run.inner_steps * size
            else:
                remembered.append(after)
        if run.moments == "per_task":
            squares, steps = torch.cat(remembered).mean(0), steps + run.inner_steps
        self.moments.squares.copy_(squares)
        self.moments.steps.copy_(steps)
        moved = torch.cat(ends).mean(0) - start
        self.network.descend(-moved, self.optimizer, learning_rate(run, index))
        return {name: torch.stack([each[name] for each in metrics]).mean() for name in metrics[0]}

    def validate(self) -> dict[str, float]:
        """Accuracy on episodes of validation classes after fine-tuning, as Reptile is tested."""
        run = self.run
        adaptation = Adaptation(
            optimizer="adam",
            lr=run.inner_lr,
            steps=run.validation_steps,
            batch_size=run.validation_batch_size,
            n_query=run.n_query,
            n_episodes=run.validation_episodes,
            batching=run.batching,
        )
        return adapted_scores(self.task, run, self.initial, adaptation)

    def finish(self) -> None:
        settle_statistics(self.task.backbone, random_batches(self.task))

    def _inner(
        self,
        start: Vector,
        squares: Vector,
        steps: Tensor,
        images: Tensor,
        labels: Tensor,
        batches: Tensor,
    ) -> tuple[Vectors, Tensor, dict[str, Tensor]]:
        """The inner steps of a group of tasks in lock-step.

        Parameters
        ----------
        squares, steps
            Second moments, and the number of gradients in them.
        images
            (task, image, 3, height, width).
        batches
            (task, step, image) indices into a task's images.

        Returns
        -------
        tuple
            Each task's final parameters; the moments, each task's own if the run says so;
            scalars for the log.
        """
        run, n_tasks = self.run, len(images)
        parameters = start.expand(n_tasks, -1)
        if run.moments == "per_task":
            squares = squares.expand(n_tasks, -1)
        # All steps' images at once, with channels last in memory, where steps take them.
        tasks = torch.arange(n_tasks, device=images.device)[:, None, None]
        shown = images.movedim(2, -1)[tasks, batches].movedim(-1, 3)
        losses, pull = [], torch.zeros((), device=images.device)
        for batch, truth in zip(shown.unbind(1), labels[batches].unbind(1), strict=True):
            slopes, loss = gradients(
                self.network,
                parameters,
                batch,
                truth,
                together=self.together and n_tasks > 1,
            )
            losses.append(loss.mean())
            seen = slopes
            if run.coefficient:
                pull = self._away_from_mean(parameters).mul_(run.coefficient)
                seen = slopes + pull if run.pull == "gradient" else slopes
            parameters, squares = adam(parameters, seen, squares, steps, run.inner_lr)
            if run.coefficient and run.pull == "weights":
                parameters = parameters - pull
            steps = steps + (1 if run.moments == "per_task" else n_tasks)
        metrics = {"loss": torch.stack(losses).mean()}
        if n_tasks > 1:
            metrics["distance"] = distance_to_mean(self.network, parameters)
            metrics["pull"] = pull.norm() / slopes.norm()
        return parameters, squares, metrics

    def _away_from_mean(self, parameters: Vectors) -> Vectors:
        """Half the gradient of each task's squared distance to the mean over tasks.

        The mean, and the norms of filters, are taken for constants.
        """
        away = parameters - parameters.mean(0)
        # Views of one vector, to be divided where they lie.
        own, shares = self.network.parts(parameters), self.network.parts(away)
        for name, value in own.items():
            if value.ndim == 2 and not self.run.pull_vectors:
                shares[name].zero_()
            elif self.run.distance == "filter_normalised":
                shares[name].div_(_squared_norms(value))
        return away


def distance_to_mean(network: Network, parameters: Vectors) -> Float[Tensor, ""]:
    """The mean filter-normalised distance of tasks to their mean (Li et al., 2018).

    Filters are the output channels of convolutions and the rows of the head; biases and batch
    norm are left out.
    """
    squares = [
        ((value - value.mean(0)).square() / _squared_norms(value)).flatten(1).sum(1)
        for value in network.parts(parameters).values()
        if value.ndim > 2
    ]
    return torch.stack(squares).sum(0).sqrt().mean()


def _squared_norms(value: Tensor) -> Tensor:
    """Of each filter of each task, shaped to divide by; 1 where a filter is zero.

    Each entry of a vector is a filter.
    """
    squares = value.square()
    if value.ndim > 2:
        squares = squares.sum(tuple(range(2, value.ndim)), keepdim=True)
    return squares.where(squares > 0, 1.0)
