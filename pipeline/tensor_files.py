"""Tensors on disk with a checksum of all that the file says: what was torn or flipped is seen.

The files are plain safetensors; checksum and description are one entry of their metadata.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

ENTRY = "pipeline"


class DamagedError(Exception):
    """The file does not hold what was written."""


def dump(tensors: dict[str, Tensor], about: dict[str, Any]) -> bytes:
    """The content of a file; the same tensors and description give the same bytes.

    ``about`` is what JSON can hold.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry alone: safetensors gives several no order.
    entry = {"about": about, "sha256": _checksum(stored, about)}
    return safetensors.torch.save(stored, {ENTRY: json.dumps(entry, sort_keys=True)})


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the description.

    Raises
    ------
    DamagedError
        If the file is not whole, or not as it was written.
    OSError
        If it cannot be read.
    """
    # Not through a memory map: there, a file that another process cuts kills this one.
    content = path.read_bytes()
    try:
        tensors = safetensors.torch.load(content)
        length = int.from_bytes(content[:8], "little")
        entry = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][ENTRY])
        checksum, about = entry["sha256"], entry["about"]
    except SafetensorError as error:
        raise DamagedError(str(error)) from None
    except (KeyError, ValueError, TypeError):
        raise DamagedError("it has no checksum") from None
    if checksum != _checksum(tensors, about):
        raise DamagedError("its content is not that of its checksum")
    return tensors, about


def _checksum(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
