"""What jobs that were never timed take: how much there is to do, times how fast it is just now."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from pipeline import jobs
from pipeline.advice.workflow import Job
from pipeline.config.datasets import SPLIT_CLASSES
from pipeline.config.experiment import Experiment

# Rules whose jobs a device does for the most part.
ON_DEVICE = ("train", "embed", "adapt")
EARLIER = "by earlier runs"
NOW, SCALED = "from steps timed just now", "from passes of its backbone timed just now"
PARTS, START = "from parts of it timed just now", "no less than its start, timed just now"
# Of a download, and of packing what was downloaded, nothing can be told before.
UNKNOWN = "cannot be told before"


class Cost(NamedTuple):
    seconds: float | None
    # One of these, or in words.
    source: str


class Trainings(Protocol):
    """``pipeline.advice.plan.speed.Speed``, which needs torch."""

    def step(self, settings: Mapping[str, Any], image_size: int) -> Any: ...

    def passes(self, settings: Mapping[str, Any], image_size: int) -> Any: ...


class Others(Protocol):
    """``pipeline.advice.plan.parts.Parts``, which needs torch."""

    def start(self, module: str) -> float: ...

    def product(self) -> float: ...

    def episode(self, head: Mapping[str, Any], n_way: int, n_shot: int, n_query: int) -> float: ...

    def pair(self, n_features: int) -> float: ...

    def plane(self, n_classes: int, n_images: int, n_features: int) -> float: ...

    def image(self, settings: Mapping[str, Any]) -> float: ...


class Estimates:
    """Of the jobs of one experiment on this machine."""

    def __init__(self, experiment: Experiment, speed: Trainings, parts: Others) -> None:
        self.experiment = experiment
        self.speed = speed
        self.parts = parts

    def of(self, job: Job) -> Cost:
        settings = job.settings
        match job.rule:
            case "train":
                work, source = self._training(settings), NOW
            case "embed":
                work, source = self.n_embedded(settings) * self.passes(settings).forward, SCALED
            case "adapt":
                work, source = self._adaptations(settings), SCALED
            case "evaluate":
                work, source = self._evaluation(settings), PARTS
            case "measure":
                pair = self.parts.pair(self.passes(settings).n_features)
                work, source = 2 * settings["n_pairs"] * pair, PARTS
            case "compare":
                work, source = self._comparison(settings), PARTS
            case "project":
                work, source = self._projection(settings), PARTS
            case "pack" if settings["source"] == "synthetic":
                n_images = sum(SPLIT_CLASSES.values()) * settings["images_per_class"]
                work, source = n_images * self.parts.image(settings), PARTS
            case "fetch" if "--path" in job.command:
                return Cost(0.0, "only links to your own copy")
            case "fetch" | "pack":
                return Cost(None, UNKNOWN)
            case _:
                work, source = 0.0, START
        first = jobs.entries(job.rule, settings)[0].partition(":")[0]
        return Cost(self.parts.start(first) + work, source)

    def passes(self, settings: Mapping[str, Any]) -> Any:
        """Of the backbone of a job's run."""
        dataset, run = settings["dataset"], settings["run"]
        embedded = jobs.settings(self.experiment, "embed", dataset=dataset, run=run, seed=0)
        return self.speed.passes(embedded, self._image_size(dataset))

    def _training(self, settings: dict[str, Any]) -> float:
        algorithm, passes = settings["algorithm"], self.passes(settings)
        if algorithm["algorithm"] in ("classical", "episodic"):
            validation = self._n_images(settings, "validation") * passes.forward
        else:
            validation = sum(
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
        step = self.speed.step(settings, self._image_size(settings["dataset"]))
        return float(algorithm["steps"] * step.seconds + algorithm["validations"] * validation)

    def _adaptations(self, settings: dict[str, Any]) -> float:
        n_way, passes = settings["episodes"]["n_way"], self.passes(settings)
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

    def _evaluation(self, settings: dict[str, Any]) -> float:
        protocol = settings["episodes"]
        episodes = sum(
            self.parts.episode(head, protocol["n_way"], n_shot, protocol["n_query"])
            for head in settings["heads"]
            for n_shot in protocol["n_shots"]
        )
        return float(protocol["n_episodes"] * episodes) + self._products(settings, ["novel"])

    def _comparison(self, settings: dict[str, Any]) -> float:
        runs = [settings["run"], *settings["twins"]]
        return self.experiment.seeds * sum(
            self._products({**settings, "run": run}, ["novel", "base"]) for run in runs
        )

    def _products(self, settings: Mapping[str, Any], splits: Iterable[str]) -> float:
        """Of the Gram matrices of the images of splits."""
        base = self.experiment.measurement.base_images_per_class
        kept = {"novel": None, "base": base}
        n_products = sum(self._n_images(settings, split, kept[split]) ** 2 for split in splits)
        return float(n_products * self.passes(settings).n_features * self.parts.product())

    def _projection(self, settings: dict[str, Any]) -> float:
        """Each draw of classes has a plane of the images shown, and one of others."""
        n_shown, n_features = settings["n_images"], self.passes(settings).n_features
        left = self.experiment.datasets[settings["dataset"]].images_per_class - n_shown
        planes = sum(
            self.parts.plane(settings["n_classes"], n_images, n_features)
            for n_images in (n_shown, min(settings["n_fit"], left))
        )
        return float(settings["n_draws"] * planes)

    # How many images there are

    def _image_size(self, dataset: str) -> int:
        return self.experiment.datasets[dataset].image_size

    def _n_images(
        self, settings: Mapping[str, Any], split: str, per_class: int | None = None
    ) -> int:
        of_class = self.experiment.datasets[settings["dataset"]].images_per_class
        return SPLIT_CLASSES[split] * min(of_class, per_class or of_class)

    def n_embedded(self, settings: Mapping[str, Any]) -> int:
        chosen = settings["images_per_class"].items()
        return sum(self._n_images(settings, split, per_class) for split, per_class in chosen)


def _fine_tuning(passes: Any, steps: int, support: int, batch_size: int | None, seen: int) -> float:
    """Of one episode: gradient steps on its support, and images that are only looked at."""
    batch = min(support, batch_size or support)
    return float(steps * batch * passes.both + seen * passes.forward)


def kinds(run: Iterable[Job]) -> int:
    """How many kinds of trainings and backbones there are among jobs."""
    found = {
        (job.rule == "train", json.dumps([part, job.settings.get("stands_for")], sort_keys=True))
        for job in run
        if job.rule in ON_DEVICE
        for part in (job.settings["backbone"], job.settings.get("algorithm"))
        if part
    }
    return len(found)
