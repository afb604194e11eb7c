"""Classical training: cross-entropy over all base classes, plain or regularised (section 4.4)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config.training import Classical
from pipeline.machine import send
from pipeline.plugins import find
from pipeline.streams import generator
from pipeline.training.algorithm import Algorithm, Task
from pipeline.training.descent import autocast, sgd, smoothed_cross_entropy, step_down

RELEASED_WORKERS = 4


class Training(Algorithm):
    """See ``pipeline.training.algorithm.Algorithm``."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.run = Classical.model_validate(task.settings)
        n_classes = int(task.base_labels.max()) + 1
        self.modules = nn.ModuleDict(
            {
                "backbone": task.backbone,
                "classifier": nn.Linear(task.n_features, n_classes, device=task.device),
            }
        )
        self.optimizer = sgd(self.run, self.modules.parameters())
        self.labels = torch.from_numpy(task.base_labels).to(task.device)
        self.batches = PairBatches(
            task.base_labels,
            self.run.batch_size,
            task.seed,
            workers=RELEASED_WORKERS if self.run.sampler == "released" else 1,
        )

    def step(self, index: int) -> dict[str, Tensor]:
        images = self.batches[index]
        with autocast(self.run, self.task.device):
            features = self.modules["backbone"](self.task.batch(images, index))
        features = features.float()
        logits = self.modules["classifier"](features)
        truth = self.labels[send(torch.from_numpy(images), self.task.device)]
        cross_entropy = smoothed_cross_entropy(logits, truth, self.run.label_smoothing)
        metrics = {"loss": cross_entropy}
        if self.run.regularizer is not None:
            penalty = find("regularizers", self.run.regularizer, "penalty")
            # Neighbouring pairs of images make the pairs of classes.
            value = penalty(features.view(-1, 2, 2, features.shape[1]), self.run.form)
            metrics = {
                "loss": cross_entropy + self.run.coefficient * value,
                "cross_entropy": cross_entropy,
                self.run.regularizer: value,
            }
        step_down(metrics["loss"], self.optimizer, self.run, index)
        return metrics

    def validate(self) -> dict[str, float]:
        """Nearest-class-mean accuracy over all validation classes.

        Means of the even images, tested on the odd ones. It is for the log alone: no
        few-shot head takes part, so classical training depends on none.
        """
        features = self.task.validation_features()
        labels = torch.from_numpy(self.task.validation_labels).to(features.device)
        known, unknown = features[::2], features[1::2]
        of_class = functional.one_hot(labels[::2]).to(features.dtype)
        means = of_class.T @ known / of_class.sum(0)[:, None]
        nearest = (unknown @ means.T - means.square().sum(1) / 2).argmax(1)
        return {"validation": float((nearest == labels[1::2]).double().mean())}


class PairBatches:
    """Batches made of pairs of images of one class; every image once per epoch.

    Two images per class are what a within-class variance needs (section 4.4). Pairs are
    shuffled over classes, so the two pairs that make a pair of classes may now and then
    share theirs, as in the released code.

    Parameters
    ----------
    workers
        In the released code each of four loader processes counts its batches alone, so batches
        4k .. 4k + 3 of an epoch are the same pairs, and three quarters of them never come.
    """

    def __init__(
        self, labels: NDArray[np.int64], batch_size: int, seed: int, workers: int = 1
    ) -> None:
        self.labels = labels
        self.seed = seed
        self.workers = workers
        self.pairs_per_batch = batch_size // 2
        self.batches_per_epoch = int((np.bincount(labels) // 2).sum()) // self.pairs_per_batch
        self._epoch: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, index: int) -> NDArray[np.int64]:
        """Batch ``index``: (batch_size,) image indices; images 2k and 2k + 1 share a class."""
        epoch, batch = divmod(index, self.batches_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._pairs(epoch)
        start = batch // self.workers * self.pairs_per_batch
        return self._epoch[1][start : start + self.pairs_per_batch].reshape(-1)

    def _pairs(self, epoch: int) -> NDArray[np.int64]:
        """All pairs of an epoch in order: (pair, 2)."""
        random = generator(self.seed, "pairs", epoch)
        shuffled = random.permutation(len(self.labels))
        by_class = shuffled[np.argsort(self.labels[shuffled], kind="stable")]
        starts = np.cumsum(np.bincount(self.labels)) - np.bincount(self.labels)
        pairs = [
            members[: len(members) // 2 * 2].reshape(-1, 2)
            for members in np.split(by_class, starts[1:])
        ]
        return random.permutation(np.concatenate(pairs))
