"""The experiment as typed models: what is not valid is refused here, before any job.

``config.yaml`` says what is compared, ``scales/<scale>.yaml`` how much budget it gets. The
defaults of each algorithm are the values of the paper's code or of the work it cites.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
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
    model_config = ConfigDict(extra="forbid", frozen=True)

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


# Runs


class Run(Strict):
    """What every training has in common."""

    datasets: tuple[Name, ...] = Field(min_length=1, description="By the paper's names.")
    backbone: Literal["r2d2"]
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
    def _schedule_starts(self) -> Run:
        if 0 not in self.lr_factors or not all(0 <= at < 1 for at in self.lr_factors):
            raise ValueError("lr_factors needs an entry at 0, and all entries in [0, 1)")
        return self


class Classical(Run):
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


class Episodic(Run):
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


TrainingRun = Annotated[Classical | Episodic, Field(discriminator="algorithm")]


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


# The whole


class Experiment(Strict):
    """``config.yaml`` with the budgets of one scale worked in."""

    scale: Name
    datasets: dict[Name, Dataset]
    roles: dict[Name, Name] = Field(
        description="Which data set takes the place of each of the paper's."
    )
    seeds: Count
    width: dict[Literal["r2d2"], Positive] = Field(
        description="Factor on the channels of each backbone; 1 is the paper's."
    )
    runs: dict[Name, TrainingRun]
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
        for name, run in self.runs.items():
            for role in run.datasets:
                if role not in known:
                    raise ValueError(
                        f"runs.{name}.datasets: unknown data set {role!r}; {nearest(role, known)}"
                    )
                if role in self.roles and isinstance(run, Episodic):
                    dataset = self.roles[role]
                    place = f"runs.{name}"
                    self._fits(place, dataset, "base", run.n_way, run.n_shot, run.n_query)
                    self._fits(
                        place, dataset, "validation", run.n_way, run.validation_shot, run.n_query
                    )
        return self

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


def load(overrides: Mapping[str, Any] | None = None, root: Path = ROOT) -> Experiment:
    """Read ``config.yaml``, the scale's budgets and the user's overrides (which win).

    Raises
    ------
    UserError
        Naming each wrong key with its value, what is allowed, and the nearest valid name.
    """
    chosen = merged(read_yaml(root / "config.yaml"), overrides or {})
    scales = {path.stem: path for path in (root / "scales").glob("*.yaml")}
    scale = str(chosen.get("scale"))
    if scale not in scales:
        raise UserError(f"config key scale: unknown scale {scale!r}; {nearest(scale, scales)}")
    budget = read_yaml(scales[scale])
    budgets = budget.pop("algorithms", {})
    # The user's overrides win over the scale, and the scale over config.yaml.
    chosen = merged(merged(chosen, budget), overrides or {})
    runs = chosen.get("runs")
    if isinstance(runs, dict):
        for name, run in runs.items():
            if isinstance(run, dict):
                runs[name] = merged(budgets.get(run.get("algorithm"), {}), run)
    try:
        return Experiment.model_validate(chosen)
    except ValidationError as error:
        raise UserError(_explain(error)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from YAML; a key that stands twice is refused."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a mapping of keys to values is needed")
    return value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in a new one; where both have a value that is no mapping, ``above`` wins."""
    result = {
        key: merged(value, {}) if isinstance(value, dict) else value for key, value in below.items()
    }
    for key, value in above.items():
        under = result.get(key)
        result[key] = (
            merged(under if isinstance(under, dict) else {}, value)
            if isinstance(value, Mapping)
            else value
        )
    return result


def schema() -> dict[str, Any]:
    """The JSON schema of the experiment, for editors."""
    return Experiment.model_json_schema()


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe subset, where a repeated key is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"key {key!r} stands twice{key_node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        parts = [str(part) for part in problem["loc"] if part != "[key]"]
        # pydantic adds the tag of a union to the place; the user wrote no such key.
        if len(parts) > 3 and parts[0] in ("runs", "datasets"):
            del parts[2]
        value, context = problem["input"], problem.get("ctx", {})
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "union_tag_invalid":
            parts.append(context["discriminator"].strip("'"))
            value = context["tag"]
            message = nearest(value, context["expected_tags"].replace("'", "").split(", "))
        elif problem["type"] == "literal_error" and isinstance(value, str):
            allowed = re.findall("'(.*?)'", context["expected"])
            message = f"unknown; {nearest(value, allowed)}"
        shown = "" if isinstance(value, dict) else f" (value: {value!r})"
        lines.append(f"  {'.'.join(parts) + ': ' if parts else ''}{message}{shown}")
    return "the configuration is not valid:\n" + "\n".join(lines)
