"""The records that a table reads, and the numbers it asks of them."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import records
from pipeline.analysis.statistics import Estimate
from pipeline.errors import UserError

# The settings by which samples of different models are of the same episodes or pairs.
_SHARED = {"evaluation": ["episodes"], "measurement": ["n_pairs", "measurement_seed"]}

Samples = NDArray[np.float64]


class Results:
    """All evaluation and measurement records given to one table.

    Raises
    ------
    UserError
        If a record is of another scale, or two of one data set are not of the same episodes.
    """

    def __init__(self, paths: Iterable[Path], scale: str) -> None:
        self._found: dict[tuple[str, str, str], list[records.Record]] = {}
        # What all records of a kind and data set must share, for samples to be paired.
        shared: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}
        for path in paths:
            record = records.read(path, "evaluation", "measurement")
            if record.scale != scale:
                raise UserError(
                    f"{path} was made at scale {record.scale!r}, this table is of {scale!r}: "
                    "scales are never mixed"
                )
            basis = {name: record.settings.get(name) for name in _SHARED[record.kind]}
            basis["images"] = record.sources["images"]
            first, expected = shared.setdefault((record.kind, record.dataset), (path, basis))
            if basis != expected:
                raise UserError(
                    f"{path} and {first} cannot be compared: {basis} and {expected}; "
                    "run snakemake again, it makes both anew"
                )
            self._found.setdefault((record.kind, record.dataset, record.run), []).append(record)

    def accuracy(self, dataset: str, run: str, head: str, n_shot: int) -> list[Samples] | None:
        """Accuracy in percent of each episode, (episode,), for each seed; None if not measured."""
        return self._per_seed(
            "evaluation",
            dataset,
            run,
            lambda values: (
                100 * np.asarray(values["correct"][str(n_shot)][head]) / values["n_queries"]
            ),
        )

    def clustering(self, dataset: str, run: str, split: str, name: str) -> list[Samples] | None:
        """A measure of each pair of classes, (pair,), for each seed; None if not measured."""
        return self._per_seed(
            "measurement",
            dataset,
            run,
            lambda values: np.asarray(values[split]["pairs"][name], dtype=np.float64),
        )

    def printed_r_fc(self, dataset: str, run: str, split: str) -> Estimate | None:
        """The printed R_FC: one ratio over all classes of a split; mean over seeds."""
        found = self._found.get(("measurement", dataset, run))
        if not found:
            return None
        ratios = [record.values[split]["r_fc_printed"] for record in found]
        return Estimate(float(np.mean(ratios)), None, len(ratios))

    def _per_seed(
        self, kind: str, dataset: str, run: str, read: Callable[[dict[str, Any]], Samples]
    ) -> list[Samples] | None:
        found = self._found.get((kind, dataset, run))
        if not found:
            return None
        return [read(record.values) for record in sorted(found, key=lambda record: record.seed)]


def over_seeds(samples: list[Samples]) -> Samples:
    """Each episode's mean over the seeds, which share their episodes: (episode,)."""
    return np.asarray(np.mean(samples, axis=0), dtype=np.float64)
