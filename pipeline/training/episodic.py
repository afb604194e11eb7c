"""Last-layer meta-learning: episodes through a differentiable head (section 2.2).

R2-D2 with the ridge head (Bertinetto et al., 2018), by MetaOptNet's recipe.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import Episodic
from pipeline.data.episodes import sample
from pipeline.heads.scoring import correct, gram, one_hot
from pipeline.plugins import find
from pipeline.training.algorithm import Task
from pipeline.training.descent import autocast, sgd, step_down


class Scale(nn.Module):
    """The learnable factor on a head's logits, 1 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


class Training:
    """See ``pipeline.training.algorithm.Algorithm``."""

    keeps_best = True

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = Episodic.model_validate({**task.settings, "head": task.settings["head"]["name"]})
        head = task.settings["head"]
        self.head = partial(find("heads", head["name"], "logits"), **head["options"])
        self.modules = nn.ModuleDict({"backbone": task.backbone, "scale": Scale().to(task.device)})
        self.optimizer = sgd(self.run, self.modules.parameters())

    def step(self, index: int) -> dict[str, Tensor]:
        run = self.run
        episodes = sample(
            self.task.base_labels,
            n_way=run.n_way,
            n_shot=run.n_shot,
            n_query=run.n_query,
            n_episodes=run.meta_batch,
            seed=self.task.seed,
            stream="training episodes",
            block=run.meta_batch,
            first_block=index,
        )
        n_support = episodes.support.size
        chosen = np.concatenate([episodes.support.ravel(), episodes.query.ravel()])
        images = self.task.batch(chosen, index)
        # In two passes, as MetaOptNet: support and query each have their own batch statistics.
        support = self._features(images[:n_support])
        query = self._features(images[n_support:])
        logits = self.head(
            support @ support.mT,
            query @ support.mT,
            one_hot(run.n_way, run.n_shot, support).expand(run.meta_batch, -1, -1),
        )
        logits = self.modules["scale"](logits)
        truth = torch.arange(run.n_way, device=logits.device).repeat_interleave(run.n_query)
        truth = truth.repeat(run.meta_batch)
        loss = functional.cross_entropy(logits.flatten(0, 1), truth)
        step_down(loss, self.optimizer, run, index)
        return {"loss": loss, "accuracy": (logits.flatten(0, 1).argmax(-1) == truth).float().mean()}

    def validate(self) -> float:
        """Accuracy on episodes of validation classes with the run's own head."""
        run = self.run
        episodes = sample(
            self.task.validation_labels,
            n_way=run.n_way,
            n_shot=run.validation_shot,
            n_query=run.n_query,
            n_episodes=run.validation_episodes,
            seed=self.task.seed,
            stream="validation episodes",
        )
        counts = correct(gram(self.task.validation_features()), episodes, {"own": self.head})["own"]
        return float(counts.double().mean()) / (run.n_way * run.n_query)

    def _features(self, images: Tensor) -> Float[Tensor, "episode image feature"]:
        with autocast(self.run, self.task.device):
            features: Tensor = self.modules["backbone"](images)
        return features.float().view(self.run.meta_batch, -1, features.shape[1])
