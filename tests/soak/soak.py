"""Kill every job at random moments, again and again, and compare what it leaves bit for bit.

``make soak`` does 240 kills and writes their table into docs/robustness.md; with another number
(``python -m tests.soak.soak 20``) the table is only printed. Each job is first done undisturbed.
Then it is started, killed by SIGKILL or SIGTERM within the time that it took, and started again in
the same folder, until it comes to its end. After each kill every file that it writes must be
absent or whole; at the end all must be as they are undisturbed. Jobs are forked from this process,
which has imported everything, so a start costs milliseconds.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import config_files, jobs
from pipeline.analysis import simulation
from pipeline.analysis.adaptation import adapt
from pipeline.analysis.clustering import measure
from pipeline.analysis.embedding import embed
from pipeline.analysis.evaluation import evaluate
from pipeline.analysis.projection import project
from pipeline.analysis.similarity import compare
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic
from pipeline.machine import prepare
from pipeline.training import loop
from tests.conftest import ALGORITHMS, BACKBONES, TINY
from tests.robustness import DOCUMENT

KILLS = 240
INTERRUPTED = 75  # as the command line says
TITLE = "Killed at random moments"
CPU = torch.device("cpu")
STEPS = 40
# Every algorithm, every backbone and every head that trains.
TRAINED = (
    "r2d2_ridge",
    "resnet12_svm",
    "conv64_protonet",
    "r2d2_classical_fc",
    "resnet12_classical_hv",
    "maml_1shot",
    "fomaml_5shot",
    "reptile",
    "weight_clustering",
)
TWIN = "r2d2_classical"
# What the clock says, and no two runs share; a record's checksum is over it too.
TIMES = {"wall_s", "elapsed_s", "step_seconds", "sha256"}
SIGNALS = (signal.SIGKILL, signal.SIGTERM)

Run = Callable[[Path], None]


@dataclass
class Job:
    """Something that a process does in a folder, and what came of killing it."""

    name: str
    run: Run
    # What it writes, once it has been undisturbed, and how long that took.
    files: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    # How often each run that came to its end had been killed.
    ends: list[int] = field(default_factory=list)
    divergences: list[str] = field(default_factory=list)


def main(n_kills: int = KILLS) -> int:
    """Returns the exit status: 1 where anything differs."""
    prepare("cpu", 1)
    loop.CHECKPOINT_S = 0.02
    random = np.random.default_rng()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak ") as name:
        folder = Path(name)
        found = done_alone(folder)
        for place, job in enumerate(found):
            share = n_kills * (place + 1) // len(found) - n_kills * place // len(found)
            _disturb(job, share, folder / "disturbed", random)
            print(_row(job), flush=True)
    minutes = (time.monotonic() - began) / 60
    divergences = [text for job in found for text in job.divergences]
    print(f"{sum(job.kills.total() for job in found)} kills in {minutes:.1f} minutes", *divergences)
    if n_kills == KILLS:
        _write(found)
    return 1 if divergences else 0


def done_alone(folder: Path, trained: Sequence[str] = TRAINED, steps: int = STEPS) -> list[Job]:
    """Each training and each stage after it, done once undisturbed.

    ``r2d2_ridge`` and ``reptile`` must be among the runs.
    """
    data = folder / "packed"
    changes = {
        run: {
            "datasets": ["cifar_fs"],
            "backbone": BACKBONES[whole.backbone.name],
            "training": {
                "steps": steps,
                "validations": min(4, steps),
                **ALGORITHMS[whole.training.algorithm],
            },
        }
        for run, whole in config_files.load().runs.items()
        if run in (*trained, TWIN)
    }
    own = {
        "runs": changes,
        "evaluation": {"n_episodes": 200, "n_query": 4},
        "measurement": {"n_pairs": 2000, "base_images_per_class": 10},
        "adaptations": {"reptile": {"n_episodes": 10, "steps": 5}},
        "projection": {"n_images": 6, "n_fit": 14},
        "simulations": {"theorem1": {"n_draws": 2000}},
    }
    experiment = config_files.load(config_files.merged(TINY, own))

    def settings(verb: str, **names: Any) -> dict[str, Any]:
        return jobs.settings(experiment, verb, **names)

    def of_model(verb: str, run: str) -> dict[str, Any]:
        return settings(verb, dataset="tiny", run=run, seed=0)

    def training(run: str) -> Run:
        chosen = of_model("train", run)
        return lambda at: loop.train(chosen, "code", data, at / "out", at / "state", CPU)

    def weights(run: str) -> Path:
        return folder / "alone" / f"train {run}" / "out" / "weights.safetensors"

    def embedding(run: str) -> Run:
        chosen = of_model("embed", run)
        return lambda at: embed(chosen, "code", weights(run), data, at, CPU)

    features = [folder / "alone" / f"embed {run}" for run in ("r2d2_ridge", TWIN)]
    source = Synthetic(image_size=16, images_per_class=20)
    fine_tuned = of_model("adapt", "reptile")
    fine_tuned["adaptations"] = {"reptile": fine_tuned["adaptations"]["reptile"]}
    evaluated, measured = (of_model(verb, "r2d2_ridge") for verb in ("evaluate", "measure"))
    compared = settings("compare", dataset="tiny", run="r2d2_ridge") | {"twins": [TWIN]}
    projected = of_model("project", "r2d2_ridge")
    simulated = settings("simulate", simulation="theorem1")
    pack(source, "tiny", data, workers=1)
    found = [
        Job("pack", lambda at: _pack(source, at)),
        *(Job(f"train {run}", training(run)) for run in (*trained, TWIN)),
        *(Job(f"embed {run}", embedding(run)) for run in ("r2d2_ridge", TWIN)),
        Job("evaluate", lambda at: evaluate(evaluated, "code", features[0], at / "r.json", CPU)),
        Job(
            "adapt",
            lambda at: adapt(fine_tuned, "code", weights("reptile"), data, at / "r.json", CPU),
        ),
        Job("measure", lambda at: measure(measured, "code", features[0], at / "r.json", CPU)),
        Job("compare", lambda at: compare(compared, "code", features, at / "r.json", CPU)),
        Job("project", lambda at: project(projected, "code", features[0], at / "r.json")),
        Job("simulate", lambda at: simulation.run(simulated, "code", at / "r.json")),
    ]
    for job in found:
        place = folder / "alone" / job.name
        place.mkdir(parents=True)
        with redirect_stdout(StringIO()):
            job.run(place)  # once to warm up
        shutil.rmtree(place)
        place.mkdir()
        began = time.monotonic()
        status = os.waitstatus_to_exitcode(os.waitpid(start(job, place), 0)[1])
        job.seconds = time.monotonic() - began
        assert status == 0, f"{job.name} alone ends with {status}"
        job.files = {path: content(place / path) for path in written(place)}
    return found


def _pack(source: Synthetic, at: Path) -> None:
    pack(source, "tiny", at, workers=1)


def _disturb(job: Job, n_kills: int, place: Path, random: np.random.Generator) -> None:
    """Kill a job so many times, each time starting it again where it was."""
    # Training goes on where it was, so it meets several kills before its end.
    reach = job.seconds / 3 if job.name.startswith("train") else job.seconds
    earlier = 0
    while job.kills.total() < n_kills or place.exists():
        place.mkdir(exist_ok=True)
        process, number = start(job, place), None
        if job.kills.total() < n_kills:
            time.sleep(random.uniform(0, reach))
            number = SIGNALS[int(random.integers(len(SIGNALS)))]
            os.kill(process, number)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == 0:
            job.ends.append(job.kills.total() - earlier)
            earlier = job.kills.total()
            if written(place) != sorted(job.files):
                job.divergences.append(f"{job.name} leaves {written(place)}")
        elif number is not None and status in (-number, INTERRUPTED):
            job.kills[f"{number.name} {'saved' if status == INTERRUPTED else 'died'}"] += 1
        else:
            job.divergences.append(f"{job.name} ends with {status}")
        for path, undisturbed in job.files.items():
            if (place / path).exists() and content(place / path) != undisturbed:
                job.divergences.append(f"{job.name} writes another {path}")
        if status == 0 or job.divergences:
            shutil.rmtree(place)


def start(job: Job, place: Path) -> int:
    """Fork a process that does the job there; its id."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        with (place.parent / "log").open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            job.run(place)
        status = 0
    except loop.Interrupted:
        status = INTERRUPTED
    finally:
        os._exit(status)


def written(place: Path) -> list[str]:
    """All files, hidden ones too."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def content(path: Path) -> Any:
    return _timeless(json.loads(path.read_text())) if path.suffix == ".json" else path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(part) for name, part in value.items() if name not in TIMES}
    return [_timeless(part) for part in value] if isinstance(value, list) else value


def _row(job: Job) -> str:
    kills = [job.kills[f"{number.name} died"] for number in SIGNALS]
    saved = job.kills["SIGTERM saved"]
    ended = [str(n) for n in job.ends if n]
    cells = [job.name, *kills, saved, ", ".join(ended), len(job.divergences)]
    return f"| {' | '.join(map(str, cells))} |"


def _write(found: list[Job]) -> None:
    """Put the table in the place of its earlier form, or at the end."""
    total = sum(job.kills.total() for job in found)
    section = "\n".join(
        [
            f"## {TITLE}",
            "",
            f"From `make soak` (`tests/soak/soak.py`), which made {total} kills. After each, every "
            "file of the job was absent or whole; each job that came to its end, however often it "
            "had been killed, left the files that it leaves undisturbed, bit for bit but for times.",
            "",
            "| job | SIGKILL | SIGTERM, died | SIGTERM, state saved, exit 75 "
            "| kills of each run that came to its end | divergences |",
            "|---|---|---|---|---|---|",
            *map(_row, found),
            "",
        ]
    )
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(f"## {TITLE}\n")
    _, mark, after = rest.partition("\n## ")
    text = before.rstrip() + "\n\n" + section + (f"\n## {after}" if mark else "")
    DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:2])))
