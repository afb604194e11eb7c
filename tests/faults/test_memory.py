"""Memory that does not suffice for a job: it is named, and what would need less."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from pipeline.__main__ import main
from pipeline.analysis import (
    adaptation,
    clustering,
    embedding,
    evaluation,
    projection,
    similarity,
    simulation,
)
from pipeline.data import packing
from tests.faults import every_verb
from tests.robustness import Outcome

ROBUSTNESS = "Memory that does not suffice"


def numpy_fault(*_: Any) -> Any:
    return np.empty(10**17)


def torch_fault(*_: Any) -> Any:
    return torch.empty(10**17)


def gpu_fault(*_: Any) -> NoReturn:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def python_fault(*_: Any) -> NoReturn:
    raise MemoryError


JOBS: dict[str, tuple[Any, str, Callable[..., Any], str, list[str]]] = {
    "pack": (packing, "pack", numpy_fault, "tiny seed 0", ["image_size (now 16)", "images_per_class (now 10)"]),
    "embed r2d2_ridge": (embedding, "embed", gpu_fault, "tiny r2d2_ridge seed 0", []),
    "evaluate": (evaluation, "evaluate", torch_fault, "tiny r2d2_ridge seed 0", []),
    "adapt": (adaptation, "adapt", gpu_fault, "tiny maml_1shot seed 0", ["n_query (now 1)"]),
    "measure": (clustering, "measure", numpy_fault, "tiny r2d2_ridge seed 0", []),
    "compare": (similarity, "compare", python_fault, "tiny r2d2_ridge", []),
    "project": (projection, "project", numpy_fault, "tiny r2d2_ridge seed 0", ["n_fit (now 4)", "n_images (now 5)"]),
    "simulate": (simulation, "run", python_fault, "theorem1", []),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_the_job_is_named_and_what_needs_less(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    module, function, fail, job, heavy = JOBS[name]
    (tmp_path / "own.zip").touch()
    monkeypatch.chdir(tmp_path)
    arguments = every_verb.commands()[name]
    monkeypatch.setattr(module, function, fail)
    assert main(arguments) == 1
    message = capsys.readouterr().err.removeprefix("error: ")
    verb = name.split()[0]
    assert re.match(
        rf"{verb} {job}: memory does not suffice on this machine, which has [\d.]+ GiB: .+\. "
        "Free some, let fewer jobs run at once, or take a larger device[.;]",
        message,
    )
    found = re.search(r"; or lower one of these in config.yaml: (.*)\. What was saved", message)
    assert sorted(found[1].split(", ") if found else []) == heavy
    message = re.sub(r"has [\d.]+ GiB", "has <size>", message)
    message = re.sub(r"Unable to allocate .*type float64", "Unable to allocate <size>", message)
    message = re.sub(r"\[enforce.*?DefaultCPUAllocator", "DefaultCPUAllocator", message)
    outcome(verb, f"refused: {message}")


@pytest.mark.parametrize("name", ["pack", "evaluate", "project"])
def test_another_fault_passes_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> NoReturn:
        raise RuntimeError("shapes do not fit")

    (tmp_path / "own.zip").touch()
    monkeypatch.chdir(tmp_path)
    arguments = every_verb.commands()[name]
    monkeypatch.setattr(JOBS[name][0], JOBS[name][1], fail)
    with pytest.raises(RuntimeError, match="shapes"):
        main(arguments)
