"""The records that a part of the report reads, and the numbers it asks of them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline import records
from pipeline.analysis.statistics import Estimate, estimate
from pipeline.errors import UserError

Samples = NDArray[np.float64]
# Relative to what they are made of, numbers up to this are what rounding leaves of 0.
_ROUNDING = 1e-9


def less(ours: ArrayLike, theirs: ArrayLike) -> Samples:
    """``ours - theirs``, element by element; 0 where they differ by rounding alone."""
    alike = np.isclose(ours, theirs, rtol=_ROUNDING, atol=0)
    return np.where(alike, 0.0, np.subtract(ours, theirs))


def estimated(samples: ArrayLike) -> Estimate:
    """As ``estimate``; 0 where the mean or its error is what rounding leaves of the samples."""
    found, least = estimate(samples), _ROUNDING * float(np.abs(samples).max())
    mean, se = (one if abs(one) > least else 0.0 for one in (found.mean, found.se or 0.0))
    return Estimate(mean, se, found.n)


def interval(found: Estimate) -> tuple[float, float] | None:
    """The 95 % confidence interval; none of equal samples, which leave their spread unknown."""
    return found.interval if found.se else None


@dataclass(frozen=True)
class Measured:
    """One quantity as it was measured, for each seed; falsy if it was not measured at all."""

    # Of each episode, or pair of classes, or fold of images; seeds share them.
    samples: Mapping[int, Samples] = field(default_factory=dict)
    # The records that hold it, below results/<scale>, and where in them.
    sources: tuple[str, ...] = ()
    place: str = ""
    # What one sample is.
    unit: str = "episode"
    # Of each seed, where the quantity is not the mean of the samples.
    values: Mapping[int, float] | None = None
    # What decides which samples there are; those of one basis can be paired.
    basis: str = ""
    # How many seeds there are, where what is measured is not of each, but of each pair of them.
    paired_seeds: int = 0
    # The least and the most that the quantity can be, where both are known.
    limits: tuple[float, float] | None = None

    def __bool__(self) -> bool:
        return bool(self.samples)

    @property
    def n_seeds(self) -> int:
        return self.paired_seeds or len(self.samples)

    def of_seeds(self) -> dict[int, float]:
        """The quantity of each seed."""
        if self.values is not None:
            return dict(self.values)
        return {seed: float(one.mean()) for seed, one in self.samples.items()}

    def over_seeds(self) -> Samples:
        """Each sample's mean over the seeds."""
        return np.asarray(np.mean(list(self.samples.values()), axis=0), dtype=np.float64)

    def estimate(self) -> Estimate:
        """The mean over seeds with the error that its samples give it; one sample gives none."""
        shared = self.over_seeds()
        mean = float(np.mean(list(self.of_seeds().values())))
        if len(shared) < 2:
            return Estimate(mean, None, len(shared))
        found = estimated(shared)
        return found if self.values is None else replace(found, mean=mean)

    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the estimate, as far as the quantity can go."""
        found = interval(self.estimate())
        if found is None or self.limits is None:
            return found
        low, high = np.clip(found, *self.limits).tolist()
        return low, high

    def minus(self, other: "Measured") -> "Measured":
        """The difference, sample by sample, of the seeds that both have.

        Raises
        ------
        ValueError
            If samples are not of the same episodes, pairs or folds.
        """
        seeds = [seed for seed in self.samples if seed in other.samples]
        if seeds and self.basis != other.basis:
            raise ValueError(f"samples of {self.basis} and {other.basis} cannot be paired")
        mine, theirs = self.of_seeds(), other.of_seeds()
        return Measured(
            {seed: less(self.samples[seed], other.samples[seed]) for seed in seeds},
            tuple(dict.fromkeys(self.sources + other.sources)) if seeds else (),
            self.place,
            self.unit,
            None
            if self.values is None
            else {seed: float(less(mine[seed], theirs[seed])) for seed in seeds},
            self.basis,
        )


class Results:
    """The records below a folder ``results/<scale>`` that the settings of a job name.

    ``read(path, kind)`` reads one; several results may share one that remembers what it read.

    A record that is not there is missing, which leaves its numbers out or, where the settings are
    strict, is an error. What the configuration does not ask for is no record of the settings.

    Raises
    ------
    UserError
        If a record is of another scale or in the place of another, two of one data set are not of
        the same images or episodes, two seeds of a run are not of the same budget, or one is
        missing where none may be.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        read: Callable[[Path, records.Kind], records.Record] = records.read,
    ) -> None:
        if not folder.is_dir():
            raise UserError(
                f"there is no {folder}: nothing of scale {settings['scale']} is there yet; "
                f"snakemake --cores all --config scale={settings['scale']} makes it"
            )
        self.folder = folder
        self.subjects: Mapping[str, records.Subjects] = settings["records"]
        self.missing: list[str] = []
        self._found: dict[tuple[str, str, str], dict[int, tuple[str, records.Record]]] = {}
        # What all records of a kind and data set must share, for samples to be paired.
        shared: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        for kind, subjects in self.subjects.items():
            for place in records.places(kind, subjects, settings["seeds"]):
                if not (folder / place).exists():
                    self.missing.append(place)
                    continue
                record = read(folder / place, kind)
                if record.scale != settings["scale"]:
                    raise UserError(
                        f"{folder / place} was made at scale {record.scale!r}, this is of "
                        f"{settings['scale']!r}: scales are never mixed"
                    )
                self._check(place, record, shared)
                subject = record.run or record.settings["simulation"]
                own = records.PLACES[kind].format(
                    dataset=record.dataset, run=subject, simulation=subject, seed=record.seed
                )
                if own != place:
                    raise UserError(
                        f"{folder / place} is the record of {own}; delete it and run snakemake "
                        "again"
                    )
                seeds = self._found.setdefault((kind, record.dataset or "", subject), {})
                seeds[record.seed or 0] = (place, record)
        if settings["strict"] and self.missing:
            raise UserError(
                f"records that the configuration asks for are missing, {len(self.missing)} in all; "
                "let snakemake make them, or leave out --strict\n"
                + "\n".join(f"  no {folder / place}" for place in self.missing)
            )

    def _check(
        self,
        place: str,
        record: records.Record,
        shared: dict[tuple[str, str], tuple[str, dict[str, Any]]],
    ) -> None:
        images = {"images": {"images": record.sources.get("images")}}
        for what, basis in (images | _bases(record)).items():
            first, expected = shared.setdefault((what, record.dataset or ""), (place, basis))
            if basis != expected:
                raise UserError(
                    f"{self.folder / place} and {self.folder / first} cannot be compared: {basis} "
                    f"and {expected}; run snakemake again, it makes both anew"
                )

    def expects(self, kind: records.Kind, dataset: str, run: str) -> bool:
        """Whether the run is trained on the data set; on one that is not there any might be."""
        runs = self.subjects.get(kind, {}).get(dataset)
        return runs is None or run in runs

    def all_of(self, kind: records.Kind) -> Iterator[tuple[str, records.Record]]:
        """Every record of a kind that was found, and where it lies."""
        for (of_kind, _, _), seeds in self._found.items():
            if of_kind == kind:
                yield from seeds.values()

    def images(self, dataset: str) -> dict[str, str] | None:
        """What records say of the images of a data set, if anything was measured on them."""
        for (_, of_dataset, _), seeds in self._found.items():
            for _, record in seeds.values():
                if of_dataset == dataset and "images" in record.sources:
                    return record.sources
        return None

    # Quantities

    def accuracy(self, dataset: str, run: str, fine_tuner: str, n_shot: int) -> Measured:
        """Accuracy of each episode, in percent."""
        shot = str(n_shot)
        heads = self.read(
            "evaluation", dataset, run, "correct", shot, fine_tuner, scale=_percent, basis="heads"
        )
        found = heads or self.read(
            "adaptation",
            dataset,
            run,
            fine_tuner,
            "correct",
            shot,
            scale=lambda values: _percent(values[fine_tuner]),
            basis=f"adaptation {fine_tuner}",
        )
        return replace(found, limits=(0.0, 100.0))

    def travel(
        self, dataset: str, run: str, adaptation: str, n_shot: int, quantity: str
    ) -> Measured:
        """A quantity of each fine-tuning: "distance", "loss_before" and others of its record."""
        return self.read(
            "adaptation",
            dataset,
            run,
            adaptation,
            quantity,
            str(n_shot),
            basis=f"adaptation {adaptation}",
        )

    def clustering(self, dataset: str, run: str, split: str, name: str) -> Measured:
        """A measure of each pair of classes."""
        return self.read("measurement", dataset, run, split, "pairs", name, unit="pair of classes")

    def population(self, dataset: str, run: str, split: str, *place: str) -> Measured:
        """A measure of all classes and embedded images at once; it has no samples."""
        return self.read("measurement", dataset, run, split, *place, unit="model")

    def step_seconds(self, dataset: str, run: str) -> Measured:
        """The time of a training step, in each stretch of the run."""
        return self.read(
            "training",
            dataset,
            run,
            "step_seconds",
            unit="stretch of training",
            basis=f"training {run}",
        )

    def separation(self, dataset: str, run: str, panel: str) -> Measured:
        """How well the plane of Figure 2 separates each choice of classes: the ratio's logarithm.

        A ratio may be tens of times another's, and few would decide a mean of them.
        """
        found = self.read("projection", dataset, run, panel, "ratios", unit="choice of classes")
        return replace(
            found, samples={seed: np.log(ratios) for seed, ratios in found.samples.items()}
        )

    def similarity(
        self, dataset: str, run: str, twin: str, split: str, name: str = "cka"
    ) -> Measured:
        """CKA of a meta-learned run's features and a twin's, of each seed; or of its own seeds.

        Samples are folds of the images, whose CKA is debiased.
        """
        for place, record in self._found.get(("similarity", dataset, run), {}).values():
            found = [pair for pair in record.values[split]["pairs"] if pair["run"] == twin]
            own = twin == run
            # A run's own seeds may meet several others each.
            pairs = dict(enumerate(found)) if own else {one["seed"]: one for one in found}
            seeds = {one[side] for one in found for side in ("seed", "against")}
            return Measured(
                {key: np.asarray(pair["folds"]) for key, pair in pairs.items()},
                (place,) if pairs else (),
                f"{split}.pairs.{twin}.{name}",
                "fold of images",
                {key: float(pair[name]) for key, pair in pairs.items()},
                "similarity",
                len(seeds) if own else 0,
            )
        return Measured()

    def simulation(self, name: str) -> records.Record | None:
        for _, record in self._found.get(("simulation", "", name), {}).values():
            return record
        return None

    def fine_tuners(self, dataset: str) -> list[tuple[str, str]]:
        """Each run with each of its fine-tuners."""
        return list(
            dict.fromkeys(
                (run, name)
                for (kind, of_dataset, run), seeds in self._found.items()
                if kind in ("evaluation", "adaptation") and of_dataset == dataset
                for _, record in seeds.values()
                for name in _fine_tuners(record)
            )
        )

    def adaptations(self) -> dict[str, dict[str, Any]]:
        """The options of each adaptation that was measured, by name."""
        found: dict[str, dict[str, Any]] = {}
        for _, record in self.all_of("adaptation"):
            found |= record.settings["adaptations"]
        return dict(sorted(found.items()))

    def read(
        self,
        kind: records.Kind,
        dataset: str,
        run: str,
        *place: str,
        scale: Callable[[Any], float] = lambda _: 1.0,
        unit: str = "episode",
        basis: str | None = None,
    ) -> Measured:
        """What stands at a place in the values of a run's records, times ``scale`` of these.

        All records of a kind are of one basis, unless one is given.
        """
        samples, sources = {}, []
        for seed, (file, record) in sorted(self._found.get((kind, dataset, run), {}).items()):
            value: Any = record.values
            for name in place:
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                factor = scale(record.values)
                samples[seed] = factor * np.atleast_1d(np.asarray(value, dtype=np.float64))
                sources.append(file)
        return Measured(samples, tuple(sources), ".".join(place), unit, basis=basis or kind)


def _percent(values: Mapping[str, Any]) -> float:
    return 100 / float(values["n_queries"])


def _bases(record: records.Record) -> dict[str, dict[str, Any]]:
    """What decides that samples of different models or seeds are of the same episodes or pairs."""
    settings = record.settings
    match record.kind:
        case "training":
            budget = {name: settings["algorithm"][name] for name in ("steps", "validations")}
            return {f"training {record.run}": budget}
        case "measurement":
            pairs = {name: settings[name] for name in ("n_pairs", "measurement_seed")}
            # Pairs are drawn from what is embedded: all novel images, but of base classes some.
            pairs["base_images_per_class"] = record.values["base"]["images_per_class"]
            return {"pairs": pairs}
        case "evaluation":
            return {"heads": {"episodes": settings["episodes"]}}
        case "adaptation":
            return {
                f"adaptation {name}": {"episodes": settings["episodes"], "options": options}
                for name, options in settings["adaptations"].items()
            }
        case "projection":
            names = ("n_classes", "n_images", "n_fit", "n_draws", "projection_seed")
            return {"projection": {name: settings[name] for name in names}}
        case _:
            return {}


def _fine_tuners(record: records.Record) -> list[str]:
    if record.kind == "evaluation":
        return [head["name"] for head in record.settings["heads"]]
    return list(record.settings["adaptations"])
