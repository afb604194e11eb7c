"""The experiment as typed models: what is not valid is refused here, before any job.

``config.yaml`` says what is compared, ``scales/<scale>.yaml`` how much budget it gets. The
defaults of each algorithm are the values of the paper's code or of the work it cites.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

SPLIT_CLASSES = {"base": 64, "validation": 16, "novel": 20}


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed in place of ``name``, the nearest first."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(options)}"


def _not_a_bool(value: Any) -> Any:
    # YAML reads `yes`, `no`, `on` and `off` as booleans, and Python counts them as numbers.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Count = Annotated[int, Field(gt=0, strict=True)]
Index = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, BeforeValidator(_not_a_bool), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False)]
# Names become folders, and parts of shell commands.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Schedule = dict[Fraction, Positive]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {nearest(str(key), cls.model_fields)}")
        return data


# Data sets


class CifarFS(Strict):
    """CIFAR-FS (Bertinetto et al., 2018): the 100 classes of CIFAR-100, split 64/16/20."""

    source: Literal["cifar_fs"]
    path: str | None = Field(
        None,
        description="Your own copy: the authors' archive (zip or folder) or CIFAR-100's python "
        "archive. Absent: it is downloaded.",
    )
    image_size: ClassVar[int] = 32
    images_per_class: ClassVar[int] = 600
    stands_for: ClassVar[str | None] = None


class Synthetic(Strict):
    """Generated images, a stand-in that needs no download."""

    source: Literal["synthetic"]
    stands_for: Name = Field(description="The data set whose place it takes.")
    image_size: Annotated[int, Field(ge=16, strict=True)]
    images_per_class: Count
    seed: Index = 0
    path: ClassVar[None] = None


Dataset = Annotated[CifarFS | Synthetic, Field(discriminator="source")]


# Training


class Descent(Strict):
    """What every training has in common."""

    steps: Count
    lr: Positive
    lr_factors: Schedule = Field(
        description="Factor on lr from this fraction of the steps on; starts at 0."
    )
    momentum: NonNegative = 0.9
    weight_decay: NonNegative = 5e-4
    augment: bool = Field(True, description="Random crop, colour jitter, flip.")
    normalise: bool = Field(
        True, description="Subtract the base classes' channel mean, divide by their deviation."
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="Of the backbone's passes in training; all else stays float32."
    )
    validations: Count = Field(60, description="How often a run is validated, evenly spread.")

    @model_validator(mode="after")
    def _schedule_starts(self) -> Descent:
        if 0 not in self.lr_factors or not all(0 <= at < 1 for at in self.lr_factors):
            raise ValueError("lr_factors needs an entry at 0, and all entries in [0, 1)")
        return self


class Classical(Descent):
    """Cross-entropy over all base classes; defaults of the paper's released script."""

    algorithm: Literal["classical"]
    steps: Count = 180_000
    batch_size: Annotated[int, Field(gt=0, multiple_of=4, strict=True)] = 64
    lr: Positive = 0.01
    lr_factors: Schedule = {
        Fraction(0): 1.0,
        Fraction(1, 3): 0.1,
        Fraction(1, 2): 0.01,
        Fraction(2, 3): 0.001,
        Fraction(5, 6): 0.0001,
    }
    regularizer: Literal["feature_clustering", "hyperplane_variation"] | None = None
    form: Literal["printed", "released"] = Field(
        "released", description="Of the regulariser: the paper's formula or its code's."
    )
    coefficient: NonNegative = 1.0


class Episodic(Descent):
    """Meta-learning through a differentiable head; defaults of MetaOptNet's code."""

    algorithm: Literal["episodic"]
    head: Literal["ridge"]
    steps: Count = 60_000
    meta_batch: Count = 8
    n_way: Annotated[int, Field(ge=2, strict=True)] = 5
    n_shot: Count = 15
    n_query: Count = 6
    lr: Positive = 0.1
    lr_factors: Schedule = {
        Fraction(0): 1.0,
        Fraction(1, 3): 0.06,
        Fraction(2, 3): 0.012,
        Fraction(5, 6): 0.0024,
    }
    validation_shot: Count = Field(5, description="The model with the best accuracy is kept.")
    validation_episodes: Count = 2000


class Run(Strict):
    """One training per data set and seed."""

    datasets: tuple[Name, ...] = Field(min_length=1, description="By the paper's names.")
    backbone: Literal["r2d2"]
    training: Classical | Episodic = Field(discriminator="algorithm")


# Heads and measurements


class Ridge(Strict):
    """Ridge regression on one-hot labels (Bertinetto et al., 2018)."""

    regularization: Positive = 50.0


class Prototypes(Strict):
    """Nearest class mean (Snell et al., 2017)."""


class Heads(Strict):
    ridge: Ridge = Ridge()
    prototypes: Prototypes = Prototypes()


class Evaluation(Strict):
    """Episodes of novel classes, the same for every model of a data set."""

    n_way: Annotated[int, Field(ge=2, strict=True)] = 5
    n_shots: tuple[Count, ...] = (1, 5)
    n_query: Count = Field(15, description="Queries per class.")
    n_episodes: Annotated[int, Field(ge=2, strict=True)] = 1000
    seed: Index = 0


class Measurement(Strict):
    """How feature clustering is measured."""

    n_pairs: Annotated[int, Field(ge=2, strict=True)] = Field(
        20_000, description="Random pairs of classes, two images of each class."
    )
    base_images_per_class: Annotated[int, Field(ge=2, strict=True)] | None = Field(
        None,
        description="Base-class images that are embedded, the first of each class; all if null.",
    )
    seed: Index = 0


# Budgets: all that a scale may change


class ClassicalBudget(Strict):
    steps: Count | None = None
    validations: Count | None = None


class EpisodicBudget(ClassicalBudget):
    meta_batch: Count | None = None
    n_shot: Count | None = None
    validation_episodes: Count | None = None


class AlgorithmBudgets(Strict):
    classical: ClassicalBudget = ClassicalBudget()
    episodic: EpisodicBudget = EpisodicBudget()


class EvaluationBudget(Strict):
    n_episodes: Count | None = None


class MeasurementBudget(Strict):
    n_pairs: Count | None = None
    base_images_per_class: Count | None = None


Roles = Annotated[
    dict[Name, Name],
    Field(description="Which data set takes the place of each of the paper's."),
]
Widths = Annotated[
    dict[Literal["r2d2"], Positive],
    Field(description="Factor on the channels of each backbone; 1 is the paper's."),
]


class Scale(Strict):
    """``scales/<scale>.yaml``: budgets and data, never the experiment itself."""

    roles: Roles
    seeds: Count
    width: Widths
    algorithms: AlgorithmBudgets = AlgorithmBudgets()
    evaluation: EvaluationBudget = EvaluationBudget()
    measurement: MeasurementBudget = MeasurementBudget()


# The whole


class Experiment(Strict):
    """``config.yaml`` with the budgets of one scale worked in."""

    scale: Name
    datasets: dict[Name, Dataset]
    roles: Roles
    seeds: Count
    width: Widths
    runs: dict[Name, Run]
    heads: Heads = Heads()
    evaluation: Evaluation = Evaluation()
    measurement: Measurement = Measurement()

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        for role, dataset in self.roles.items():
            if dataset not in self.datasets:
                raise ValueError(
                    f"roles.{role}: unknown data set {dataset!r}; {nearest(dataset, self.datasets)}"
                )
            if role != dataset and role != self.datasets[dataset].stands_for:
                raise ValueError(f"roles.{role}: {dataset!r} does not stand for {role!r}")
            evaluation = self.evaluation
            for n_shot in evaluation.n_shots:
                self._fits(
                    "evaluation", dataset, "novel", evaluation.n_way, n_shot, evaluation.n_query
                )
        known = {data.stands_for or name for name, data in self.datasets.items()}
        for name, data in self.datasets.items():
            if data.stands_for and name in known:
                raise ValueError(
                    f"datasets.{name}: generated images cannot bear the name of images of the "
                    f"paper; call them synthetic_{name}"
                )
        for name, run in self.runs.items():
            for role in run.datasets:
                if role not in known:
                    raise ValueError(
                        f"runs.{name}.datasets: unknown data set {role!r}; {nearest(role, known)}"
                    )
                if role in self.roles:
                    self._can_train(f"runs.{name}.training", run.training, self.roles[role])
        return self

    def _can_train(self, place: str, own: Classical | Episodic, dataset: str) -> None:
        if isinstance(own, Episodic):
            self._fits(place, dataset, "base", own.n_way, own.n_shot, own.n_query)
            self._fits(place, dataset, "validation", own.n_way, own.validation_shot, own.n_query)
            return
        paired = SPLIT_CLASSES["base"] * (self.datasets[dataset].images_per_class // 2) * 2
        if own.batch_size > paired:
            raise ValueError(
                f"{place}.batch_size: {own.batch_size} is more than the {paired} base images of "
                f"{dataset} that come in pairs of a class"
            )

    def _fits(
        self, place: str, dataset: str, split: str, n_way: int, n_shot: int, n_query: int
    ) -> None:
        classes, images = SPLIT_CLASSES[split], self.datasets[dataset].images_per_class
        if n_way > classes:
            raise ValueError(
                f"{place}.n_way: {n_way} is more than the {classes} {split} classes of {dataset}"
            )
        if n_shot + n_query > images:
            raise ValueError(
                f"{place}: {n_shot} shots + {n_query} queries = {n_shot + n_query} images of a "
                f"class, but {dataset} has {images}"
            )

    def trainings(self) -> list[tuple[str, str, int]]:
        """All (data set, run, seed) of this scale."""
        return [
            (self.roles[role], name, seed)
            for name, run in self.runs.items()
            for role in run.datasets
            if role in self.roles
            for seed in range(self.seeds)
        ]
