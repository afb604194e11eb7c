"""Linear CKA of a meta-learned run and its twins, from features in memory."""

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.heads import N_FEATURES, N_NOVEL
from benchmarks.timing import Figure, matrix_product
from pipeline.analysis.cka import Centred, similarities, stratified_folds
from pipeline.machine import prepare

N_FOLDS = 10


def similarity() -> Iterator[Figure]:
    """Each size in a process of its own, since a process's peak of memory never falls."""
    for n_twins, name in ((1, "one twin"), (4, "four twins")):
        part = f"CKA with {name}, {N_NOVEL:,} images x {N_FEATURES:,} features, {N_FOLDS} folds"
        peak = matrix_product()
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            seconds, memory = process.submit(compare, n_twins).result()
        yield Figure(part, seconds, "s", 1, peak)
        yield Figure(f"{part}: memory beyond the features", memory, "MB", 1, peak)


def compare(n_twins: int) -> tuple[float, float]:
    """Processor seconds, and megabytes by which the peak of memory rises."""
    prepare("cpu", threads=1)
    random = np.random.default_rng(0)
    # One matrix serves all models: what is in it costs nothing.
    features = random.standard_normal((N_NOVEL, N_FEATURES), dtype=np.float32)
    folds = stratified_folds(np.repeat(np.arange(20), N_NOVEL // 20), N_FOLDS)
    before = peak_memory()
    started = time.process_time()
    similarities([Centred(features, torch.device("cpu")) for _ in range(1 + n_twins)], folds)
    seconds = time.process_time() - started
    return seconds, peak_memory() - before


def peak_memory() -> float:
    """The most memory that this process has held so far, in megabytes.

    ``getrusage`` would not do: on Linux its peak starts at that of the process that spawned this.
    """
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024
