"""Unfinished training: damaged, foreign, held by another process, out of memory, diverged."""

import errno
import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from pipeline import files, records, tensor_files
from pipeline.__main__ import main
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.machine import prepare
from pipeline.memory import memory_faults
from pipeline.plugins import find
from pipeline.training import loop
from pipeline.training.state import Progress, StateFile
from tests.robustness import Outcome

ROBUSTNESS = "Unfinished training"

CPU = torch.device("cpu")
RUN = "r2d2_classical"
BASIS = {
    "settings": {"run": "r2d2_ridge", "algorithm": {"lr": 0.1, "steps": 9}},
    "code": "c0de",
    "data": "f00d",
    "device": "cpu",
    "torch": "2.11.0",
}
Settings = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    prepare("cpu", 1)


def state(folder: Path, **changes: Any) -> StateFile:
    return StateFile(folder / "state.safetensors", {**BASIS, **changes})


def save(file: StateFile, step: int) -> None:
    tensors = {"modules/bias": torch.full((3,), float(step)), "optimizer/0.step": torch.tensor(2)}
    file.save(tensors, Progress(step, 0.5 * step, [{"step": step, "loss": 1.25}], None))


def step_of(file: StateFile) -> int | None:
    """Of the state that is loaded, which must be consistent in itself."""
    found = file.load()
    if found is None:
        return None
    tensors, progress = found
    assert tensors["modules/bias"].tolist() == [progress.step] * 3
    return progress.step


def train(settings: dict[str, Any], packed: Path, folder: Path, code: str = "digest") -> bytes:
    loop.train(settings, code, packed, folder / "out", folder / "state", CPU)
    return (folder / "out" / "weights.safetensors").read_bytes()


def command(settings: dict[str, Any], packed: Path, folder: Path) -> list[str]:
    places = {"data": packed, "out": folder / "out", "state": folder / "state"}
    options = {"settings": json.dumps(settings), **places, "device": "cpu"}
    return [
        "train",
        *(part for name, value in options.items() for part in (f"--{name}", str(value))),
    ]


def refusal(settings: dict[str, Any], packed: Path, folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        train(settings, packed, folder)
    return str(caught.value)


def in_child(work: Callable[[], object]) -> int:
    """Fork a process that does this; its id."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    return child


def killed(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


# Damage


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut to nothing": lambda content: b"",
    "cut in its header": lambda content: content[:40],
    "cut by its last byte": lambda content: content[:-1],
    "a bit flipped in a weight": lambda content: flipped(content, 8 * len(content) - 3),
    "a bit flipped in the number of its step": lambda content: content.replace(
        rb"\"step\": 2", rb"\"step\": 3", 1
    ),
    "a file of another program": lambda content: b"PK\x03\x04" + content,
    "safetensors without a checksum": lambda content: torch_file(),
}


def torch_file() -> bytes:
    from safetensors.torch import save

    return save({"modules/bias": torch.zeros(3)})


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], outcome: Outcome
) -> None:
    file = state(tmp_path)
    save(file, 1)
    save(file, 2)
    whole = file.path.read_bytes()
    file.path.write_bytes(DAMAGES[name](whole))
    assert file.path.read_bytes() != whole
    assert step_of(file) == 1
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    assert re.fullmatch(r"state.* is damaged \(.+\): not used, kept as state.damaged.*\n", said)
    # And from there on two are whole again.
    save(file, 3)
    assert step_of(file) == 3
    file.path.unlink()
    assert step_of(file) == 1
    said = re.sub(r"Error while deserializing: .*?(?=\): not)", "<the reader's words>", said)
    outcome(f"the newest state: {name}", f"the one before is gone on from: {said}")


def test_without_a_whole_state_training_starts_over(
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    undisturbed = train(tiny_settings(RUN), packed, tmp_path / "alone")
    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_S", 0.0)
        patched.setattr(StateFile, "remove", lambda self: None)
        train(tiny_settings(RUN), packed, tmp_path)
    for name in ("state", "state.earlier"):
        path = tmp_path / "state" / f"{name}.safetensors"
        path.write_bytes(flipped(path.read_bytes(), 99_999))
    capsys.readouterr()
    assert train(tiny_settings(RUN), packed, tmp_path) == undisturbed
    said = capsys.readouterr().out
    assert said.count("is damaged") == 2
    assert "going on at step" not in said
    outcome("both states damaged", "said of each; trained from the beginning, to the same bits")


def test_a_training_that_ends_well_leaves_of_its_state_what_is_of_use(
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    folder = tmp_path / "state"
    path = folder / "state.safetensors"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_S", 0.0)
        patched.setattr(StateFile, "remove", lambda self: None)
        train(tiny_settings(RUN), packed, tmp_path)
        path.write_bytes(path.read_bytes()[:-1])
        refusal(tiny_settings(RUN, lr=1e30), packed, tmp_path)
    aside = {"diverged.json", "state.damaged.safetensors"}
    saw = []
    algorithm = find("training", "classical", "Training")
    step = algorithm.step

    def look_and_step(self: Any, at: int) -> Any:
        saw.append({path.name for path in folder.iterdir()})
        return step(self, at)

    monkeypatch.setattr(algorithm, "step", look_and_step)
    train(tiny_settings(RUN), packed, tmp_path)
    assert aside < saw[0]
    (other,) = folder.iterdir()
    assert ".of_" in other.name
    assert tensor_files.load(other)[1]["basis"]["settings"]["algorithm"]["lr"] == 1e30
    outcome(
        "what was set aside, once a training has ended well",
        "damaged states and diverged.json are removed; states of other configurations stay",
    )


def test_every_flipped_bit_of_a_file_is_seen(tmp_path: Path, outcome: Outcome) -> None:
    path = tmp_path / "one.safetensors"
    content = tensor_files.dump({"a": torch.arange(4.0)}, {"step": 7})
    for bit in range(8 * len(content)):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(tensor_files.DamagedError):
            tensor_files.load(path)
    outcome("each bit of a state or of weights, flipped alone", "seen, every one")


def test_a_file_that_is_cut_anywhere_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    content = tensor_files.dump({"a": torch.arange(4.0)}, {"step": 7})
    for size in range(len(content)):
        path.write_bytes(content[:size])
        with pytest.raises(tensor_files.DamagedError):
            tensor_files.load(path)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4, 5)])
def test_tensors_of_any_kind_come_back(
    kind: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    given = (torch.arange(int(np.prod(shape))) % 3).reshape(shape).to(kind)
    if given.ndim == 4:
        given = given.contiguous(memory_format=torch.channels_last)
    path = tmp_path / "one.safetensors"
    path.write_bytes(tensor_files.dump({"given": given}, {"b": [1.5, None], "a": "é"}))
    tensors, about = tensor_files.load(path)
    assert tensors["given"].dtype == kind
    assert torch.equal(tensors["given"], given)
    assert about == {"b": [1.5, None], "a": "é"}
    assert path.read_bytes() == tensor_files.dump({"given": given}, {"a": "é", "b": [1.5, None]})


class Killed(BaseException):
    """As the end of the process; nothing catches it."""


@pytest.mark.parametrize("saves", [1, 2, 3])
def test_a_save_that_is_cut_off_anywhere_leaves_a_whole_state(
    saves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    """Before each write, flush, renaming and permission, one after the other."""
    steps = []
    for place in range(20):
        folder = tmp_path / str(place)
        file, left = state(folder), [place]
        for step in range(1, saves + 1):
            save(file, step)

        def dying(call: Any, left: list[int] = left) -> Any:
            def die_or_go_on(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return call(*arguments, **named)

            return die_or_go_on

        with monkeypatch.context() as patched:
            for owner, name in [(Path, "write_bytes"), (Path, "replace"), (os, "fsync")]:
                patched.setattr(owner, name, dying(getattr(owner, name)))
            # A killed process removes nothing.
            patched.setattr(Path, "unlink", lambda self, missing_ok=False: None)
            with suppress(Killed):
                save(file, saves + 1)
        steps.append(step_of(state(folder)))
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    assert set(steps) == {saves, saves + 1}
    assert steps == sorted(steps, key=lambda step: step or 0)
    outcome(
        f"killed before each write, flush and renaming of save number {saves + 1}",
        "the state of before or the new one, whole; what was half written is removed at the start",
    )


# Other runs


@pytest.mark.parametrize(
    ("given", "changes", "named"),
    [
        ("configuration", {"settings": {**BASIS["settings"], "seed": 1}}, "seed was absent, is 1"),  # type: ignore[dict-item]
        ("code", {"code": "beef"}, "code was c0de, is beef"),
        ("data", {"data": "cafe"}, "data was f00d, is cafe"),
        ("device", {"device": "cuda"}, "device was cpu, is cuda"),
        ("build of torch", {"torch": "2.12.0"}, "torch was 2.11.0, is 2.12.0"),
    ],
)
def test_a_state_of_another_run_is_set_aside_until_that_run_is_back(
    given: str,
    changes: dict[str, Any],
    named: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    first, second = state(tmp_path), state(tmp_path, **changes)
    save(first, 4)
    save(first, 5)
    assert step_of(second) is None
    said = capsys.readouterr().out.replace(f"{tmp_path}/", "").splitlines()[0]
    assert named in said
    save(second, 1)
    assert step_of(second) == 1
    assert step_of(first) == 5
    assert step_of(second) == 1
    first.remove()
    assert step_of(second) == 1
    second.remove()
    assert list(tmp_path.iterdir()) == []
    said = re.sub(r"of_[0-9a-f]{16}", "of_<key>", said)
    outcome(f"a state of another {given}", f"never gone on from: {said}")


def test_a_message_names_some_differences_and_counts_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(state(tmp_path, settings=dict.fromkeys("abcdefgh", 0)), 1)
    assert step_of(state(tmp_path, settings=dict.fromkeys("abcdefgh", 1))) is None
    said = capsys.readouterr().out
    assert "settings.e was 0, is 1; and 3 more): not used" in said
    assert "settings.f" not in said


# Two at once


def test_a_second_process_ends_at_once(
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    """And after the first one was killed, its lock hinders nobody."""
    undisturbed = train(tiny_settings(RUN), packed, tmp_path / "alone")
    lock = tmp_path / "state" / "lock"
    algorithm = find("training", "classical", "Training")
    with monkeypatch.context() as patched:
        patched.setattr(algorithm, "step", lambda self, index: time.sleep(600))
        child = in_child(lambda: train(tiny_settings(RUN), packed, tmp_path))
    try:
        end = time.monotonic() + 60
        while not lock.exists() or not lock.read_bytes():
            assert time.monotonic() < end
            time.sleep(0.01)
        message = refusal(tiny_settings(RUN), packed, tmp_path)
    finally:
        killed(child)
    assert message.startswith(
        f"tiny {RUN} seed 0: process {child} on {os.uname().nodename} is at it already, "
        f"and holds {lock}. Wait until it is done, or end it"
    )
    assert lock.exists()
    assert train(tiny_settings(RUN), packed, tmp_path) == undisturbed
    assert list(lock.parent.iterdir()) == []
    message = message.replace(str(child), "<id>").replace(os.uname().nodename, "<host>")
    outcome("two processes train one run", f"the second ends at once: {message}")
    outcome("the lock of a process that was killed", "hinders nobody, and is removed")


def test_a_lock_removed_between_opening_and_locking_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder ended just then: the lock that counts is the file that has the name."""
    lock, flock = tmp_path / "lock", fcntl.flock

    def remove_first(descriptor: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        lock.unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    with files.alone(lock, "this"):
        assert lock.exists()
        with pytest.raises(UserError, match="this: process .* is at it already"):
            files.alone(lock, "this").__enter__()
    assert not lock.exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_where_there_are_no_locks_that_is_said(
    number: int,
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    undisturbed = train(tiny_settings(RUN), packed, tmp_path / "alone")
    capsys.readouterr()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert train(tiny_settings(RUN), packed, tmp_path) == undisturbed
    said = capsys.readouterr().out.splitlines()[0].replace(f"{tmp_path}/", "")
    assert said == "state knows no locks: start this only once"
    name = errno.errorcode[number]
    outcome(f"a file system without locks ({name})", f"trained all the same, with a word: {said}")


def test_only_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "novel.npy"
    dead, other = tmp_path / ".novel-abc.npy", tmp_path / ".novel_labels-abc.npy"
    dead.write_bytes(b"half")
    other.write_bytes(b"half")
    with files.replacing(path) as first:
        first.write_bytes(b"first")
        with files.replacing(path) as second:
            assert first.exists()
            second.write_bytes(b"second")
    assert path.read_bytes() == b"first"
    assert sorted(tmp_path.iterdir()) == [other, path]


# Memory


def numpy_fault() -> Any:
    return np.empty(10**17)


def torch_fault() -> Any:
    return torch.empty(10**17)


def fault(error: BaseException) -> Callable[[], Any]:
    def fail() -> NoReturn:
        raise error

    return fail


SHORTAGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "of a GPU": (
        "r2d2_ridge",
        fault(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    ),
    "of a GPU, met by cuBLAS": (
        RUN,
        fault(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")),
    ),
    "of the machine, met by torch": ("maml_1shot", torch_fault),
    "of the machine, met by numpy": ("reptile", numpy_fault),
    "of the machine, met by Python": (RUN, fault(MemoryError())),
}


@pytest.mark.parametrize("name", SHORTAGES)
def test_memory_that_does_not_suffice_is_said_and_what_was_saved_is_kept(
    name: str,
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    outcome: Outcome,
) -> None:
    run, fail = SHORTAGES[name]
    settings = tiny_settings(run, steps=4)
    undisturbed = train(settings, packed, tmp_path / "alone")
    algorithm = find("training", settings["algorithm"]["algorithm"], "Training")
    step = algorithm.step
    with monkeypatch.context() as patched:
        patched.setattr(loop, "CHECKPOINT_S", 0.0)
        patched.setattr(algorithm, "step", lambda self, at: fail() if at == 2 else step(self, at))
        assert main(command(settings, packed, tmp_path)) == 1
    message = capsys.readouterr().err.removeprefix("error: ")
    assert re.match(
        rf"train tiny {run} seed 0: memory does not suffice on this machine, which has .* GiB: ",
        message,
    )
    lowered = {"batch_size", "meta_batch", "n_query"} & settings["algorithm"].keys()
    assert lowered
    assert all(f"{key} (now {settings['algorithm'][key]})" in message for key in lowered)
    assert main(command(settings, packed, tmp_path)) == 0
    assert (tmp_path / "out" / "weights.safetensors").read_bytes() == undisturbed
    assert "going on at step 2" in capsys.readouterr().out
    message = re.sub(r"has [\d.]+ GiB", "has <size>", message)
    message = re.sub(r"Unable to allocate .*type float64", "Unable to allocate <size>", message)
    message = re.sub(
        r"\[enforce.*\(Cannot",
        "...  (Cannot",
        re.sub(r"\[enforce.*?DefaultCPUAllocator", "DefaultCPUAllocator", message),
    )
    outcome(f"too little memory {name}", f"refused: {message}")


def test_another_fault_passes_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), memory_faults("this", {}, "a machine"):
        raise RuntimeError("shapes do not fit")


# Divergence


@pytest.mark.parametrize("saves", [0.0, 1e9])
def test_a_loss_that_is_no_number_is_reported(
    saves: float,
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_S", saves)
    message = refusal(tiny_settings(RUN, lr=1e30), packed, tmp_path)
    report = tmp_path / "state" / "diverged.json"
    found = json.loads(report.read_text())
    assert found["run"] == f"tiny {RUN} seed 0"
    assert found["metrics"]["loss"] in {"nan", "inf"}
    assert found["lr"] == [1e30]
    assert f"step {found['step']} is not finite" in message
    assert all(
        name.startswith(("backbone.", "classifier.")) for name in found["weights_not_finite"]
    )
    assert (
        f"lower its lr in config.yaml; the last saved state is kept, and {report} says more"
        in message.lower().replace(str(report).lower(), str(report))
    )
    # The state that is kept is one that can be gone on from.
    kept = StateFile(report.with_name("state.safetensors"), {}).path
    assert kept.exists() == (saves == 0.0 and found["step"] > 1)
    assert not (tmp_path / "out").exists()
    if saves:
        said = re.sub(r"\{.*\}", "<metrics>", message.replace(f"{tmp_path}/", ""))
        outcome(
            "a loss that is no number",
            f"refused: {said} (metrics, lr, weights that are not finite)",
        )


# The clock


@pytest.mark.parametrize("jump_s", [-1e9, 1e9])
def test_a_clock_that_is_set_changes_nothing(
    jump_s: float,
    tiny_settings: Settings,
    packed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Outcome,
) -> None:
    """Between any two looks at it."""
    undisturbed = train(tiny_settings(RUN), packed, tmp_path / "alone")
    wall, looks = time.time, []

    def jumping() -> float:
        looks.append(1)
        return wall() + jump_s * len(looks)

    monkeypatch.setattr(time, "time", jumping)
    assert train(tiny_settings(RUN), packed, tmp_path) == undisturbed
    record = records.read(tmp_path / "out" / "record.json", "training")
    assert 0 < record.wall_s < 600
    assert all(0 < seconds < 600 for seconds in record.values["step_seconds"])
    assert record.sources == {"images": Packed.open(packed).passport.fingerprint}
    direction = "back" if jump_s < 0 else "forward"
    outcome(f"a clock that is set {direction} by 30 years", "the same bits, and the true durations")
