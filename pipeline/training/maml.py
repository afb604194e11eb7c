"""MAML: an initialisation that a few gradient steps bring far (Finn et al., 2017; section 2.2).

With ``first_order`` it is FOMAML: the gradient of the query loss at the adapted parameters stands
for the one through the inner steps.
"""

import torch
from torch import Tensor, nn

from pipeline.config.evaluation import Adaptation
from pipeline.config.training import Maml
from pipeline.training.adaptation import Initial, adapted_scores
from pipeline.training.algorithm import Algorithm, Task
from pipeline.training.descent import learning_rate
from pipeline.training.inner import (
    Differentiate,
    Network,
    for_each_episode,
    new_head,
    runs_together,
    settle_statistics,
)
from pipeline.training.tasks import episodes, random_batches


class Training(Algorithm):
    """See ``pipeline.training.algorithm.Algorithm``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = run = Maml.model_validate(task.settings)
        self.together = runs_together(run.batching, task.device)
        head = new_head(task.n_features, run.n_way).to(task.device)
        self.modules = nn.ModuleDict({"backbone": task.backbone, "head": head})
        self.optimizer = torch.optim.Adam(self.modules.parameters(), run.lr)
        self.network = Network(task.backbone, head)
        self.initial = Initial(task.backbone, task.n_features, head)
        self.rates = run.inner_lr * self.network.moves(run.adapt_batch_norm)

    def step(self, index: int) -> dict[str, Tensor]:
        run = self.run
        support, query = episodes(self.task, run, run.n_query, index)
        classes = torch.arange(run.n_way, device=self.task.device)
        labels, truth = (
            classes.repeat_interleave(count).expand(run.meta_batch, -1)
            for count in (run.n_shot, run.n_query)
        )
        parameters = self.network.read().expand(run.meta_batch, -1)
        slopes, losses = for_each_episode(
            self._episode, parameters, support, labels, query, truth, together=self.together
        )
        gradient = slopes.mean(0)
        if run.clip is not None:
            # The released loss is way x query / shot times ours.
            bound = run.clip * run.n_shot / (run.n_way * run.n_query)
            gradient = gradient.clamp(-bound, bound)
        self.network.descend(gradient, self.optimizer, learning_rate(run, index))
        return {"loss": losses.mean()}

    def validate(self) -> dict[str, float]:
        """Accuracy on episodes of validation classes after the inner steps."""
        run = self.run
        adaptation = Adaptation(
            lr=run.inner_lr,
            steps=run.validation_steps,
            adapt_batch_norm=run.adapt_batch_norm,
            n_query=run.n_query,
            n_episodes=run.validation_episodes,
            batching=run.batching,
        )
        return adapted_scores(self.task, run, self.initial, adaptation)

    def finish(self) -> None:
        settle_statistics(self.task.backbone, random_batches(self.task))

    def _episode(
        self,
        differentiate: Differentiate,
        parameters: Tensor,
        support: Tensor,
        labels: Tensor,
        query: Tensor,
        truth: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The gradient of one episode's query loss by the parameters before the inner steps."""
        run, network, products = self.run, self.network, []
        twice = not run.first_order
        for _ in range(run.inner_steps):
            slope, _, product = differentiate(network, parameters, support, labels, twice=twice)
            parameters = torch.addcmul(parameters, self.rates, slope, value=-1)
            products.append(product)
        gradient, loss, _ = differentiate(network, parameters, query, truth, twice=False)
        if twice:
            # Each step subtracted rates times a gradient at the parameters before it.
            for product in reversed(products):
                gradient = gradient - product(self.rates * gradient)
        return gradient, loss
