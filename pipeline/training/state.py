"""Training state on disk, so that a killed run goes on exactly where it was.

It lies in a place that no rule declares, since Snakemake deletes the declared outputs of a
failed job.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.optim import Optimizer

from pipeline.files import replacing


@dataclass
class Progress:
    """What a run knows besides its tensors."""

    step: int
    elapsed_s: float
    log: list[dict[str, Any]]
    # The best validation score so far; its weights are among the tensors.
    best: float | None


class StateFile:
    """One state file; ``key`` says which run it may continue.

    Parameters
    ----------
    path
        The file, overwritten whole at each save.
    key
        Digest of the run's configuration, code, data, device and build of torch.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    def save(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        metadata = {"key": self.key, "progress": json.dumps(vars(progress))}
        with replacing(self.path) as temporary:
            save_file(
                {name: tensor.detach().contiguous() for name, tensor in tensors.items()},
                temporary,
                metadata,
            )

    def load(self) -> tuple[dict[str, Tensor], Progress] | None:
        """The saved state, or None (said on stdout) where there is none that fits."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            print(f"{self.path} is damaged ({error}); training starts from the beginning")
            return None
        if metadata["key"] != self.key:
            print(
                f"{self.path} belongs to another configuration, code, data, device or torch "
                f"({metadata['key']}, this run is {self.key}); training starts from the beginning"
            )
            return None
        return tensors, Progress(**json.loads(metadata["progress"]))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


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
