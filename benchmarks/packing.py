"""From a source to arrays."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Figure, rate, seconds
from pipeline.data.cifar_fs import CifarFS
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic


def packing() -> Iterator[Figure]:
    """Generated images; and an archive of one's own is named by BENCHMARK_CIFAR_FS."""
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
