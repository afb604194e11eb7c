"""What the jobs of a run take: seconds, bytes on disk, and where each figure comes from."""

from dataclasses import replace
from pathlib import Path
from statistics import median

from pipeline.advice.durations import Known, read_benchmark
from pipeline.advice.plan.estimates import EARLIER, UNKNOWN, Cost, Estimates
from pipeline.advice.workflow import Job
from pipeline.config.datasets import SPLIT_CLASSES
from pipeline.config.experiment import Experiment

# Rules all of whose jobs at a scale take about the same.
_ALIKE = ("evaluate", "measure", "compare", "project", "table", "figure")
_FLOAT = 4


class Costs:
    """Of the jobs of one experiment: what was measured goes before what is estimated."""

    def __init__(
        self, experiment: Experiment, known: Known, estimates: Estimates | None = None
    ) -> None:
        self.experiment = experiment
        self.known = known
        # None: only what was measured earlier.
        self.estimates = estimates

    def of(self, job: Job) -> Cost:
        seconds = self._itself(job)
        if seconds is not None:
            return Cost(seconds, EARLIER)
        if job.rule in _ALIKE and (others := self.known.of_job(job)):
            return Cost(*others)
        return self.estimates.of(job) if self.estimates else Cost(None, UNKNOWN)

    def _itself(self, job: Job) -> float | None:
        """What the job took, or the same with another seed."""
        if job.benchmark is None:
            return None
        own = Path(job.benchmark)
        if not read_benchmark(own) and own.name.startswith("seed"):
            alike = [_with_seed(job, path) for path in sorted(own.parent.glob("seed*.tsv"))]
        else:
            alike = [job]
        times = [
            found.seconds
            for one in alike
            if one.benchmark and read_benchmark(Path(one.benchmark))
            if (found := self.known.of_job(one))
        ]
        return median(times) if times else None

    def disk(self, job: Job) -> float | None:
        """Bytes of what a job leaves, where they can be told before."""
        sizes = [_size_of_like(Path(file)) for file in job.outputs]
        if job.rule in ("train", "embed") and all(sizes):
            return float(sum(size for size in sizes if size))
        if job.rule == "pack":
            data = self.experiment.datasets[job.settings["dataset"]]
            n_images = sum(SPLIT_CLASSES.values()) * data.images_per_class
            return float(n_images * (3 * data.image_size**2 + 8))
        if job.rule not in ("train", "embed") or self.estimates is None:
            return None
        passes = self.estimates.passes(job.settings)
        if job.rule == "embed":
            n_embedded = self.estimates.n_embedded(job.settings)
            return float(n_embedded * (_FLOAT * passes.n_features + 8))
        algorithm = job.settings["algorithm"]["algorithm"]
        n_outputs = SPLIT_CLASSES["base"] if algorithm == "classical" else 5
        n_parameters = passes.n_parameters + n_outputs * passes.n_features
        # Reptile leaves Adam's second moments as well.
        return float(_FLOAT * n_parameters * (2 if algorithm == "reptile" else 1))


def _with_seed(job: Job, benchmark: Path) -> Job:
    """The job with the seed that another benchmark file is of."""
    own = Path(job.benchmark or "").stem
    outputs = (
        Path(*(benchmark.stem if part == own else part for part in Path(file).parts))
        for file in job.outputs
    )
    return replace(job, benchmark=str(benchmark), outputs=tuple(map(str, outputs)))


def _size_of_like(file: Path) -> int | None:
    """The size of a file, or of the one that another seed has in its place."""
    if file.exists():
        return file.stat().st_size
    parts = [
        "seed*" if part.startswith("seed") and part[4:].isdigit() else part for part in file.parts
    ]
    found = list(Path().glob(str(Path(*parts)))) if "seed*" in parts else []
    return found[0].stat().st_size if found else None


def max_memory(logs: Path, scale: str) -> float | None:
    """The most memory, in MB, that a job of a scale was seen to hold."""
    seen = [
        one.max_rss_mb
        for path in (logs / scale).rglob("*.tsv")
        if (one := read_benchmark(path)) and one.max_rss_mb
    ]
    return max(seen, default=None)
