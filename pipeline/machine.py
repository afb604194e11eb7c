"""How a process uses the machine: device, threads, allocator, deterministic kernels."""

import ctypes
import platform

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.memory import host


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


def capacity(device: torch.device) -> str:
    """What holds the device's tensors and its memory, in words."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, which has {properties.total_memory / 2**30:.1f} GiB"
    return host()


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``; only a copy from pinned memory does not make the host wait."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


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
