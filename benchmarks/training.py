"""Training input, and whole training steps beside what the backbone's passes alone cost."""

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.timing import Figure, compared, rate
from pipeline import config_files, jobs
from pipeline.data.augmentation import Augmentation, Normalisation
from pipeline.data.packed import Packed
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic
from pipeline.models import r2d2
from pipeline.models.embedding import build, embed
from pipeline.training.algorithm import Algorithm
from pipeline.training.loop import start

CPU = torch.device("cpu")
# Runs at full width, with fewer episodes to a step than their defaults, to be repeated often.
RUNS: dict[str, dict[str, Any]] = {
    "r2d2_classical": {},
    "r2d2_classical_fc": {},
    "r2d2_ridge": {"meta_batch": 2, "n_shot": 5},
    "resnet12_svm": {"meta_batch": 1, "n_shot": 5},
    "conv64_protonet": {"meta_batch": 2},
    "maml_1shot": {"n_query": 1},
    "fomaml_1shot": {"n_query": 1},
    "reptile": {},
    "weight_clustering": {},
}


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


def steps() -> Iterator[Figure]:
    """One step of each algorithm; of MAML with one query per class, as is usual in benchmarks."""
    with tempfile.TemporaryDirectory() as folder:
        pack(Synthetic(image_size=32, images_per_class=40), "benchmark", Path(folder), workers=1)
        packed = Packed.open(Path(folder))
        for run, training in RUNS.items():
            changes = {"datasets": ["cifar_fs"], "training": training, "backbone": {"width": 1}}
            experiment = config_files.load({"scale": "demo", "runs": {run: changes}})
            settings = jobs.settings(
                experiment, "train", dataset="synthetic_cifar_fs", run=run, seed=0
            )
            own = settings["algorithm"]
            algorithm = start(settings, packed, CPU)
            algorithm.modules.train()
            backbone = build(settings["backbone"], 32).to(memory_format=torch.channels_last)
            match own["algorithm"]:
                case "classical":
                    sizes = [own["batch_size"]]
                    bare, items, unit = partial(passes, backbone, sizes), sizes[0], "images/s"
                case "episodic":
                    episodes = own["meta_batch"] * own["n_way"]
                    sizes = [episodes * own["n_shot"], episodes * own["n_query"]]
                    bare, items, unit = partial(passes, backbone, sizes), sum(sizes), "images/s"
                case "maml":
                    bare, items, unit = partial(maml_passes, own), own["meta_batch"], "tasks/s"
                case _:
                    bare = partial(reptile_passes, backbone, own)
                    items, unit = own["meta_batch"], "tasks/s"
            yield from compared(run, bare, partial(next_step, algorithm, count()), items, unit)
        frozen = r2d2.build(32).to(memory_format=torch.channels_last).eval()
        images = torch.from_numpy(np.array(packed.images("novel")))
        yield rate(
            "embedding, R2-D2, 32 pixels",
            lambda: list(embed(frozen, images, Normalisation())),
            len(images),
            "images/s",
        )


def next_step(algorithm: Algorithm, index: Iterator[int]) -> None:
    algorithm.step(next(index))


_IMAGES: dict[tuple[int, torch.memory_format], Tensor] = {}


def images_of(size: int, layout: torch.memory_format = torch.channels_last) -> Tensor:
    if (size, layout) not in _IMAGES:
        _IMAGES[size, layout] = torch.randn(size, 3, 32, 32).contiguous(memory_format=layout)
    return _IMAGES[size, layout]


def passes(backbone: nn.Module, sizes: list[int]) -> None:
    """Forward and backward of the backbone alone, with the least loss there can be."""
    backbone.zero_grad(set_to_none=True)
    loss = torch.zeros(())
    for size in sizes:
        loss = loss + backbone(images_of(size)).sum()
    loss.backward()  # type: ignore[no-untyped-call]


def reptile_passes(backbone: nn.Module, own: dict[str, Any]) -> None:
    """Each inner step's gradient of a network with a head, and nothing done with it."""
    network = nn.Sequential(backbone, nn.Linear(128, own["n_way"]))
    labels = torch.arange(own["batch_size"]) % own["n_way"]
    for _ in range(own["meta_batch"] * own["inner_steps"]):
        loss = functional.cross_entropy(network(images_of(own["batch_size"])), labels)
        torch.autograd.grad(loss, list(network.parameters()))


def maml_passes(own: dict[str, Any]) -> None:
    """The inner steps, the query loss and their gradient, written out for one architecture."""
    first_order = own["first_order"]
    layout = torch.channels_last if first_order else torch.contiguous_format
    support, query = (images_of(own["n_way"] * own[n], layout) for n in ("n_shot", "n_query"))
    labels, truth = (torch.arange(own["n_way"]).repeat(own[n]) for n in ("n_shot", "n_query"))
    for _ in range(own["meta_batch"]):
        initial = conv4_parameters()
        moved = initial
        for _ in range(own["inner_steps"]):
            loss = functional.cross_entropy(conv4(moved, support), labels)
            slopes = torch.autograd.grad(loss, moved, create_graph=not first_order)
            moved = [p - own["inner_lr"] * slope for p, slope in zip(moved, slopes, strict=True)]
            if first_order:
                moved = [p.detach().requires_grad_() for p in moved]
        loss = functional.cross_entropy(conv4(moved, query), truth)
        torch.autograd.grad(loss, moved if first_order else initial)


def conv4_parameters() -> list[Tensor]:
    shapes: list[tuple[int, ...]] = []
    for channels in (3, 32, 32, 32):
        shapes += [(32, channels, 3, 3), (32,), (32,), (32,)]
    return [torch.randn(shape).requires_grad_() for shape in (*shapes, (5, 128), (5,))]


def conv4(parameters: list[Tensor], images: Tensor) -> Tensor:
    for i in range(0, 16, 4):
        filters, bias, scale, shift = parameters[i : i + 4]
        images = functional.conv2d(images, filters, bias, padding=1)
        images = functional.batch_norm(images, None, None, scale, shift, training=True)
        images = functional.relu(functional.max_pool2d(images, 2))
    return functional.linear(images.flatten(1), parameters[16], parameters[17])
