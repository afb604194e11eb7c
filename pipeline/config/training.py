"""Training algorithms: their defaults are the values of the paper's code or of what it cites."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import (
    Batching,
    Count,
    NonNegative,
    Positive,
    Schedule,
    Several,
    Share,
    Strict,
)


class Training(Strict):
    """What every training has in common."""

    steps: Count
    lr: Positive
    lr_factors: Schedule | Literal["linear"] = Field(
        description="Factor on lr from this fraction of the steps on, starting at 0; or from 1 "
        "to 0 in a line."
    )
    augment: bool = Field(True, description="Random crop, colour jitter, flip.")
    normalise: bool = Field(
        True, description="Subtract the base classes' channel mean, divide by their deviation."
    )
    validations: Count = Field(60, description="How often a run is validated, evenly spread.")
    selection: Literal["best", "last"] = Field(
        description="The weights that are kept: of the best validation, or the last."
    )

    @model_validator(mode="after")
    def _schedule_starts(self) -> Training:
        if self.lr_factors != "linear" and (
            0 not in self.lr_factors or not all(0 <= at < 1 for at in self.lr_factors)
        ):
            raise ValueError("lr_factors needs an entry at 0, and all entries in [0, 1)")
        return self


class Descent(Training):
    """Stochastic gradient descent on one loss."""

    momentum: Share = 0.9
    weight_decay: NonNegative = 5e-4
    label_smoothing: Share = Field(
        0.0, description="The mass that a target gives to the other classes, in equal parts."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the backbone's passes in training; all else stays float32."
    )


class Classical(Descent):
    """Cross-entropy over all base classes; defaults of the paper's released script."""

    algorithm: Literal["classical"]
    steps: Count = 180_000
    batch_size: Annotated[int, Field(gt=0, multiple_of=4, strict=True)] = 64
    lr: Positive = 0.01
    lr_factors: Schedule | Literal["linear"] = {
        Fraction(0): 1.0,
        Fraction(1, 3): 0.1,
        Fraction(1, 2): 0.01,
        Fraction(2, 3): 0.001,
        Fraction(5, 6): 0.0001,
    }
    selection: Literal["best", "last"] = "last"
    sampler: Literal["every_image", "released"] = Field(
        "every_image",
        description="Every image once an epoch; or what the released code's four workers made "
        "of it, a quarter of them four times.",
    )
    regularizer: Literal["feature_clustering", "hyperplane_variation"] | None = None
    form: Literal["printed", "released"] = Field(
        "released", description="Of the regulariser: the paper's formula or its code's."
    )
    coefficient: NonNegative = 1.0


class OnEpisodes(Strict):
    """The few-shot tasks that a training draws from the base classes."""

    meta_batch: Count
    n_way: Several = 5
    n_shot: Count
    n_query: Count
    validation_shots: tuple[Count, ...] = Field(
        min_length=1, description="All are logged; the first decides which weights are best."
    )
    validation_episodes: Several


class Episodic(Descent, OnEpisodes):
    """Meta-learning through a differentiable head; defaults of MetaOptNet's code."""

    algorithm: Literal["episodic"]
    head: Literal["ridge", "svm", "svm_qpth", "prototypes"]
    steps: Count = 60_000
    meta_batch: Count = 8
    n_shot: Count = 15
    n_query: Count = 6
    lr: Positive = 0.1
    lr_factors: Schedule | Literal["linear"] = {
        Fraction(0): 1.0,
        Fraction(1, 3): 0.06,
        Fraction(2, 3): 0.012,
        Fraction(5, 6): 0.0024,
    }
    selection: Literal["best", "last"] = "best"
    divide_by_features: bool = Field(
        False,
        description="Divide inner products by the number of features, as MetaOptNet does for "
        "prototypes.",
    )
    validation_shots: tuple[Count, ...] = (5, 1)
    validation_episodes: Several = 2000


class Gradient(Training, OnEpisodes):
    """Meta-learning of an initialisation: the whole network takes steps on each episode."""

    augment: bool = False
    normalise: bool = False
    selection: Literal["best", "last"]
    inner_lr: Positive
    inner_steps: Count
    validation_steps: Count
    batching: Batching = "auto"


class Maml(Gradient):
    """MAML and, first order, FOMAML (Finn et al., 2017); defaults of their released code."""

    algorithm: Literal["maml"]
    first_order: bool = Field(
        False, description="Take the inner steps' gradients for constants (FOMAML)."
    )
    steps: Count = 60_000
    meta_batch: Count = 4
    n_shot: Count = 1
    n_query: Count = 15
    lr: Positive = 1e-3
    lr_factors: Schedule | Literal["linear"] = {Fraction(0): 1.0}
    selection: Literal["best", "last"] = "best"
    inner_lr: Positive = Field(
        0.05,
        description="On the mean loss of the support. The released 0.01 is on five times that.",
    )
    inner_steps: Count = 5
    validation_steps: Count = 10
    adapt_batch_norm: bool = Field(
        False, description="Whether inner steps move batch norm's scale and shift as well."
    )
    clip: Positive | None = Field(
        10.0,
        description="Bound on each entry of the outer gradient, on the scale of the released "
        "loss: way x query / shot times the mean over queries.",
    )
    validation_shots: tuple[Count, ...] = (1,)
    validation_episodes: Several = 200


class Reptile(Gradient):
    """Reptile (Nichol & Schulman, 2018), and with a coefficient the paper's Weight-Clustering.

    Defaults of Reptile's released code; ``n_query`` serves validation alone.
    """

    algorithm: Literal["reptile"]
    steps: Count = 100_000
    meta_batch: Count = 5
    n_shot: Count = 15
    n_query: Count = 1
    lr: Positive = Field(1.0, description="How far the outer step goes towards the mean task.")
    lr_factors: Schedule | Literal["linear"] = "linear"
    selection: Literal["best", "last"] = "last"
    inner_lr: Positive = Field(1e-3, description="Of Adam without momentum (beta1 = 0).")
    inner_steps: Count = 8
    batch_size: Count = Field(10, description="Support images of an inner step.")
    validation_steps: Count = 50
    validation_batch_size: Count = 15
    validation_shots: tuple[Count, ...] = (5,)
    validation_episodes: Several = 100
    order: Literal["one_by_one", "lock_step"] = Field(
        "one_by_one",
        description="Each task's steps after those of the task before, or step j of all tasks "
        "before step j + 1 of any.",
    )
    moments: Literal["shared", "per_task"] = Field(
        "shared",
        description="Adam's second moments: handed from task to task, or a copy for each task, "
        "averaged at the outer step. Both persist for the whole run.",
    )
    coefficient: NonNegative = Field(
        0.0,
        description="Of the pull of each task's weights to the mean over tasks (Algorithm 2): "
        "alpha times the constant of the distance's gradient.",
    )
    distance: Literal["filter_normalised", "plain"] = Field(
        "filter_normalised", description="The distance whose square pulls."
    )
    pull: Literal["gradient", "weights"] = Field(
        "gradient", description="Part of the gradient that Adam sees, or a step of its own."
    )
    pull_vectors: bool = Field(
        False, description="Whether biases and batch norm are pulled as well."
    )

    @model_validator(mode="after")
    def _pull_needs_company(self) -> Reptile:
        if self.coefficient and (self.order != "lock_step" or self.meta_batch < 2):
            raise ValueError(
                "a coefficient needs order: lock_step and a meta_batch of 2 or more, since weights "
                "are pulled to the mean over the tasks at the same inner step"
            )
        return self
