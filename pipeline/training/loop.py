"""The one training loop: data in, loss, step, log, validation, checkpoint."""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import records, tensor_files
from pipeline.data.augmentation import Augmentation, Normalisation
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.files import alone, replacing, write_json
from pipeline.machine import describe
from pipeline.models.embedding import build
from pipeline.plugins import find
from pipeline.progress import Steps, say
from pipeline.streams import derive
from pipeline.training.algorithm import Algorithm, Task
from pipeline.training.state import Progress, StateFile, load_optimizer, optimizer_tensors

LOGGED = 50  # times a run
CHECKPOINT_S = 120.0


class Interrupted(Exception):
    """The run was asked to stop and has saved its state."""


def train(
    settings: dict[str, Any], code: str, data: Path, out: Path, state: Path, device: torch.device
) -> None:
    """Train one run, or go on with it where a state file says it was.

    Writes ``weights.safetensors`` and ``record.json`` into ``out``. With the same torch build,
    device and threads the weights are the same bits every time, whether or not the run was
    interrupted.

    Raises
    ------
    Interrupted
        After SIGTERM, SIGINT or SIGUSR1, once the state is saved.
    UserError
        If the loss is no longer a number, the disk does not suffice, or another process trains
        the same run.
    """
    packed = Packed.open(data, settings["dataset"])
    title = f"{settings['dataset']} {settings['run']} seed {settings['seed']}"
    with alone(state / "lock", title):
        _train(settings, code, packed, out, state, device, title)


def _train(
    settings: dict[str, Any],
    code: str,
    packed: Packed,
    out: Path,
    state: Path,
    device: torch.device,
    title: str,
) -> None:
    algorithm = start(settings, packed, device)
    steps, validations = settings["algorithm"]["steps"], settings["algorithm"]["validations"]
    keeps_best = settings["algorithm"]["selection"] == "best"
    file = StateFile(state / "state.safetensors", _basis(settings, code, packed, device))
    progress, best = _restore(algorithm, file)
    report = state / "diverged.json"
    finite = partial(_finite, title=title, algorithm=algorithm, report=report)
    # Not by the clock on the wall, which may be set.
    began = time.monotonic() - progress.elapsed_s
    saved = time.monotonic()
    with _stop_signals() as signals, Steps(title, steps, progress.step) as shown:
        while progress.step < steps:
            torch.manual_seed(derive(settings["seed"], "dropout", progress.step))
            algorithm.modules.train()
            metrics = algorithm.step(progress.step)
            progress.step += 1
            shown.advance()
            validates = _due(progress.step, steps, validations)
            if validates or _due(progress.step, steps, LOGGED):
                # This waits for the device; so the time after it is that of the steps.
                entry = finite(metrics, progress.step)
                progress.elapsed_s = time.monotonic() - began
                progress.log.append({**entry, "elapsed_s": round(progress.elapsed_s, 4)})
                shown.note(" ".join(f"{name} {value:.4g}" for name, value in entry.items()))
            if validates:
                algorithm.modules.eval()
                scores = algorithm.validate()
                score = scores["validation"]
                progress.elapsed_s = time.monotonic() - began
                entry = {"step": progress.step, **scores}
                progress.log.append({**entry, "elapsed_s": round(progress.elapsed_s, 4)})
                shown.note(" ".join(f"{name} {value:.4g}" for name, value in entry.items()))
                if keeps_best and (progress.best is None or score > progress.best):
                    progress.best, best = score, _weights(algorithm)
            # Looked at once: a signal that comes later is for the next step.
            stops = bool(signals)
            if stops or time.monotonic() - saved > CHECKPOINT_S:
                finite(metrics, progress.step)
                progress.elapsed_s = time.monotonic() - began
                file.save(_tensors(algorithm, best), progress)
                saved = time.monotonic()
            if stops:
                raise Interrupted(f"{title}: stopped at step {progress.step}, state is saved")
    _write(settings, code, packed, algorithm, best, progress, out, device)
    file.remove()
    report.unlink(missing_ok=True)


def start(settings: dict[str, Any], packed: Packed, device: torch.device) -> Algorithm:
    """The algorithm of a run before its first step."""
    algorithm = settings["algorithm"]
    passport = packed.passport
    torch.manual_seed(derive(settings["seed"], "initial weights"))
    backbone = build(settings["backbone"], passport.image_size)
    backbone.to(device).to(memory_format=torch.channels_last)
    base, validation = (
        torch.from_numpy(np.array(packed.images(name))).to(device)
        for name in ("base", "validation")
    )
    normalisation = Normalisation.of(passport, algorithm["normalise"])
    # Crops move by about a tenth of the image: 4 pixels of 32, 8 of 84.
    padding = 4 if passport.image_size < 64 else 8
    shape = (1, 3, passport.image_size, passport.image_size)
    task = Task(
        settings=algorithm,
        seed=settings["seed"],
        device=device,
        backbone=backbone,
        n_features=backbone.eval()(torch.zeros(shape, device=device)).shape[1],
        normalisation=normalisation,
        base=Augmentation(base, normalisation, padding) if algorithm["augment"] else base,
        base_labels=np.array(packed.labels("base")),
        validation=validation,
        validation_labels=np.array(packed.labels("validation")),
    )
    made: Algorithm = find("training", algorithm["algorithm"], "Training")(task)
    return made


def _due(step: int, steps: int, times: int) -> bool:
    """Whether one of ``times`` evenly spread marks, the last at the end, is reached at ``step``."""
    return step * times // steps > (step - 1) * times // steps


def step_seconds(log: list[dict[str, Any]], steps: int) -> list[float]:
    """The time of a step in each of LOGGED equal stretches of a run, validations left out."""
    seconds, began, taken, step, elapsed = [], 0, 0.0, 0, 0.0
    for entry in log:
        if entry["step"] > step:
            taken += entry["elapsed_s"] - elapsed
        step, elapsed = entry["step"], entry["elapsed_s"]
        if step > began and _due(step, steps, LOGGED):
            seconds.append(taken / (step - began))
            began, taken = step, 0.0
    return seconds


def _basis(
    settings: dict[str, Any], code: str, packed: Packed, device: torch.device
) -> dict[str, Any]:
    """All that the bits of a run depend on, but for the number of threads."""
    return {
        "settings": settings,
        "code": code,
        "data": packed.passport.fingerprint,
        "device": device.type,
        "torch": torch.__version__,
    }


def _restore(algorithm: Algorithm, file: StateFile) -> tuple[Progress, dict[str, Tensor] | None]:
    found = file.load()
    if found is None:
        return Progress(step=0, elapsed_s=0.0, log=[], best=None), None
    tensors, progress = found
    parts: dict[str, dict[str, Tensor]] = {"modules": {}, "optimizer": {}, "best": {}}
    for place, tensor in tensors.items():
        part, name = place.split("/", 1)
        parts[part][name] = tensor
    algorithm.modules.load_state_dict(parts["modules"])
    load_optimizer(algorithm.optimizer, parts["optimizer"])
    say(f"going on at step {progress.step}, from {file.path.parent}")
    return progress, parts["best"] or None


def _tensors(algorithm: Algorithm, best: dict[str, Tensor] | None) -> dict[str, Tensor]:
    parts = {
        "modules": algorithm.modules.state_dict(),
        "optimizer": optimizer_tensors(algorithm.optimizer),
        "best": best or {},
    }
    return {f"{part}/{name}": value for part, some in parts.items() for name, value in some.items()}


def _weights(algorithm: Algorithm) -> dict[str, Tensor]:
    """A copy of all weights as they are now."""
    return {name: value.detach().clone() for name, value in algorithm.modules.state_dict().items()}


def _finite(
    metrics: dict[str, Tensor], step: int, *, title: str, algorithm: Algorithm, report: Path
) -> dict[str, float]:
    values = {name: float(value.detach()) for name, value in metrics.items()}
    if not all(math.isfinite(value) for value in values.values()):
        written = {
            "run": title,
            "step": step,
            # JSON knows no NaN.
            "metrics": {name: str(value) for name, value in values.items()},
            "lr": [group["lr"] for group in algorithm.optimizer.param_groups],
            "weights_not_finite": [
                name
                for name, value in algorithm.modules.state_dict().items()
                if not value.isfinite().all()
            ],
        }
        write_json(report, written)
        raise UserError(
            f"{title}: {values} at step {step} is not finite; the run diverged. Lower its lr in "
            f"config.yaml; the last saved state is kept, and {report} says more."
        )
    return {"step": step, **values}


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that is empty until the process is asked to stop."""
    caught: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    earlier = {one: signal.signal(one, lambda number, _: caught.append(number)) for one in signals}
    try:
        yield caught
    finally:
        for one, handler in earlier.items():
            signal.signal(one, handler)


def _write(
    settings: dict[str, Any],
    code: str,
    packed: Packed,
    algorithm: Algorithm,
    best: dict[str, Tensor] | None,
    progress: Progress,
    out: Path,
    device: torch.device,
) -> None:
    algorithm.modules.load_state_dict(best or algorithm.modules.state_dict())
    algorithm.finish()
    about = {name: settings[name] for name in ("scale", "dataset", "run", "seed")}
    about["images"] = packed.passport.fingerprint
    content = tensor_files.dump(algorithm.modules.state_dict(), about)
    with replacing(out / "weights.safetensors", len(content)) as temporary:
        temporary.write_bytes(content)
    records.write(
        out / "record.json",
        "training",
        settings,
        code=code,
        sources=packed.passport.sources,
        device=describe(device),
        wall_s=progress.elapsed_s,
        values={
            "steps": progress.step,
            "step_seconds": step_seconds(progress.log, progress.step),
            "kept": "best" if best else "last",
            "log": progress.log,
        },
    )
