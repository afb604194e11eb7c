"""Which trainings each of the paper's claims rests on: asked of the code that judges them.

Every comparison of a claim names the cells of tables that it compares, and every cell the records
that it is made of. So the claims are judged once on records that only pretend to be there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import jobs, records
from pipeline.config.experiment import Experiment
from pipeline.plugins import find
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.results import Measured, Results

Training = tuple[str, str, int]  # data set, run, seed
# What a comparison is worth on data on which the paper does not make the claim.
_ELSEWHERE = 0.25


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim, and all trainings that it needs."""

    claim: str
    name: str
    trainings: frozenset[Training]
    # Its part of the claim, which counts as one.
    value: float


def comparisons(experiment: Experiment) -> list[Comparison]:
    """Every comparison of every claim that trainings of this scale decide.

    The second seed of a comparison is worth half of the first, the third a third.
    """
    settings: dict[str, Any] = {**jobs.settings(experiment, "claims"), "strict": False}
    results = _Pretended(settings, experiment)
    sources = _Sources(results, settings)
    found = []
    for claim in CLAIMS:
        own = [
            (one.name, 1.0 if one.in_paper else _ELSEWHERE, places)
            for one in claim.findings(results, settings)
            if (places := sources.of_cells(one.cells))
        ]
        whole = sum(weight for _, weight, _ in own)
        for name, weight, places in own:
            for seed in range(experiment.seeds):
                needed = frozenset(
                    training for place in places for training in results.behind(place, seed)
                )
                found.append(Comparison(claim.id, name, needed, weight / whole / (seed + 1)))
    return found


class _Pretended(Results):
    """Results in which every record that the settings name seems to be there."""

    def __init__(self, settings: dict[str, Any], experiment: Experiment) -> None:
        # A folder without records.
        super().__init__(Path(__file__).parent, settings)
        self._experiment = experiment
        # To what a place leads: its kind, data set and run.
        self._places: dict[str, tuple[str, str, str]] = {}

    def read(self, kind: records.Kind, dataset: str, run: str, *place: str, **how: Any) -> Measured:
        there = run in self.subjects.get(kind, {}).get(dataset, [])
        if there and kind == "evaluation":
            there = place[-1] in self._experiment.heads_of(run)
        if there and kind == "adaptation":
            there = place[0] in self._experiment.adaptations_of(run)
        if not there:
            return Measured()
        return self._measured(kind, dataset, run, how.get("basis") or kind)

    def similarity(
        self,
        dataset: str,
        run: str,
        twin: str,
        split: str,  # noqa: ARG002
        name: str = "cka",  # noqa: ARG002
    ) -> Measured:
        twins = self._experiment.twins_of(run, dataset) if dataset else []
        if twin not in (run, *twins):
            return Measured()
        return self._measured("similarity", dataset, run, "similarity")

    def simulation(self, name: str) -> None:  # noqa: ARG002
        return None

    def all_of(self, kind: records.Kind) -> Iterator[tuple[str, records.Record]]:
        for dataset, runs in self.subjects.get(kind, {}).items():
            for run in runs:
                yield "", _RECORD.model_copy(update={"kind": kind, "dataset": dataset, "run": run})

    def _measured(self, kind: str, dataset: str, run: str, basis: str) -> Measured:
        place = f"{kind} {dataset} {run}"
        self._places[place] = (kind, dataset, run)
        return Measured({0: np.array([1.0, 2.0])}, (place,), basis=basis)

    def behind(self, place: str, seed: int) -> list[Training]:
        """The trainings that a record of this seed is made of."""
        kind, dataset, run = self._places[place]
        if kind != "similarity":
            return [(dataset, run, seed)]
        # It is one record of all seeds, of the run and all its twins.
        runs = [run, *self._experiment.twins_of(run, dataset)]
        return [(dataset, one, seed) for one in runs for seed in range(self._experiment.seeds)]


_RECORD = records.Record(
    kind="training",
    scale="",
    dataset=None,
    stands_for=None,
    run=None,
    seed=0,
    settings={},
    code="",
    sources={},
    versions={},
    device="",
    wall_s=0.0,
    values={},
)


class _Sources:
    """From cells of tables to the records that they are made of."""

    def __init__(self, results: Results, settings: dict[str, Any]) -> None:
        self._results = results
        self._settings = settings
        self._tables: dict[str, dict[str, tuple[str, ...]]] = {}

    def of_cells(self, cells: tuple[tuple[str, str], ...]) -> set[str]:
        """Of all of them; nothing if this scale leaves one of them out."""
        found = [self._table(table)[address] for table, address in cells]
        return {one for sources in found for one in sources} if all(found) else set()

    def _table(self, name: str) -> dict[str, tuple[str, ...]]:
        if name not in self._tables:
            table = find("report.tables", name, "table")(self._results, self._settings)
            self._tables[name] = {
                section.address(cell): cell.measured.sources
                for section in table.sections
                for cell in section.cells
            }
        return self._tables[name]
