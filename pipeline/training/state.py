"""Training state on disk, so that a killed run goes on exactly where it was.

It lies in a place that no rule declares, since Snakemake deletes the declared outputs of a
failed job.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from pipeline import tensor_files
from pipeline.files import clear_remains, flush, replacing
from pipeline.progress import say

# Differences to another run that a message names.
NAMED = 5


@dataclass
class Progress:
    """What a run knows besides its tensors."""

    step: int
    elapsed_s: float
    log: list[dict[str, Any]]
    # The best validation score so far; its weights are among the tensors.
    best: float | None


class StateFile:
    """The last two states of a run; ``basis`` says which run they may continue.

    Parameters
    ----------
    path
        The newest. The one before lies beside it, in case the newest is damaged.
    basis
        All that the bits of the run depend on: configuration, code, data, device and build
        of torch, as JSON can hold it.
    """

    def __init__(self, path: Path, basis: dict[str, Any]) -> None:
        self.path = path
        self.earlier = path.with_stem(f"{path.stem}.earlier")
        self.basis = json.loads(json.dumps(basis))

    def save(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        content = tensor_files.dump(tensors, {"basis": self.basis, "progress": vars(progress)})
        with replacing(self.path, len(content)) as temporary:
            temporary.write_bytes(content)
            # Nothing moves before the new state is on disk, so one is always whole.
            flush(temporary)
            if self.path.exists():
                self.path.replace(self.earlier)

    def load(self) -> tuple[dict[str, Tensor], Progress] | None:
        """The newest state that can be continued, or None.

        One that is damaged, or of another run, is kept under a name that says so; that, and
        what differs, is said on stdout. What was kept of this run is found again.
        """
        clear_remains(self.path)
        for path in self._places():
            if not path.exists():
                continue
            try:
                tensors, about = tensor_files.load(path)
            except tensor_files.DamagedError as error:
                kept = _set_aside(path, "damaged")
                say(f"{path} is damaged ({error}): not used, kept as {kept}")
                continue
            if about["basis"] == self.basis:
                return tensors, Progress(**about["progress"])
            kept = _set_aside(path, _mark(about["basis"]))
            say(
                f"{path} belongs to another configuration, code, data, device or torch "
                f"({_differences(about['basis'], self.basis)}): not used, kept as {kept} for when "
                "that is trained again"
            )
        return None

    def remove(self) -> None:
        """Remove what a run that ended well has no use for, damaged states among it.

        States of other configurations stay, all of them: each may be gone back to, which only
        the user can tell.
        """
        for path in self._places():
            for own in (path, _aside(path, "damaged")):
                own.unlink(missing_ok=True)

    def _places(self) -> list[Path]:
        """Where states of this run may lie, the newest first."""
        own = _mark(self.basis)
        places = [self.path, self.earlier]
        return places + [_aside(path, own) for path in places]


def _set_aside(path: Path, mark: str) -> str:
    """Give a state another name, and return it."""
    return path.replace(_aside(path, mark)).name


def _aside(path: Path, mark: str) -> Path:
    return path.with_stem(f"{path.stem}.{mark}")


def _mark(basis: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(basis, sort_keys=True).encode())
    return f"of_{digest.hexdigest()[:16]}"


def _differences(other: dict[str, Any], own: dict[str, Any]) -> str:
    """What two bases do not share, by dotted names: "settings.seed was 0, is 1"."""
    before, now = dict(_flat(other)), dict(_flat(own))
    moved = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    named = [
        f"{name} was {before.get(name, 'absent')}, is {now.get(name, 'absent')}"
        for name in moved[:NAMED]
    ]
    return "; ".join([*named, *([f"and {len(moved) - NAMED} more"] if moved[NAMED:] else [])])


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """All that an optimizer remembers, by ``<parameter>.<name>``."""
    return {
        f"{index}.{name}": torch.as_tensor(value)
        for index, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if value is not None
    }


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of ``optimizer_tensors``."""
    memory: dict[int, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        index, name = place.split(".", 1)
        memory.setdefault(int(index), {})[name] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": memory, "param_groups": groups})
