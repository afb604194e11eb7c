"""How fast each part is on one core of this machine; ``make bench``.

Every figure is the median over repetitions after a warm-up, or that of one run of many
seconds. The machine's own speed stands beside it as the rate of a large matrix product,
measured anew before each part, since a figure means little without it.
"""

import argparse
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
PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "evaluation": heads.evaluation,
    "svm": heads.support_vector_machine,
    "input": training.training_input,
    "steps": training.steps,
    "packing": packing.packing,
    "similarity": similarity.similarity,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="default: each, and results/ is written"
    )
    chosen = parser.parse_args().part or list(PARTS)
    prepare("cpu", threads=1)
    figures = []
    for figure in (figure for part in chosen for figure in PARTS[part]()):
        figures.append(figure)
        print(f"{figure.part}: {figure.value:,.4g} {figure.unit}", flush=True)
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": 1,
        "versions": records.versions(),
        "mkldnn_bf16": torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    }
    rows = [(f.part, f"{f.value:,.4g}", f.unit, f.repetitions, f"{f.peak:.0f}") for f in figures]
    headers = ("part", "median", "unit", "repetitions", "machine, GFLOP/s")
    table = tabulate(rows, headers, "github", disable_numparse=True)
    print(f"\n{table}")
    # A part of it does not take the place of the whole.
    if chosen == list(PARTS):
        found = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
        write_json(RESULTS / "benchmark.json", found)
        write_text(RESULTS / "benchmark.md", f"{table}\n\n{json.dumps(machine)}\n")


if __name__ == "__main__":
    main()
