"""Memory that did not suffice, and what would need less; without torch, as some jobs are."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.errors import UserError

# Settings that a job's memory grows with, by verb; that of the others grows with the data alone.
HEAVY = {
    "pack": ("image_size", "images_per_class"),
    "train": ("batch_size", "meta_batch", "n_query", "n_shot", "inner_steps"),
    "adapt": ("batch_size", "n_query"),
    "project": ("n_images", "n_fit"),
}
# What torch's allocators, cuBLAS and cuDNN say, whatever they raise.
SIGNS = ("out of memory", "can't allocate memory", "ALLOC_FAILED")


@contextmanager
def memory_faults(verb: str, settings: Mapping[str, Any], where: str) -> Iterator[None]:
    """Tell the user of memory that did not suffice for a job.

    Parameters
    ----------
    settings
        The job's; those that its memory grows with are named.
    where
        What it runs on and how much memory that has, in words.

    Raises
    ------
    UserError
        In place of the error of torch, numpy or Python; any other error passes.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".") or "it is all taken"
        if not isinstance(error, MemoryError) and not any(sign in reason for sign in SIGNS):
            raise
        names = [settings.get(name) for name in ("dataset", "run", "simulation")]
        job = " ".join([verb, *filter(None, names)])
        if settings.get("seed") is not None:
            job += f" seed {settings['seed']}"
        heavy = ", ".join(dict.fromkeys(_values(settings, HEAVY.get(verb, ()))))
        raise UserError(
            f"{job}: memory does not suffice on {where}: {reason}. Free some, let fewer jobs run "
            "at once, or take a larger device"
            + (f"; or lower one of these in config.yaml: {heavy}" if heavy else "")
            + ". What was saved is kept"
        ) from None


def host() -> str:
    """This machine and its memory, in words."""
    n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"this machine, which has {n_bytes / 2**30:.1f} GiB"


def _values(settings: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _values(value, names)
        elif name in names and value is not None:
            yield f"{name} (now {value})"
