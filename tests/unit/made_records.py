"""Records as the analysis writes them, of made-up numbers, and the experiment they belong to.

All runs of ``config.yaml`` are there, each on its data sets. ``Level`` says how large a quantity
of a run is on average; samples lie around it, so what a table or a claim should say is known.
"""

import json
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.stats import binomtest

from pipeline import config_files, jobs, records, shown
from pipeline.config.experiment import Experiment
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES

VERBS: dict[records.Kind, str] = {
    "training": "train",
    "evaluation": "evaluate",
    "adaptation": "adapt",
    "measurement": "measure",
    "similarity": "compare",
    "projection": "project",
    "simulation": "simulate",
}
REAL = {name: name for name in PAPER_NAMES}
STAND_INS = {name: f"synthetic_{name}" for name in PAPER_NAMES}
# Each adaptation has a number of episodes of its own, so none is paired with another unseen.
EPISODES = {"maml_fresh": 12, "maml": 9, "maml_inductive": 6, "reptile": 14, "reptile_inductive": 5}
OVERRIDES: dict[str, Any] = {
    "evaluation": {"n_episodes": 30},
    "adaptations": {name: {"n_episodes": n} for name, n in EPISODES.items()},
    "measurement": {"n_pairs": 8, "n_folds": 5},
    "projection": {"n_draws": 6},
}
N_QUERIES = 10_000
MEASURES = ("r_fc_released", "r_hv_released", "r_hv_printed")
POPULATION = ("r_fc", "r_hv", "within", "between")
TRAVEL = ("distance", "distance_with_head", "length", "loss_before", "loss_after")

# Of a quantity, a run, and what else it is of: a fine-tuner and shots, a split, a panel.
Level = Callable[[str, str, str], float]


@cache
def _experiment(roles: tuple[tuple[str, str], ...], scale: str, seeds: int) -> Experiment:
    overrides = {**OVERRIDES, "scale": scale, "seeds": seeds, "roles": dict(roles)}
    overrides["datasets"] = {"mini_imagenet": {"source": "mini_imagenet"}}
    found = config_files.load(overrides)
    # A scale may have more roles than are asked for.
    return found.model_copy(update={"roles": dict(roles)})


def experiment(
    roles: Mapping[str, str] = REAL, *, scale: str = "demo", seeds: int = 1, strict: bool = False
) -> Experiment:
    found = _experiment(tuple(roles.items()), scale, seeds)
    return found.model_copy(update={"strict": strict})


def write(
    folder: Path,
    of: Experiment,
    kind: records.Kind,
    values: Mapping[str, Any],
    changes: Mapping[str, Any] | None = None,
    images: str = "f00d",
    variant: str | None = None,
    **names: Any,
) -> Path:
    """One record in its place, with its job's settings; ``changes`` are of these."""
    settings = jobs.settings(of, VERBS[kind], **names)
    path = folder / records.PLACES[kind].format(**names)
    # The sources that a job of this kind has.
    hashes = {} if kind == "simulation" else {"images": images}
    if variant is not None:
        hashes["variant"] = variant
    if kind not in ("simulation", "training"):
        hashes["weights"] = "cafe"
    # Hundreds of them are made: to look versions up and to flush the disk takes most of the time.
    with patch.object(records, "versions", lambda: {"python": "3"}), patch("os.fsync"):
        records.write(
            path,
            kind,
            settings | dict(changes or {}),
            code="digest",
            sources=hashes,
            device="cpu",
            wall_s=1.0,
            values=dict(values),
        )
    return path


def fill(
    folder: Path,
    of: Experiment,
    level: Level,
    spread: float = 1.0,
    kinds: tuple[records.Kind, ...] = tuple(VERBS),
) -> None:
    """A record of every kind for every run that the experiment has."""
    for kind in kinds:
        names = _NAMES[kind]
        for dataset, runs in shown.subjects(of, kind).items():
            for run in runs:
                for seed in range(of.seeds if "seed" in names else 1):
                    given = {"dataset": dataset, "run": run, "simulation": run, "seed": seed}
                    given = {name: given[name] for name in names}
                    settings = jobs.settings(of, VERBS[kind], **given)
                    made = MADE[kind](settings, of.seeds, level, spread)
                    write(folder, of, kind, made, **given)


_RUN = ("dataset", "run", "seed")
_NAMES: dict[records.Kind, tuple[str, ...]] = dict.fromkeys(VERBS, _RUN)
_NAMES |= {"similarity": ("dataset", "run"), "simulation": ("simulation",)}


def scattered(quantity: str, run: str, where: str) -> float:
    """Something else for each quantity of each run, and always the same."""
    share = zlib.crc32(f"{quantity} {run} {where}".encode()) / 2**32
    if quantity == "steps":
        return float(round(100 + 900 * share))
    if quantity in ("error", "bound"):
        return share
    return 30 + 40 * share if quantity == "accuracy" else 0.5 + 2 * share


def around(mean: float, spread: float, n: int, *of: object) -> np.ndarray[Any, Any]:
    """Samples with exactly this mean and standard deviation, other ones for each name."""
    random = np.random.default_rng(zlib.crc32(repr(of).encode()))
    drawn = random.standard_normal(n)
    deviations = (drawn - drawn.mean()) / drawn.std(ddof=1)
    return mean + spread * deviations


def of_seed(mean: float, seed: int, *of: object) -> float:
    """Seeds shift all runs alike, and each a little in its own way."""
    own = zlib.crc32(repr((seed, *of)).encode()) / 2**32 - 0.5
    return mean * (1 + 0.003 * seed + 0.0005 * own)


def _evaluation(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    run, seed, n = settings["run"], settings["seed"], settings["episodes"]["n_episodes"]
    return {
        "n_queries": N_QUERIES,
        "correct": {
            str(shot): {
                head["name"]: _counts(level, run, seed, f"{head['name']} {shot}", n, spread)
                for head in settings["heads"]
            }
            for shot in settings["episodes"]["n_shots"]
        },
    }


def _counts(level: Level, run: str, seed: int, where: str, n: int, spread: float) -> list[int]:
    mean = of_seed(level("accuracy", run, where), seed, run, where)
    percent = around(mean, 0.3 * spread, n, run, seed, where)
    return np.rint(N_QUERIES / 100 * percent).astype(int).tolist()


def _adaptation(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    run, seed = settings["run"], settings["seed"]
    found: dict[str, Any] = {}
    for name, options in settings["adaptations"].items():
        n = options["n_episodes"]
        of_shots: dict[str, Any] = {quantity: {} for quantity in ("correct", *TRAVEL)}
        for shot in settings["episodes"]["n_shots"]:
            where = f"{name} {shot}"
            of_shots["correct"][str(shot)] = _counts(level, run, seed, where, n, spread)
            for quantity in TRAVEL:
                mean = of_seed(level(quantity, run, where), seed, run, quantity, where)
                made = around(mean, 0.05 * spread, n, run, seed, quantity, where)
                of_shots[quantity][str(shot)] = made.tolist()
        found[name] = {"n_queries": N_QUERIES, **of_shots}
    return found


def _measurement(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    run, seed, n = settings["run"], settings["seed"], settings["n_pairs"]

    def mean(quantity: str, split: str) -> float:
        return of_seed(level(quantity, run, split), seed, run, quantity, split)

    return {
        split: {
            "n_classes": 20,
            "images_per_class": 30,
            "r_fc_printed": mean("r_fc_printed", split),
            "population": {name: mean(f"population {name}", split) for name in POPULATION},
            "pairs": {
                name: around(mean(name, split), 0.05 * spread, n, run, seed, name, split).tolist()
                for name in MEASURES
            },
        }
        for split in ("base", "novel")
    }


def _similarity(settings: Any, seeds: int, level: Level, spread: float) -> dict[str, Any]:
    run = settings["run"]
    pairs = [(twin, seed, seed) for twin in settings["twins"] for seed in range(seeds)]
    pairs += [(run, later, earlier) for later in range(seeds) for earlier in range(later)]

    def one(split: str, twin: str, seed: int, against: int) -> dict[str, Any]:
        of = (run, twin, split, seed, against)
        mean = of_seed(level("cka", twin, f"{run} {split}"), seed, *of)
        folds = around(mean - 0.01, 0.01 * spread, settings["n_folds"], *of)
        return {
            "run": twin,
            "seed": seed,
            "against": against,
            "cka": mean,
            "cka_debiased": mean - 0.01,
            "folds": folds.tolist(),
        }

    return {
        split: {"n_images": 600, "pairs": [one(split, *pair) for pair in pairs]}
        for split in ("novel", "base")
    }


def _projection(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    run, seed, n = settings["run"], settings["seed"], settings["n_draws"]
    found: dict[str, Any] = {"classes": [0, 1, 2], "n_fit": 10}
    for panel in ("held_out", "in_sample"):
        mean = of_seed(level("ratios", run, panel), seed, run, panel)
        # They are compared by their logarithms.
        ratios = np.exp(around(np.log(mean), 0.05 * spread, n, run, seed, panel))
        found[panel] = {"points": [[[0.0, 0.0]]], "ratios": ratios.tolist()}
    return found


def _training(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    run, seed = settings["run"], settings["seed"]
    mean = of_seed(level("step_seconds", run, ""), seed, run)
    return {
        "steps": int(level("steps", run, "")),
        "step_seconds": around(mean, 0.01 * mean * spread, 10, run, seed).tolist(),
        "log": [],
    }


def _simulation(settings: Any, _: int, level: Level, spread: float) -> dict[str, Any]:
    if settings["simulation"] != "theorem1":
        return {"panels": []}
    return theorem1(level("error", "theorem1", ""), level("bound", "theorem1", ""))


def theorem1(error: float, bound: float, n: int = 1000) -> dict[str, Any]:
    """The law of this error and bound, and two others whose bounds say nothing."""
    row = {"law": "gaussian", "dimension": 2, "s_over_d": 0.001, "epsilon": 0.008}
    interval = binomtest(round(error * n), n).proportion_ci()
    row |= {"error": error, "interval": list(interval), "printed_bound": bound}
    return {
        "n_draws": n,
        "rows": [row, {**row, "printed_bound": 1.7}, {**row, "printed_bound": None}],
    }


MADE: dict[records.Kind, Callable[[Any, int, Level, float], dict[str, Any]]] = {
    "training": _training,
    "evaluation": _evaluation,
    "adaptation": _adaptation,
    "measurement": _measurement,
    "similarity": _similarity,
    "projection": _projection,
    "simulation": _simulation,
}


def values_of(folder: Path, kind: records.Kind, **names: Any) -> Any:
    """What a record holds, read without the pipeline."""
    path = folder / records.PLACES[kind].format(**names)
    return json.loads(path.read_text(encoding="utf-8"))["values"]


def results_of(folder: Path, of: Experiment, kinds: tuple[records.Kind, ...]) -> Results:
    return Results(folder, _reading(of, kinds))


def _reading(of: Experiment, kinds: tuple[records.Kind, ...]) -> dict[str, Any]:
    whole = jobs.settings(of, "claims")
    return whole | {"records": {kind: whole["records"][kind] for kind in kinds}}
