"""What is measured of a model: fine-tuners, episodes, clustering."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.fields import Batching, Count, Index, Name, Positive, Several, Strict

# Heads: fitted on the features of the support


class Ridge(Strict):
    """Ridge regression on one-hot labels."""

    regularization: Positive = 50.0
    form: Literal["metaoptnet", "original"] = Field(
        "metaoptnet",
        description="The original (Bertinetto et al., 2018) has a bias, and its regularisation "
        "grows with the support.",
    )


class Svm(Strict):
    """Crammer and Singer's multi-class SVM, as in MetaOptNet (Lee et al., 2019)."""

    C: Positive = 0.1
    jitter: Positive = Field(1.0, description="Added to the kernel's diagonal.")


class SvmQpth(Svm):
    """The same, solved by qpth as MetaOptNet did; its test script stopped after 3 iterations."""

    max_iter: Count = 15


class Prototypes(Strict):
    """Nearest class mean (Snell et al., 2017)."""


class Heads(Strict):
    ridge: Ridge = Ridge()
    svm: Svm = Svm()
    svm_qpth: SvmQpth = SvmQpth()
    prototypes: Prototypes = Prototypes()


# Adaptations: gradient steps of the whole network


class Adaptation(Strict):
    """Gradient steps of the whole network on the support of an episode."""

    optimizer: Literal["sgd", "adam"] = Field(
        "sgd",
        description="Adam is without momentum (beta1 = 0), and starts from the second moments "
        "that a run leaves, if it leaves some.",
    )
    lr: Positive
    steps: Count
    batch_size: Count | None = Field(None, description="Support images of a step; all if null.")
    head: Literal["own", "new"] = Field(
        "own",
        description="The one that the run left, if it left one of as many classes, or a new one "
        "for each episode; then second moments are new as well.",
    )
    new_head: Literal["kaiming", "zero"] = Field("kaiming", description="How a new head starts.")
    adapt_batch_norm: bool = Field(
        True, description="Whether batch norm's scale and shift move as well."
    )
    statistics: Literal["transductive", "inductive", "running"] = Field(
        "transductive",
        description="Batch norm's, for queries: of all of them as one batch; of the support and "
        "one query at a time; or those of the base classes, in the steps too.",
    )
    n_query: Count = Field(15, description="Queries per class.")
    n_episodes: Several = 1000
    batching: Batching = "auto"


# Protocols

# The fewest images of each of three classes that two principal components are found in.
PROJECTED_IMAGES = 4
# The fewest that CKA is taken of: its unbiased estimator divides by n - 3.
COMPARED_IMAGES = 4


class Evaluation(Strict):
    """Episodes of novel classes, the same for every model of a data set."""

    n_way: Several = 5
    n_shots: tuple[Count, ...] = Field((1, 5), min_length=1)
    n_query: Count = Field(15, description="Queries per class.")
    n_episodes: Several = 1000
    seed: Index = 0

    @field_validator("n_shots")
    @classmethod
    def _distinct(cls, n_shots: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(n_shots)) < len(n_shots):
            raise ValueError("a shot stands twice")
        return n_shots


class Measurement(Strict):
    """How feature clustering is measured."""

    n_pairs: Several = Field(
        20_000, description="Random pairs of classes, two images of each class."
    )
    base_images_per_class: Several | None = Field(
        None,
        description="Base-class images that are embedded, the first of each class; all if null.",
    )
    n_folds: Several = Field(10, description="Parts of the images that CKA is taken of as well.")
    seed: Index = 0


class Projection(Strict):
    """The plane of Figure 2: of some novel classes, by linear discriminant analysis."""

    runs: tuple[Name, ...] = Field((), description="Those that are projected.")
    n_classes: Count = Field(3, ge=3)
    n_images: Count = Field(100, ge=PROJECTED_IMAGES, description="Shown, of each class.")
    n_fit: Count = Field(
        500,
        ge=PROJECTED_IMAGES,
        description="Other images of each class that the plane is fitted to, if it has them.",
    )
    n_draws: Several = Field(50, description="Random choices of classes; the first is shown.")
    seed: Index = 0


class Theorem1(Strict):
    """One-shot classification of two classes, by laws and dimensions."""

    n_draws: Several = Field(100_000, description="One-shot pairs of each law.")
    seed: Index = 0


class Boundaries(Strict):
    """Figure 1: one-shot boundaries between two classes in a plane."""

    n_draws: Several = 10_000
    n_shown: Count = Field(5, description="Boundaries that are drawn.")
    seed: Index = 0


class Simulations(Strict):
    """What is computed without data and models."""

    theorem1: Theorem1 = Theorem1()
    boundaries: Boundaries = Boundaries()
