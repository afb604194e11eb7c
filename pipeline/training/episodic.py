"""Last-layer meta-learning: episodes through a differentiable head (section 2.2).

R2-D2 with the ridge head (Bertinetto et al., 2018), MetaOptNet with the SVM (Lee et al., 2019),
ProtoNet with prototypes (Snell et al., 2017), all by MetaOptNet's recipe.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.config.training import Episodic
from pipeline.heads.scoring import correct, gram, one_hot
from pipeline.plugins import find
from pipeline.training.algorithm import Algorithm, Task
from pipeline.training.descent import autocast, sgd, smoothed_cross_entropy, step_down
from pipeline.training.tasks import episodes, validation_scores


class Scale(nn.Module):
    """The learnable factor on a head's logits, 1 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor) -> Tensor:
        return self.factor * logits


class Training(Algorithm):
    """See ``pipeline.training.algorithm.Algorithm``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = Episodic.model_validate({**task.settings, "head": task.settings["head"]["name"]})
        head = task.settings["head"]
        self.head = partial(find("heads", head["name"], "logits"), **head["options"])
        self.share = 1 / task.n_features if self.run.divide_by_features else 1.0
        self.modules = nn.ModuleDict({"backbone": task.backbone, "scale": Scale().to(task.device)})
        self.optimizer = sgd(self.run, self.modules.parameters())

    def step(self, index: int) -> dict[str, Tensor]:
        run = self.run
        # In two passes, as MetaOptNet: support and query each have their own batch statistics.
        support, query = map(self._features, episodes(self.task, run, run.n_query, index))
        logits = self.head(
            self.share * (support @ support.mT),
            self.share * (query @ support.mT),
            one_hot(run.n_way, run.n_shot, support).expand(run.meta_batch, -1, -1),
        )
        logits = self.modules["scale"](logits)
        truth = torch.arange(run.n_way, device=logits.device).repeat_interleave(run.n_query)
        truth = truth.repeat(run.meta_batch)
        loss = smoothed_cross_entropy(logits.flatten(0, 1), truth, run.label_smoothing)
        step_down(loss, self.optimizer, run, index)
        return {"loss": loss, "accuracy": (logits.flatten(0, 1).argmax(-1) == truth).float().mean()}

    def validate(self) -> dict[str, float]:
        """Accuracy on episodes of validation classes with the run's own head."""
        products = gram(self.task.validation_features()).mul_(self.share)
        return validation_scores(
            self.task, self.run, lambda drawn: correct(products, drawn, {"own": self.head})["own"]
        )

    def _features(
        self, images: Float[Tensor, "episode image 3 h w"]
    ) -> Float[Tensor, "episode image feature"]:
        with autocast(self.run, self.task.device):
            features: Tensor = self.modules["backbone"](images.flatten(0, 1))
        return features.float().view(*images.shape[:2], -1)
