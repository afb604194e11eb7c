"""How fast each part is on one core of this machine; ``make bench``.

Every figure is the median over repetitions after a warm-up. The machine's own speed stands
beside it as the rate of a large matrix product, measured anew before each part, since a
figure means little without it.
"""

import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from pipeline import config_files, jobs, records
from pipeline.data.augmentation import Augmentation, Normalisation
from pipeline.data.cifar_fs import CifarFS
from pipeline.data.episodes import Episodes, sample
from pipeline.data.packed import Packed
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic
from pipeline.files import write_json, write_text
from pipeline.heads import prototypes, ridge
from pipeline.heads.scoring import Head, correct, gram
from pipeline.machine import prepare
from pipeline.models import r2d2
from pipeline.models.embedding import embed
from pipeline.training.algorithm import Algorithm
from pipeline.training.loop import start

RESULTS = Path(__file__).parent / "results"
CPU = torch.device("cpu")
HEADS: dict[str, Head] = {"ridge": ridge.logits, "prototypes": prototypes.logits}
# The novel images of CIFAR-FS, and the features of the R2-D2 backbone.
N_NOVEL, N_FEATURES = 12_000, 8_192


@dataclass(frozen=True)
class Figure:
    part: str
    value: float
    unit: str
    repetitions: int
    # Of the machine at this moment, in float32 GFLOP/s.
    peak: float


def main() -> None:
    prepare("cpu", threads=1)
    figures = []
    for figure in measurements():
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


def measurements() -> Iterator[Figure]:
    yield from evaluation()
    yield from training_input()
    yield from training_steps()
    yield from packing()


def evaluation() -> Iterator[Figure]:
    """Few-shot accuracy from one Gram matrix per model."""
    features = torch.randn(N_NOVEL, N_FEATURES, generator=torch.Generator().manual_seed(0))
    labels = np.repeat(np.arange(20), N_NOVEL // 20)

    def episodes(n_shot: int) -> Episodes:
        return sample(
            labels,
            n_way=5,
            n_shot=n_shot,
            n_query=15,
            n_episodes=10_000,
            seed=0,
            stream="benchmark",
        )

    products = gram(features)
    for n_shot in (1, 5):
        drawn = episodes(n_shot)
        for name, head in HEADS.items():
            yield rate(
                f"{name} head, 5-way {n_shot}-shot, from a Gram matrix",
                partial(correct, products, drawn, {name: head}),
                10_000,
                "episodes/s",
            )

    def everything() -> None:
        own = gram(features)
        for n_shot in (1, 5):
            correct(own, episodes(n_shot), HEADS)

    yield seconds(
        f"10,000 episodes x 2 shots x 2 heads with the Gram matrix of {N_FEATURES:,} features",
        everything,
        repetitions=3,
    )


def training_input() -> Iterator[Figure]:
    """Augmented batches from images resident in memory."""
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.integers(0, 256, (38_400, 32, 32, 3), dtype=np.uint8))
    augmentation = Augmentation(images, Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)))
    for batch in (64, 256):
        chosen = [torch.from_numpy(random.integers(0, len(images), batch)) for _ in range(40)]

        def augment(chosen: list[torch.Tensor] = chosen) -> None:
            for indices in chosen:
                augmentation(indices, random)

        yield rate(f"training input, 32 pixels, batch {batch}", augment, 40 * batch, "images/s")


def training_steps() -> Iterator[Figure]:
    """Whole training steps, beside what the backbone's passes alone cost."""
    with tempfile.TemporaryDirectory() as folder:
        pack(Synthetic(image_size=32, images_per_class=40), "benchmark", Path(folder), workers=1)
        packed = Packed.open(Path(folder))
        experiment = config_files.load({"width": {"r2d2": 1}})
        for run in ("r2d2_classical", "r2d2_classical_fc", "r2d2_ridge"):
            settings = jobs.settings(
                experiment, "train", dataset="synthetic_cifar_fs", run=run, seed=0
            )
            algorithm = start(settings, packed, CPU)
            algorithm.modules.train()
            sizes = [64] if "classical" in run else [2 * 5 * 5, 2 * 5 * 6]
            bare, whole = paired(
                partial(bare_passes, sizes), partial(next_step, algorithm, count())
            )
            peak = matrix_product()
            yield Figure(f"{run}: bare backbone", sum(sizes) / bare, "images/s", 15, peak)
            yield Figure(f"{run}: whole step", sum(sizes) / whole, "images/s", 15, peak)
            yield Figure(f"{run}: whole step / bare", 100 * bare / whole, "%", 15, peak)
        backbone = r2d2.build(1.0).to(memory_format=torch.channels_last).eval()
        images = torch.from_numpy(np.array(packed.images("novel")))
        yield rate(
            "embedding, R2-D2, 32 pixels",
            lambda: list(embed(backbone, images, Normalisation())),
            len(images),
            "images/s",
        )


def next_step(algorithm: Algorithm, index: Iterator[int]) -> None:
    algorithm.step(next(index))


_BARE = r2d2.build(1.0).to(memory_format=torch.channels_last)
_IMAGES: dict[int, torch.Tensor] = {}


def bare_passes(sizes: list[int]) -> None:
    """Forward and backward of the backbone alone, with the least loss there can be."""
    _BARE.zero_grad(set_to_none=True)
    loss = torch.zeros(())
    for size in sizes:
        if size not in _IMAGES:
            images = torch.randn(size, 3, 32, 32)
            _IMAGES[size] = images.to(memory_format=torch.channels_last)
        loss = loss + _BARE(_IMAGES[size]).sum()
    loss.backward()  # type: ignore[no-untyped-call]


def packing() -> Iterator[Figure]:
    """From a source to arrays; an archive of one's own is named by BENCHMARK_CIFAR_FS."""
    with tempfile.TemporaryDirectory() as folder:
        source = Synthetic(image_size=32, images_per_class=200)
        yield rate(
            "generated images, 32 pixels, packed",
            lambda: pack(source, "benchmark", Path(folder), workers=1),
            20_000,
            "images/s",
            repetitions=3,
        )
        archive = os.environ.get("BENCHMARK_CIFAR_FS")
        if archive:
            cifar_fs = CifarFS.open(Path(archive))
            yield seconds(
                "CIFAR-FS packed from the authors' archive, 60,000 images",
                lambda: pack(cifar_fs, "cifar_fs", Path(folder), workers=1),
                repetitions=3,
            )


# Timing


def rate(
    part: str, action: Callable[[], object], items: int, unit: str, repetitions: int = 7
) -> Figure:
    figure = seconds(part, action, repetitions)
    return Figure(part, items / figure.value, unit, repetitions, figure.peak)


def seconds(part: str, action: Callable[[], object], repetitions: int = 7) -> Figure:
    action()
    peak = matrix_product()
    return Figure(
        part, statistics.median(timed(action) for _ in range(repetitions)), "s", repetitions, peak
    )


def paired(
    first: Callable[[], object], second: Callable[[], object], repetitions: int = 15
) -> tuple[float, float]:
    """Medians of two actions measured in turn, so that both meet the same machine."""
    first()
    second()
    times = [(timed(first), timed(second)) for _ in range(repetitions)]
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times)


def timed(action: Callable[[], object]) -> float:
    """Processor seconds: what others do on the machine counts less than in seconds of the clock."""
    started = time.process_time()
    action()
    return time.process_time() - started


def matrix_product(n: int = 2048) -> float:
    """Rate of an n x n float32 matrix product, in GFLOP/s."""
    matrix = torch.ones(n, n)
    torch.mm(matrix, matrix)
    return 2 * n**3 / min(timed(lambda: torch.mm(matrix, matrix)) for _ in range(3)) / 1e9


if __name__ == "__main__":
    main()
