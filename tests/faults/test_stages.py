"""Jobs that are ended: by a time limit, by preemption, by the system that runs out of memory."""

import os
import signal
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pipeline.machine import prepare
from pipeline.training import loop
from tests.robustness import Outcome
from tests.soak import soak

ROBUSTNESS = "Jobs that are ended"

STAGES = [
    "pack",
    "train",
    "embed",
    "evaluate",
    "adapt",
    "measure",
    "compare",
    "project",
    "simulate",
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, soak.Job]:
    """A job of each kind, done once without any fault."""
    prepare("cpu", 1)
    found = soak.done_alone(tmp_path_factory.mktemp("alone"), ("r2d2_ridge", "reptile"), steps=2)
    return {job.name.split()[0]: job for job in reversed(found)}


def test_every_stage_is_here(alone: dict[str, soak.Job]) -> None:
    assert sorted(alone) == sorted(STAGES)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_ended_leaves_files_whole_or_absent(
    stage: str,
    number: signal.Signals,
    alone: dict[str, soak.Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    """Ended just before and just after each file takes its place, and started again."""
    job = alone[stage]
    replace = Path.replace
    absent = 0
    for place in range(2 * len(job.files)):
        folder = tmp_path / str(place)
        folder.mkdir()
        count: Counter[str] = Counter()

        def end_or_go_on(
            self: Path, target: Path, count: Counter[str] = count, place: int = place
        ) -> Path:
            if count.total() == place:
                os.kill(os.getpid(), number)
            count["before"] += 1
            moved = replace(self, target)
            if count.total() == place:
                os.kill(os.getpid(), number)
            count["after"] += 1
            return moved

        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", end_or_go_on)
            status = os.waitstatus_to_exitcode(os.waitpid(soak.start(job, folder), 0)[1])
        assert status == -number
        for path, content in job.files.items():
            if (folder / path).exists():
                assert soak.content(folder / path) == content
            else:
                absent += 1
        assert os.waitstatus_to_exitcode(os.waitpid(soak.start(job, folder), 0)[1]) == 0
        # Nothing half written is left either.
        assert soak.written(folder) == sorted(job.files)
        assert {path: soak.content(folder / path) for path in job.files} == job.files
    assert absent
    outcome(
        f"{stage}, ended by {number.name} before or after any of its files takes its place",
        "each file is whole or absent; started again, it leaves what it leaves undisturbed",
    )


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_training_saves_its_state_first(
    number: signal.Signals,
    alone: dict[str, soak.Job],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    job = alone["train"]
    advance = loop.Steps.advance

    def end(self: Any) -> None:
        os.kill(os.getpid(), number)
        advance(self)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Steps, "advance", end)
        status = os.waitstatus_to_exitcode(os.waitpid(soak.start(job, tmp_path), 0)[1])
    assert status == soak.INTERRUPTED
    assert soak.written(tmp_path) == ["state/state.safetensors"]
    assert os.waitstatus_to_exitcode(os.waitpid(soak.start(job, tmp_path), 0)[1]) == 0
    assert {path: soak.content(tmp_path / path) for path in job.files} == job.files
    outcome(
        f"train, asked to end by {number.name} during a step",
        "ends the step, saves its state, exits with 75; started again, it goes on to the same bits",
    )


def test_a_signal_after_a_step_was_looked_at_is_for_the_next_one(
    alone: dict[str, soak.Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a state is saved is never said of one that is not."""
    from pipeline.training import loop

    class Late(list[int]):
        """A signal comes right after each look."""

        def __bool__(self) -> bool:
            seen = len(self) > 0
            self.append(signal.SIGTERM)
            return seen

    monkeypatch.setattr(loop, "_stop_signals", lambda: nullcontext(Late()))
    with pytest.raises(loop.Interrupted, match="stopped at step 2, state is saved"):
        alone["train"].run(tmp_path)
    assert (tmp_path / "state" / "state.safetensors").exists()
