"""Few-shot evaluation from one Gram matrix per model, and heads in training."""

import statistics
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from benchmarks.timing import Figure, matrix_product, paired, rate, seconds
from pipeline.data.episodes import Episodes, sample
from pipeline.heads import prototypes, ridge, svm, svm_qpth
from pipeline.heads.scoring import Head, correct, gram, one_hot

HEADS: dict[str, Head] = {"ridge": ridge.logits, "prototypes": prototypes.logits}
# The novel images of CIFAR-FS, and the features of the R2-D2 backbone.
N_NOVEL, N_FEATURES = 12_000, 8_192


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


def support_vector_machine() -> Iterator[Figure]:
    """On overlapping classes: noise alone, as above, is solved too easily."""
    random = torch.Generator().manual_seed(0)
    labels = np.repeat(np.arange(20), 60)
    centres = 1 + torch.randn(20, 64, generator=random)[torch.from_numpy(labels)]
    features = 3 * (centres + 2 * torch.randn(1200, 64, generator=random))

    def draw(n_shot: int, n_query: int, n_episodes: int) -> Episodes:
        return sample(
            labels,
            n_way=5,
            n_shot=n_shot,
            n_query=n_query,
            n_episodes=n_episodes,
            seed=0,
            stream="benchmark",
        )

    products = gram(features)
    for n_shot in (1, 5):
        yield rate(
            f"svm head, 5-way {n_shot}-shot, from a Gram matrix of overlapping classes",
            partial(correct, products, draw(n_shot, 15, 10_000), {"svm": svm.logits}),
            10_000,
            "episodes/s",
        )
    for n_shot in (1, 5):
        few = draw(n_shot, 6, 8)
        support_rows, query_rows = (
            torch.from_numpy(part).flatten(1) for part in (few.support, few.query)
        )
        truth = torch.arange(5).repeat_interleave(6).repeat(8)

        def train(
            head: Head,
            support_rows: torch.Tensor = support_rows,
            query_rows: torch.Tensor = query_rows,
            truth: torch.Tensor = truth,
            n_shot: int = n_shot,
        ) -> None:
            support, query = features[support_rows].requires_grad_(), features[query_rows]
            classes = one_hot(5, n_shot, support).expand(8, -1, -1)
            logits = head(support @ support.mT, query @ support.mT, classes)
            loss = functional.cross_entropy(logits.flatten(0, 1), truth)
            loss.backward()  # type: ignore[no-untyped-call]

        peak = matrix_product()
        times = paired(partial(train, svm.logits), partial(train, svm_qpth.logits), 15)
        own, peer = (statistics.median(each) for each in zip(*times, strict=True))
        part = f"8 training episodes, 5-way {n_shot}-shot, forward and backward"
        yield Figure(f"svm head, {part}", 1000 * own, "ms", 15, peak)
        yield Figure(f"qpth with 15 iterations, {part}", 1000 * peer, "ms", 15, peak)
