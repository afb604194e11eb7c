"""How fast each part is on one core of this machine; ``make bench``.

Every figure is the median over repetitions after a warm-up, or that of one run of many
seconds. The machine's own speed stands beside it as the rate of a large matrix product,
measured anew before each part, since a figure means little without it.
"""

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks import heads, packing, similarity, training
from benchmarks.timing import Figure
from pipeline import records
from pipeline.files import write_json, write_text
from pipeline.machine import prepare

RESULTS = Path(__file__).parent / "results"
PARTS: list[Callable[[], Iterator[Figure]]] = [
    heads.evaluation,
    heads.support_vector_machine,
    training.training_input,
    training.steps,
    packing.packing,
    similarity.similarity,
]


def main() -> None:
    prepare("cpu", threads=1)
    figures = []
    for figure in (figure for part in PARTS for figure in part()):
        figures.append(figure)
        print(f"{figure.part}: {figure.value:,.4g} {figure.unit}", flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "versions": records.versions(),
        "mkldnn_bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    }
    write_json(
        RESULTS / "benchmark.json",
        {"machine": machine, "figures": [asdict(figure) for figure in figures]},
    )
    rows = [(f.part, f"{f.value:,.4g}", f.unit, f.repetitions, f"{f.peak:.0f}") for f in figures]
    headers = ("part", "median", "unit", "repetitions", "machine, GFLOP/s")
    table = tabulate(rows, headers, "github", disable_numparse=True)
    write_text(RESULTS / "benchmark.md", f"{table}\n\n{json.dumps(machine)}\n")
    print(f"\n{table}")


if __name__ == "__main__":
    main()
