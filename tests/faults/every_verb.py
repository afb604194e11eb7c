"""Call every verb of the command line once, in the folder that is named, and say how each ended.

A process of its own, since an encoding is chosen when Python starts. The configuration is one of
seconds. The last argument is a file: verb -> exit status, or the error that came out.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline import config_files, jobs
from pipeline.__main__ import main
from tests.conftest import ALGORITHMS, BACKBONES, TINY

RUNS = ("r2d2_ridge", "r2d2_classical", "maml_1shot")
MODEL: dict[str, Any] = {"dataset": "tiny", "run": "r2d2_ridge", "seed": 0}
load = config_files.load


def experiment() -> dict[str, Any]:
    whole = load().runs
    return config_files.merged(
        TINY,
        {
            "scale": "demo",
            "datasets": {"tiny": {"images_per_class": 10}},
            "runs": {
                name: {
                    "datasets": ["cifar_fs"],
                    "backbone": BACKBONES[run.backbone.name],
                    "training": {
                        **ALGORITHMS[run.training.algorithm],
                        "steps": 2,
                        "validations": 1,
                        **({"n_shot": 3} if run.training.algorithm == "episodic" else {}),
                    },
                }
                for name, run in whole.items()
            },
            "adaptations": {
                name: {"steps": 2, "n_episodes": 3, "n_query": 1} for name in load().adaptations
            },
            "evaluation": {"n_episodes": 10, "n_query": 2},
            "measurement": {"n_pairs": 10, "base_images_per_class": 5, "n_folds": 2},
            "projection": {"n_images": 5, "n_fit": 4, "n_draws": 2},
            "simulations": {"theorem1": {"n_draws": 100}, "boundaries": {"n_draws": 100}},
        },
    )


def commands() -> dict[str, list[str]]:
    """What each verb is called with, in the order of the workflow."""
    made = load(experiment())

    def of(verb: str, **names: Any) -> list[str]:
        return [
            verb.partition(" ")[0],
            "--settings",
            json.dumps(jobs.settings(made, verb.partition(" ")[0], **names)),
        ]

    data, cpu = "resources/packed/tiny", ["--device", "cpu"]
    results = "results/demo"

    def place(kind: str, run: str) -> str:
        return f"{results}/{kind}/tiny/{run}/seed0"

    def trained(run: str) -> list[str]:
        names = {**MODEL, "run": run}
        out = ["--out", place("runs", run), "--state", place("state", run)]
        return [*of("train", **names), "--data", data, *out, *cpu]

    def embedded(run: str) -> list[str]:
        weights = ["--weights", f"{place('runs', run)}/weights.safetensors"]
        out = ["--out", place("features", run)]
        return [*of("embed", **{**MODEL, "run": run}), *weights, "--data", data, *out, *cpu]

    features = ["--features", place("features", "r2d2_ridge")]
    compared = of("compare", dataset="tiny", run="r2d2_ridge")
    compared[-1] = json.dumps(json.loads(compared[-1]) | {"twins": ["r2d2_classical"]})
    weights = f"{place('runs', 'maml_1shot')}/weights.safetensors"
    return {
        "fetch": ["fetch", "--dataset", "cifar_fs", "--path", str(next(Path().glob("own*.zip"))), "--out", "resources/raw"],
        "pack": [*of("pack", dataset="tiny"), "--out", data],
        "contact_sheets": [*of("contact_sheets", dataset="tiny"), "--data", data, "--out", f"{data}/contact_sheets"],
        **{f"train {run}": trained(run) for run in RUNS},
        **{f"embed {run}": embedded(run) for run in RUNS[:2]},
        "evaluate": [*of("evaluate", **MODEL), *features, "--out", f"{place('evals', 'r2d2_ridge')}.json", *cpu],
        "adapt": [*of("adapt", **{**MODEL, "run": "maml_1shot"}), "--weights", weights, "--data", data, "--out", f"{place('adaptations', 'maml_1shot')}.json", *cpu],
        "measure": [*of("measure", **MODEL), *features, "--out", f"{place('measures', 'r2d2_ridge')}.json", *cpu],
        "compare": [*compared, *features, place("features", "r2d2_classical"), "--out", f"{results}/similarities/tiny/r2d2_ridge.json", *cpu],
        "project": [*of("project", **MODEL), *features, "--out", f"{place('projections', 'r2d2_ridge')}.json"],
        "simulate": [*of("simulate", simulation="theorem1"), "--out", f"{results}/simulations/theorem1.json"],
        "table": [*of("table", table="table3"), "--results", results, "--out", f"{results}/tables/table3"],
        "figure": [*of("figure", figure="theorem1"), "--results", results, "--out", f"{results}/figures/theorem1"],
        "claims": [*of("claims"), "--results", results, "--out", f"{results}/claims"],
        "page": [*of("page"), "--results", results, "--data", "resources/packed"],
        "data": ["data", "tiny"],
        "explain": ["explain", "table3"],
        "settings": ["settings", "train", "--dataset", "tiny", "--run", "r2d2_ridge", "--seed", "0"],
    }  # fmt: skip


def run() -> None:
    folder, found = Path(sys.argv[1]), {}
    report = Path(sys.argv[2]).resolve()
    os.chdir(folder)
    config_files.load = lambda *_, **__: load(experiment())
    for name, arguments in commands().items():
        try:
            found[name] = str(main(arguments))
        except BaseException as error:
            found[name] = f"{type(error).__name__}: {error}"
    report.write_text(json.dumps(found))


if __name__ == "__main__":
    run()
