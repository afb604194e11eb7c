"""How long something takes here and now."""

import time
from collections.abc import Callable
from typing import Any

import torch


def seconds(action: Callable[[], Any], device: torch.device) -> float:
    """From when the device has nothing else to do until it has done this."""
    _wait_for(device)
    began = time.perf_counter()
    action()
    _wait_for(device)
    return time.perf_counter() - began


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
