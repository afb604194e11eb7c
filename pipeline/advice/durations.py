"""How long jobs took in earlier runs: the benchmark files under logs/, and trainings' records."""

import csv
import json
from pathlib import Path
from statistics import median
from typing import NamedTuple

from pipeline.advice.quantities import noun
from pipeline.advice.workflow import Job, remembered


class Duration(NamedTuple):
    seconds: float
    # Where the figure comes from, in words.
    source: str


class Benchmark(NamedTuple):
    """What Snakemake measured of one job."""

    seconds: float
    max_rss_mb: float | None


def read_benchmark(path: Path) -> Benchmark | None:
    """The last line of a benchmark file; None if there is none, or it is not whole."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file, delimiter="\t"))[-1]
        memory = last["max_rss"]
        return Benchmark(float(last["s"]), float(memory) if memory not in ("-", "NA", "") else None)
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


class Known:
    """The times of earlier runs, read when they are first asked for."""

    def __init__(self, logs: Path = Path("logs")) -> None:
        self.logs = logs
        self._of_rule: dict[str, list[Benchmark]] = {}

    def of_job(self, job: Job) -> Duration | None:
        """How long a job takes: what it took itself, or else what others of its rule did."""
        own = read_benchmark(Path(job.benchmark)) if job.benchmark else None
        if own:
            seconds, factor = own.seconds, 1.0
            if job.rule == "train":
                # Of a training that was interrupted the file tells the last part only.
                seconds = max(seconds, _wall_seconds(job))
                factor = _more_steps(job)
            source = "by their last run" if factor == 1 else "by their last run and number of steps"
            return Duration(seconds * factor, source)
        others = self.of_rule(job)
        if not others:
            return None
        middle = median(one.seconds for one in others)
        return Duration(middle, f"as the median of other {noun(job.rule)}")

    def of_rule(self, job: Job) -> list[Benchmark]:
        """What was measured of the jobs of a rule, of this scale if it was any."""
        if job.benchmark is None:
            return []
        parts = Path(job.benchmark).parts
        # logs/<scale>/<rule>/..., and logs/<rule>/... where there is no scale.
        folder = Path(*parts[: parts.index(job.rule) + 1]) if job.rule in parts else None
        if folder is None:
            return []
        if str(folder) not in self._of_rule:
            found = [read_benchmark(path) for path in sorted(folder.rglob("*.tsv"))]
            self._of_rule[str(folder)] = [one for one in found if one]
        return self._of_rule[str(folder)]


def _wall_seconds(job: Job) -> float:
    record = next((Path(one) for one in job.outputs if one.endswith("record.json")), None)
    try:
        return float(json.loads(record.read_text(encoding="utf-8"))["wall_s"]) if record else 0.0
    except (OSError, ValueError, KeyError):
        return 0.0


def _more_steps(job: Job) -> float:
    """How many times as many steps a training would take as it took."""
    memory = remembered(job.outputs[0])
    earlier = memory.settings if memory and memory.settings else job.settings
    before, after = (one.get("algorithm", {}).get("steps") for one in (earlier, job.settings))
    return float(after / before) if before and after else 1.0
