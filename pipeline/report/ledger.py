"""Where the paper and its code disagree or say nothing: what is done here, and what it changes."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.report.claims.verdicts import difference
from pipeline.report.results import Measured, Results, interval
from pipeline.report.table import Section


@dataclass(frozen=True)
class Deviation:
    """A row of ``ledger.csv``."""

    question: str
    # What is done here.
    default: str
    # The keys of the configuration with the values that give the other; several are divided
    # by semicolons. Empty where there is nothing to choose.
    switch: str
    reason: str
    source: str
    # What shows the effect, if anything that is measured anyway does: "accuracy" of
    # <run>/<fine-tuner>, or "clustering" of <run>/<class split>/<measure>.
    quantity: str
    here: str
    other: str

    @property
    def switches(self) -> list[str]:
        return [one for one in self.switch.split("; ") if one]


@dataclass(frozen=True)
class Effect:
    """Both sides of a deviation on one data set, as far as they were measured."""

    about: str
    here: Measured
    other: Measured

    @property
    def text(self) -> str:
        return f"{_value(self.here)} here, {_value(self.other)} with the other{self._changed}"

    @property
    def _changed(self) -> str:
        """Paired, where both sides are of the same samples."""
        sides = (self.other, self.here)
        if len({len(one) for side in sides for one in side.samples.values()}) != 1:
            return ""
        effect, _ = difference(*sides)
        if effect is None:
            return ""
        ends = interval(effect)
        within = f", 95 % interval [{ends[0]:.4g}, {ends[1]:.4g}]" if ends else ""
        return f"; difference {effect.mean:+.4g}{within}"


def ledger() -> list[Deviation]:
    """All rows, in their order."""
    path = Path(__file__).with_name("ledger.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return [Deviation(**row) for row in csv.DictReader(file)]


def effects(row: Deviation, results: Results, settings: Mapping[str, Any]) -> Iterator[Effect]:
    """What the records say of a row, for each data set on which both sides were measured."""
    for role, dataset in settings["roles"].items():
        for column in _columns(row, settings):
            here, other = (
                _read(row.quantity, side, results, dataset, column)
                for side in (row.here, row.other)
            )
            if here and other:
                yield Effect(f"{Section(role, dataset, []).short}, {column}", here, other)


def _columns(row: Deviation, settings: Mapping[str, Any]) -> list[str]:
    if row.quantity == "accuracy":
        return [f"{n_shot}-shot" for n_shot in settings["n_shots"]]
    return [row.here.split("/")[1] + " classes"] if row.quantity else []


def _read(quantity: str, side: str, results: Results, dataset: str, column: str) -> Measured:
    if quantity == "accuracy":
        run, fine_tuner = side.split("/")
        return results.accuracy(dataset, run, fine_tuner, int(column.removesuffix("-shot")))
    run, split, measure = side.split("/")
    pairs = results.clustering(dataset, run, split, measure)
    return pairs or results.population(dataset, run, split, measure)


def _value(measured: Measured) -> str:
    found = measured.estimate()
    return f"{found.mean:.4g}" + ("" if found.se is None else f" ± {found.se:.2g}")
