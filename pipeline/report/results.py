"""The records that a table reads, and the numbers it asks of them."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import records
from pipeline.errors import UserError

Samples = NDArray[np.float64]
# Of each seed that was trained.
PerSeed = Mapping[int, Samples]


class Results:
    """All records given to one table: evaluations, adaptations, measurements.

    Raises
    ------
    UserError
        If a record is of another scale, two of one data set are not of the same episodes, or
        two are of the same run and seed.
    """

    def __init__(self, paths: Iterable[Path], scale: str) -> None:
        self._found: dict[tuple[str, str, str], dict[int, records.Record]] = {}
        # What all records of a kind and data set must share, for samples to be paired.
        shared: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}
        for path in paths:
            record = records.read(path, "evaluation", "adaptation", "measurement")
            if record.scale != scale:
                raise UserError(
                    f"{path} was made at scale {record.scale!r}, this table is of {scale!r}: "
                    "scales are never mixed"
                )
            for what, basis in _bases(record).items():
                basis["images"] = record.sources.get("images")
                first, expected = shared.setdefault((what, record.dataset), (path, basis))
                if basis != expected:
                    raise UserError(
                        f"{path} and {first} cannot be compared: {basis} and {expected}; "
                        "run snakemake again, it makes both anew"
                    )
            seeds = self._found.setdefault((record.kind, record.dataset, record.run), {})
            if record.seed in seeds:
                raise UserError(
                    f"{path}: there are two records of this {record.kind} of {record.run} on "
                    f"{record.dataset}, seed {record.seed}; give one of them"
                )
            seeds[record.seed] = record

    def accuracy(self, dataset: str, run: str, fine_tuner: str, n_shot: int) -> PerSeed:
        """Accuracy in percent of each episode, (episode,), for each seed that was measured."""

        def of_head(values: dict[str, Any]) -> Samples | None:
            counts = values["correct"].get(str(n_shot), {}).get(fine_tuner)
            if counts is None:
                return None
            return _percent(counts, values["n_queries"])

        def of_adaptation(values: dict[str, Any]) -> Samples | None:
            counts = values.get(fine_tuner, {"correct": {}})["correct"].get(str(n_shot))
            if counts is None:
                return None
            return _percent(counts, values[fine_tuner]["n_queries"])

        return self._per_seed("evaluation", dataset, run, of_head) or self._per_seed(
            "adaptation", dataset, run, of_adaptation
        )

    def fine_tuners(self, dataset: str) -> list[tuple[str, str]]:
        """Each run with each of its fine-tuners."""
        return list(
            dict.fromkeys(
                (run, name)
                for (kind, of_dataset, run), seeds in self._found.items()
                if kind != "measurement" and of_dataset == dataset
                for record in seeds.values()
                for name in _fine_tuners(record)
            )
        )

    def adaptations(self) -> dict[str, dict[str, Any]]:
        """The options of each adaptation that was measured, by name."""
        found: dict[str, dict[str, Any]] = {}
        for seeds in self._found.values():
            for record in seeds.values():
                if record.kind == "adaptation":
                    found |= record.settings["adaptations"]
        return dict(sorted(found.items()))

    def clustering(self, dataset: str, run: str, split: str, name: str) -> PerSeed:
        """A measure of each pair of classes, (pair,), for each seed that was measured."""
        return self._per_seed(
            "measurement",
            dataset,
            run,
            lambda values: np.asarray(values[split]["pairs"][name], dtype=np.float64),
        )

    def printed_r_fc(self, dataset: str, run: str, split: str) -> PerSeed:
        """The printed R_FC, one ratio over all classes of a split, (1,), for each seed."""
        return self._per_seed(
            "measurement", dataset, run, lambda values: np.array([values[split]["r_fc_printed"]])
        )

    def _per_seed(
        self, kind: str, dataset: str, run: str, read: Callable[[dict[str, Any]], Samples | None]
    ) -> PerSeed:
        found = sorted(self._found.get((kind, dataset, run), {}).items())
        samples = {seed: read(record.values) for seed, record in found}
        return {seed: one for seed, one in samples.items() if one is not None}


def _percent(counts: list[int], n_queries: int) -> Samples:
    share: Samples = np.asarray(counts, dtype=np.float64) / n_queries
    return 100 * share


def _bases(record: records.Record) -> dict[str, dict[str, Any]]:
    """The settings by which samples of different models are of the same episodes or pairs."""
    settings = record.settings
    if record.kind == "measurement":
        return {"pairs": {name: settings.get(name) for name in ("n_pairs", "measurement_seed")}}
    episodes = {"episodes": settings.get("episodes")}
    if record.kind == "evaluation":
        return {"heads": episodes}
    return {
        f"adaptation {name}": {**episodes, "options": options}
        for name, options in settings.get("adaptations", {}).items()
    }


def _fine_tuners(record: records.Record) -> list[str]:
    if record.kind == "evaluation":
        return [head["name"] for head in record.settings["heads"]]
    return list(record.settings["adaptations"])


def over_seeds(samples: PerSeed) -> Samples:
    """Each episode's mean over the seeds, which share their episodes: (episode,)."""
    return np.asarray(np.mean(list(samples.values()), axis=0), dtype=np.float64)
