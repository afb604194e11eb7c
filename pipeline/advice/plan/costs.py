"""What the jobs of a run take: seconds, bytes on disk, and where each figure comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

from pipeline.advice.durations import Known, read_benchmark
from pipeline.advice.workflow import Job
from pipeline.config.datasets import SPLIT_CLASSES
from pipeline.config.experiment import Experiment

# Rules whose jobs a device does.
ON_DEVICE = ("train", "embed", "adapt")
EARLIER, NOW, SCALED = "earlier runs", "steps just now", "passes of its backbone just now"
UNKNOWN = "unknown"
_FLOAT = 4


class Cost(NamedTuple):
    seconds: float | None
    # EARLIER, NOW, SCALED, UNKNOWN, or in words.
    source: str


class Measures(Protocol):
    """``pipeline.advice.plan.speed.Speed``, which needs torch."""

    def step(self, settings: Mapping[str, Any], image_size: int) -> Any: ...

    def passes(self, settings: Mapping[str, Any], image_size: int) -> Any: ...


class Costs:
    """Of the jobs of one experiment on this machine."""

    def __init__(self, experiment: Experiment, known: Known, speed: Measures | None) -> None:
        self.experiment = experiment
        self.known = known
        # None: only what was measured earlier.
        self.speed = speed

    def of(self, job: Job) -> Cost:
        earlier = self.earlier(job)
        if earlier is not None:
            return Cost(earlier, EARLIER)
        if job.rule in ON_DEVICE:
            return self._now(job) if self.speed else Cost(None, UNKNOWN)
        others = self.known.of_rule(job) or self._of_other_scales(job)
        if others:
            return Cost(
                median(one.seconds for one in others), f"the median of earlier {job.rule} jobs"
            )
        return Cost(None, UNKNOWN)

    def earlier(self, job: Job) -> float | None:
        """What the job took, or the same with another seed."""
        if job.benchmark is None:
            return None
        own = Path(job.benchmark)
        if read_benchmark(own):
            found = self.known.of_job(job)
            return found.seconds if found else None
        if not own.name.startswith("seed"):
            return None
        times = [one.seconds for path in own.parent.glob("*.tsv") if (one := read_benchmark(path))]
        return median(times) if times else None

    def _of_other_scales(self, job: Job) -> list[Any]:
        paths = self.known.logs.glob(f"*/{job.rule}/**/*.tsv")
        return [one for path in paths if (one := read_benchmark(path))]

    def _now(self, job: Job) -> Cost:
        settings, size = job.settings, self._image_size(job)
        assert self.speed is not None
        passes = self.speed.passes(settings, size)
        if job.rule == "train":
            algorithm = settings["algorithm"]
            step = self.speed.step(settings, size)
            validation = algorithm["validations"] * self._validation(job, passes)
            return Cost(algorithm["steps"] * step.seconds + validation, NOW)
        if job.rule == "embed":
            return Cost(self._n_embedded(job) * passes.forward, SCALED)
        return Cost(self._adaptations(settings, passes), SCALED)

    def _validation(self, job: Job, passes: Any) -> float:
        algorithm = job.settings["algorithm"]
        if algorithm["algorithm"] in ("classical", "episodic"):
            return float(self._n_images(job, "validation") * passes.forward)
        return float(
            sum(
                algorithm["validation_episodes"]
                * _fine_tuning(
                    passes,
                    algorithm["validation_steps"],
                    algorithm["n_way"] * n_shot,
                    algorithm.get("validation_batch_size"),
                    algorithm["n_way"] * algorithm["n_query"],
                )
                for n_shot in algorithm["validation_shots"]
            )
        )

    def _adaptations(self, settings: dict[str, Any], passes: Any) -> float:
        n_way = settings["episodes"]["n_way"]
        total = 0.0
        for one in settings["adaptations"].values():
            # Without transduction each query is seen beside the whole support.
            inductive = one["statistics"] == "inductive"
            for n_shot in settings["episodes"]["n_shots"]:
                support, query = n_way * n_shot, n_way * one["n_query"]
                seen = query * (support + 1) if inductive else query
                # The loss of the support is measured before and after.
                seen += 2 * support
                total += one["n_episodes"] * _fine_tuning(
                    passes, one["steps"], support, one["batch_size"], seen
                )
        return total

    # Sizes

    def _image_size(self, job: Job) -> int:
        return self.experiment.datasets[job.settings["dataset"]].image_size

    def _n_images(self, job: Job, split: str, per_class: int | None = None) -> int:
        of_class = self.experiment.datasets[job.settings["dataset"]].images_per_class
        return SPLIT_CLASSES[split] * min(of_class, per_class or of_class)

    def _n_embedded(self, job: Job) -> int:
        chosen = job.settings["images_per_class"].items()
        return sum(self._n_images(job, split, per_class) for split, per_class in chosen)

    def disk(self, job: Job) -> float | None:
        """Bytes of what a job leaves, where they can be told before."""
        sizes = [_size_of_like(Path(file)) for file in job.outputs]
        if job.rule in ("train", "embed") and all(sizes):
            return float(sum(size for size in sizes if size))
        if job.rule == "pack":
            data = self.experiment.datasets[job.settings["dataset"]]
            n_images = sum(SPLIT_CLASSES.values()) * data.images_per_class
            return float(n_images * (3 * data.image_size**2 + 8))
        if job.rule not in ("train", "embed") or self.speed is None:
            return None
        passes = self.speed.passes(job.settings, self._image_size(job))
        if job.rule == "embed":
            return float(self._n_embedded(job) * (_FLOAT * passes.n_features + 8))
        algorithm = job.settings["algorithm"]["algorithm"]
        n_outputs = SPLIT_CLASSES["base"] if algorithm == "classical" else 5
        n_parameters = passes.n_parameters + n_outputs * passes.n_features
        # Reptile leaves Adam's second moments as well.
        return float(_FLOAT * n_parameters * (2 if algorithm == "reptile" else 1))


def _fine_tuning(passes: Any, steps: int, support: int, batch_size: int | None, seen: int) -> float:
    """Of one episode: gradient steps on its support, and images that are only looked at."""
    batch = min(support, batch_size or support)
    return float(steps * batch * passes.both + seen * passes.forward)


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


def kinds(run: list[Job]) -> int:
    """How many kinds of trainings and backbones there are among jobs."""
    found = {
        (job.rule == "train", json.dumps([part, job.settings.get("stands_for")], sort_keys=True))
        for job in run
        if job.rule in ON_DEVICE
        for part in (job.settings["backbone"], job.settings.get("algorithm"))
        if part
    }
    return len(found)
