"""How a process uses the machine: device, threads, allocator, deterministic kernels."""

import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pipeline.errors import UserError


def prepare(device: str, threads: int) -> torch.device:
    """Set the process up and return its device.

    Parameters
    ----------
    device
        "cpu", "cuda", or "auto": a GPU if there is one.
    threads
        Of the CPU's kernels. Sums are split by thread, so the number is part of what makes
        two runs bitwise equal.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no GPU here; use --device cpu or auto")
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    _keep_freed_memory()
    return torch.device(device)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}, {torch.get_num_threads()} threads"


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; only a copy from pinned memory does not make the host wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def memory_faults(doing: str, device: torch.device, lower: Mapping[str, object]) -> Iterator[None]:
    """Tell the user of memory that did not suffice, and what would need less.

    Parameters
    ----------
    lower
        Settings that memory depends on, with their values.

    Raises
    ------
    UserError
        In place of the error of torch, numpy or Python; any other error passes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or "it is all taken"
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and not any(
            sign in reason for sign in _OUT_OF_MEMORY
        ):
            raise
        keys = ", ".join(f"{name} (now {value})" for name, value in lower.items())
        raise UserError(
            f"{doing}: memory does not suffice on {describe(device)}, which has "
            f"{_memory_bytes(device) / 2**30:.1f} GiB: {reason}. Free some, take a larger device, "
            f"or lower one of these in config.yaml: {keys}. What was saved is kept"
        ) from None


# Of the processor's allocator and of cuBLAS and cuDNN, which raise no error of their own.
_OUT_OF_MEMORY = ("can't allocate memory", "ALLOC_FAILED")


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _keep_freed_memory() -> None:
    """Tell glibc to keep large blocks instead of returning them to the system.

    Otherwise each large tensor is mapped and page-faulted anew, which costs small networks
    up to half of their time. Results do not change.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_max, 0)
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 2**28)
