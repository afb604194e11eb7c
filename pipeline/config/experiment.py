"""The experiment as typed models: what is not valid is refused here, before any job.

``config.yaml`` says what is compared, ``scales/<scale>.yaml`` how much budget it gets.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from pipeline.config.backbones import R2D2, Conv4, ResNet12
from pipeline.config.datasets import SPLIT_CLASSES, Dataset
from pipeline.config.evaluation import (
    COMPARED_IMAGES,
    PROJECTED_IMAGES,
    Adaptation,
    Evaluation,
    Heads,
    Measurement,
    Projection,
    Simulations,
)
from pipeline.config.fields import Count, Name, Strict, nearest
from pipeline.config.scales import Roles
from pipeline.config.training import Classical, Descent, Episodic, Maml, Reptile


class Difference(Strict):
    """What is different on one data set."""

    backbone: dict[str, Any] = {}
    training: dict[str, Any] = {}


class Run(Strict):
    """One training per data set and seed."""

    datasets: dict[Name, Difference] = Field(
        min_length=1,
        description="By the paper's names: a list, or a mapping to what differs there.",
    )
    backbone: R2D2 | ResNet12 | Conv4 = Field(discriminator="name")
    training: Classical | Episodic | Maml | Reptile = Field(discriminator="algorithm")
    fine_tuners: tuple[Name, ...] = Field(
        ("ridge", "svm", "prototypes", "maml_fresh"),
        min_length=1,
        description="What evaluates it: names of heads and of adaptations.",
    )
    twin: Name | None = Field(
        None, description="Of a classical run: the meta-learned one of the same architecture."
    )

    @field_validator("datasets", mode="before")
    @classmethod
    def _listed(cls, datasets: Any) -> Any:
        return {str(name): {} for name in datasets} if isinstance(datasets, list) else datasets

    def on(self, role: str) -> Run:
        """The run as it is on one data set.

        Raises
        ------
        ValueError
            If a difference is not valid (pydantic's ValidationError).
        """
        different = self.datasets[role]
        content = self.model_dump(exclude={"datasets"})
        for part in ("backbone", "training"):
            content[part] |= getattr(different, part)
        return Run.model_validate({**content, "datasets": [role]})


class Experiment(Strict):
    """``config.yaml`` with the budgets of one scale worked in."""

    scale: Name
    datasets: dict[Name, Dataset]
    roles: Roles
    seeds: Count
    runs: dict[Name, Run]
    heads: Heads = Heads()
    adaptations: dict[Name, Adaptation] = {}
    evaluation: Evaluation = Evaluation()
    measurement: Measurement = Measurement()
    projection: Projection = Projection()
    simulations: Simulations = Simulations()
    strict: bool = Field(
        False,
        strict=True,
        description="Whether a record that the configuration asks for and that is missing is an "
        "error where it would be shown.",
    )

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
        for name in self.adaptations:
            if name in Heads.model_fields:
                raise ValueError(f"adaptations.{name}: a head has this name; take another")
        fine_tuners = [*Heads.model_fields, *self.adaptations]
        for name in self.projection.runs:
            if name not in self.runs:
                raise ValueError(
                    f"projection.runs: unknown run {name!r}; {nearest(name, self.runs)}"
                )
        for name, run in self.runs.items():
            if run.twin is not None and run.twin not in self.runs:
                raise ValueError(
                    f"runs.{name}.twin: unknown run {run.twin!r}; {nearest(run.twin, self.runs)}"
                )
            if run.twin == name:
                raise ValueError(f"runs.{name}.twin: a run is no twin of its own; name another")
            for one in run.fine_tuners:
                if one not in fine_tuners:
                    raise ValueError(
                        f"runs.{name}.fine_tuners: unknown fine-tuner {one!r}; "
                        f"{nearest(one, fine_tuners)}"
                    )
            for role in run.datasets:
                if role not in known:
                    raise ValueError(
                        f"runs.{name}.datasets: unknown data set {role!r}; {nearest(role, known)}"
                    )
                own = self._difference(f"runs.{name}", run, role)
                if role in self.roles:
                    self._can_run(f"runs.{name}", own, role)
                    if name in self.projection.runs:
                        self._can_project(self.roles[role])
                    if self.twins_of(name, self.roles[role]):
                        self._can_compare(self.roles[role])
        return self

    @staticmethod
    def _difference(place: str, run: Run, role: str) -> Run:
        """The run on a data set, if its differences there are valid."""
        try:
            return run.on(role)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            # pydantic adds the tag of a union to the place; the user wrote no such key.
            part, keys = first["loc"][0], first["loc"][2:]
            key = ".".join(str(one) for one in (part, *keys))
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"{place}.datasets.{role}.{key}: {message}") from None

    def _can_run(self, place: str, run: Run, role: str) -> None:
        """What the run asks of a data set is there."""
        own, dataset = run.training, self.roles[role]
        n_classes = SPLIT_CLASSES["base"] if isinstance(own, Classical) else own.n_way
        if isinstance(own, Descent) and own.label_smoothing > (n_classes - 1) / n_classes:
            raise ValueError(
                f"{place}.training.label_smoothing: {own.label_smoothing} would give the true one "
                f"of {n_classes} classes less than the others; "
                f"allowed: up to {(n_classes - 1) / n_classes:.3g}"
            )
        if isinstance(run.backbone, ResNet12) and run.backbone.drop_block:
            # Four poolings lie before the second DropBlock.
            side = self.datasets[dataset].image_size // 16
            if (run.backbone.block_size or 1) > side:
                raise ValueError(
                    f"{place}.backbone.block_size: {run.backbone.block_size} does not fit into the "
                    f"last feature map of {dataset}, {side} x {side}"
                )
        if not isinstance(own, Classical):
            place = f"{place}.training"
            # Reptile draws a support alone; its queries serve validation.
            n_query = 0 if isinstance(own, Reptile) else own.n_query
            self._fits(place, dataset, "base", own.n_way, own.n_shot, n_query)
            for n_shot in own.validation_shots:
                self._fits(place, dataset, "validation", own.n_way, n_shot, own.n_query)
        else:
            paired = SPLIT_CLASSES["base"] * (self.datasets[dataset].images_per_class // 2) * 2
            if own.batch_size > paired:
                raise ValueError(
                    f"{place}.training.batch_size: {own.batch_size} is more than the {paired} base "
                    f"images of {dataset} that come in pairs of a class"
                )
        for name in set(run.fine_tuners) & self.adaptations.keys():
            for n_shot in self.evaluation.n_shots:
                self._fits(
                    f"adaptations.{name}",
                    dataset,
                    "novel",
                    self.evaluation.n_way,
                    n_shot,
                    self.adaptations[name].n_query,
                )

    def _can_project(self, dataset: str) -> None:
        """There are the novel classes to draw, and images of each to show and to fit on."""
        n_classes, n_images = self.projection.n_classes, self.projection.n_images
        classes, images = SPLIT_CLASSES["novel"], self.datasets[dataset].images_per_class
        if n_classes > classes:
            raise ValueError(
                f"projection.n_classes: {n_classes} is more than the {classes} novel classes of "
                f"{dataset}"
            )
        if n_images + PROJECTED_IMAGES > images:
            raise ValueError(
                f"projection.n_images: {n_images} images to show + at least {PROJECTED_IMAGES} to "
                f"fit on = {n_images + PROJECTED_IMAGES} images of a class, but {dataset} has "
                f"{images}"
            )

    def _can_compare(self, dataset: str) -> None:
        """Each fold has as many images as similarity needs."""
        n_folds, images = self.measurement.n_folds, self.datasets[dataset].images_per_class
        embedded = {"novel": images, "base": self.measurement.base_images_per_class or images}
        for split, of_class in embedded.items():
            n_images = SPLIT_CLASSES[split] * min(of_class, images)
            if n_images < COMPARED_IMAGES * n_folds:
                raise ValueError(
                    f"measurement.n_folds: {n_folds} leaves {n_images // n_folds} of the "
                    f"{n_images} {split} images of {dataset} that are embedded to a fold, at "
                    f"least {COMPARED_IMAGES} are needed"
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

    def datasets_of(self, run: str) -> list[str]:
        """The data sets that a run can be trained on, and those that stand for them."""
        return [
            name
            for name, data in self.datasets.items()
            if (data.stands_for or name) in self.runs[run].datasets
        ]

    def run_on(self, run: str, dataset: str) -> Run:
        """A run as it is on a data set, or on the one whose place that takes."""
        return self.runs[run].on(self.datasets[dataset].stands_for or dataset)

    def heads_of(self, run: str) -> list[str]:
        """The heads that evaluate a run."""
        return [one for one in self.runs[run].fine_tuners if one in Heads.model_fields]

    def adaptations_of(self, run: str) -> list[str]:
        """The adaptations that evaluate a run."""
        return [one for one in self.runs[run].fine_tuners if one in self.adaptations]

    def twins_of(self, run: str, dataset: str) -> list[str]:
        """The classical runs whose features are compared with a meta-learned run's."""
        role = self.datasets[dataset].stands_for or dataset
        return [
            name
            for name, one in self.runs.items()
            if one.twin == run and role in one.datasets and role in self.runs[run].datasets
        ]
