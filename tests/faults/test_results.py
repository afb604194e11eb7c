"""Results on a disk that is full or cannot be written, and weights that are not what they were."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from pipeline import tensor_files
from pipeline.__main__ import main
from pipeline.analysis import adaptation, clustering, embedding, evaluation, similarity
from pipeline.analysis.model import Weights
from pipeline.data import packing
from pipeline.errors import UserError
from pipeline.machine import prepare
from pipeline.training import loop
from pipeline.training.state import Progress, StateFile
from tests.faults import every_verb
from tests.faults.test_disk import mount, short
from tests.faults.test_state import flipped
from tests.robustness import Outcome
from tests.soak import soak

ROBUSTNESS = "Results"

ROOT = Path(__file__).parents[2]
STAGES = ["train", "embed", "evaluate", "adapt", "measure", "compare", "project", "simulate"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, soak.Job]:
    """A job of each kind, done once without any fault."""
    prepare("cpu", 1)
    found = soak.done_alone(tmp_path_factory.mktemp("alone"), ("r2d2_ridge", "reptile"), steps=3)
    return {job.name.split()[0]: job for job in reversed(found)}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own; only root can have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=20m")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> None:
    """As another program would."""
    with (disk / "filler").open("wb") as file:
        try:
            while True:
                file.write(bytes(1 << 14))
                file.flush()
        except OSError:
            pass


def refusal(job: soak.Job, place: Path) -> str:
    with pytest.raises(UserError) as caught:
        job.run(place)
    return str(caught.value).replace(f"{place}/", "")


def assert_done(job: soak.Job, place: Path) -> None:
    job.run(place)
    assert {path: soak.content(place / path) for path in job.files} == job.files
    assert set(soak.written(place)) - {"filler"} == set(job.files)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_said_and_leaves_nothing_half(
    stage: str, alone: dict[str, soak.Job], disk: Path, outcome: Outcome
) -> None:
    fill(disk)
    message = refusal(alone[stage], disk)
    assert re.match(
        r"cannot write [\w./]+(, it needs \d+ bytes)?: No space left on device\. Free", message
    )
    assert soak.written(disk) == ["filler"]
    (disk / "filler").unlink()
    assert_done(alone[stage], disk)
    outcome(f"{stage} on a full disk", f"nothing half is left, refused: {short(message)}")


@pytest.mark.parametrize("stage", STAGES)
def test_a_read_only_disk_is_said(
    stage: str, alone: dict[str, soak.Job], disk: Path, outcome: Outcome
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    message = refusal(alone[stage], disk)
    assert re.match(r"cannot write [\w./]+: Read-only file system\. ", message)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert_done(alone[stage], disk)
    outcome(f"{stage} on a read-only disk", f"refused: {short(message)}")


LONG: dict[str, tuple[ModuleType, str]] = {
    "pack": (packing, "pack"),
    "train r2d2_ridge": (loop, "train"),
    "embed r2d2_ridge": (embedding, "embed"),
    "evaluate": (evaluation, "evaluate"),
    "adapt": (adaptation, "adapt"),
    "measure": (clustering, "measure"),
    "compare": (similarity, "compare"),
}


@pytest.mark.parametrize("fault", ["a full disk", "a read-only disk"])
@pytest.mark.parametrize("name", LONG)
def test_where_a_result_cannot_be_written_no_work_is_begun(
    name: str,
    fault: str,
    disk: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    (tmp_path / "own.zip").touch()
    monkeypatch.chdir(tmp_path)
    arguments = every_verb.commands()[name]
    verb, work = arguments[0], Mock()
    folder = disk / "made"
    place = folder if verb in {"pack", "train"} else folder / "r"
    arguments[arguments.index("--out") + 1] = str(place)
    monkeypatch.setattr(*LONG[name], work)
    if fault == "a full disk":
        fill(disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert main(arguments) == 1
    message = capsys.readouterr().err.removeprefix("error: ").replace(f"{disk}/", "")
    assert re.match(r"cannot write made: (No space left|Read-only).*\. Free some", message)
    work.assert_not_called()
    outcome(f"{verb}, its --out on {fault}", f"refused before it begins: {short(message)}")
    if fault == "a full disk":
        (disk / "filler").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert main(arguments) == 0
    work.assert_called_once()
    assert not folder.exists()


def test_a_disk_that_fills_up_during_training_keeps_what_was_saved(
    alone: dict[str, soak.Job],
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    outcome: Outcome,
) -> None:
    save, saved = StateFile.save, []

    def fill_and_save(self: StateFile, tensors: dict[str, Any], progress: Progress) -> None:
        saved.append(progress.step)
        if len(saved) == 3:
            fill(disk)
        save(self, tensors, progress)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_S", 0.0)
        patched.setattr(StateFile, "save", fill_and_save)
        message = refusal(alone["train"], disk)
    assert re.match(
        r"cannot write state/state.safetensors, it needs \d+ bytes: No space left", message
    )
    assert soak.written(disk) == [
        "filler",
        "state/state.earlier.safetensors",
        "state/state.safetensors",
    ]
    (disk / "filler").unlink()
    capsys.readouterr()
    assert_done(alone["train"], disk)
    assert "going on at step 2" in capsys.readouterr().out
    message = re.sub(r"\d+ bytes", "<size>", message)
    outcome(
        "a disk that fills up while the third state is saved",
        f"the two before stay, and the second is gone on from to the same bits; refused: {short(message)}",
    )


def test_a_disk_without_room_for_an_inode_is_named(
    alone: dict[str, soak.Job], tmp_path: Path, outcome: Outcome
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "size=20m,nr_inodes=1")
    try:
        message = refusal(alone["embed"], folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert message.startswith("cannot write")
    assert "No space left on device. Free some space" in message
    outcome("embed on a disk that has space but no inode free", f"refused: {short(message)}")


def test_a_place_with_spaces_and_other_letters_is_a_place(
    alone: dict[str, soak.Job], tmp_path: Path, outcome: Outcome
) -> None:
    place = tmp_path / "a b" / "é 图 $(x) ;'"
    for stage in STAGES:
        assert_done(alone[stage], place / stage)
    outcome(
        "every stage in a folder with spaces, quotes, $( ) and letters beyond ASCII",
        "the same bits",
    )


SNAKEFILE = """
rule second:
    input: "first"
    output: "second"
    shell: "cp first second; touch -d {date} second"
rule first:
    output: "first"
    shell: "echo > first"
"""


@pytest.mark.parametrize("date", ["2001-01-01", "2099-01-01"])
def test_a_clock_that_is_set_while_snakemake_runs_makes_nothing_stale(
    date: str, tmp_path: Path, outcome: Outcome
) -> None:
    """Under the project's profile; so a result may be older than what it is made of."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE.replace("{date}", date))
    command = [sys.executable, "-m", "snakemake", "--profile", ROOT / "profiles" / "default"]

    def snakemake(*options: str) -> str:
        done = subprocess.run(
            [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    snakemake("--cores", "1")
    assert "Nothing to be done" in snakemake("--dry-run")
    outcome(f"a clock that jumps to {date[:4]} while Snakemake runs", "nothing is done again")


# Weights


@pytest.fixture
def weights(alone: dict[str, soak.Job], tmp_path: Path) -> Path:
    alone["train"].run(tmp_path)
    return tmp_path / "out" / "weights.safetensors"


def unusable(path: Path, whose: dict[str, Any] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        Weights(path, whose or {})
    return str(caught.value).replace(f"{path.parent}/", "")


def test_weights_that_changed_on_disk_are_refused(weights: Path, outcome: Outcome) -> None:
    content = weights.read_bytes()
    for bit in range(0, 8 * len(content), len(content) // 5 * 8 - 3):
        weights.write_bytes(flipped(content, bit))
        unusable(weights)
    weights.write_bytes(flipped(content, 8 * len(content) - 1))
    message = unusable(weights)
    assert message == (
        "cannot use the weights weights.safetensors: its content is not that of its checksum; "
        "delete the file and run snakemake again"
    )
    outcome("weights with a flipped bit", f"refused: {message}")
    for size in (0, 7, 100, len(content) - 1):
        weights.write_bytes(content[:size])
        assert "delete the file and run snakemake again" in unusable(weights)
    weights.write_bytes(content)
    Weights(weights, {})


@pytest.mark.parametrize("name", ["scale", "dataset", "run", "seed", "images"])
def test_weights_of_another_run_are_refused(name: str, weights: Path) -> None:
    own = {"scale": "demo", "dataset": "tiny", "run": "r2d2_ridge", "seed": 0}
    own["images"] = tensor_files.load(weights)[1]["images"]
    Weights(weights, own)
    message = unusable(weights, {**own, name: "other"})
    assert message == (
        f"cannot use the weights weights.safetensors: they are of {name} {own[name]}, not other; "
        "delete the file and run snakemake again"
    )


def test_an_odd_file_in_the_place_of_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.mkdir()
    assert "Is a directory" in unusable(path)
    path.rmdir()
    path.symlink_to(tmp_path / "nowhere")
    assert "No such file" in unusable(path)
    path.unlink()
    path.write_bytes(b"\x80\x04." + os.urandom(64))
    assert "delete the file and run snakemake again" in unusable(path)
