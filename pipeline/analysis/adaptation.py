"""Accuracy of one model when the whole network is fine-tuned on each episode, and its travel."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pipeline import records
from pipeline.analysis.model import Weights
from pipeline.config.evaluation import Adaptation
from pipeline.data.augmentation import Normalisation
from pipeline.data.episodes import Episodes, sample, stream
from pipeline.data.packed import Packed
from pipeline.machine import describe
from pipeline.progress import say
from pipeline.training.adaptation import FineTuner, Initial, Tuned, require_finite
from pipeline.training.inner import Losses, Network, SecondMoments


def adapt(
    settings: dict[str, Any], code: str, weights: Path, data: Path, out: Path, device: torch.device
) -> None:
    """Write a record of what each adaptation does on each episode: the fields of ``FineTuned``.

    An adaptation with as many queries per class as the heads meets their first episodes.
    """
    started = time.monotonic()
    packed = Packed.open(data, settings["dataset"])
    trained = Weights(weights, settings | {"images": packed.passport.fingerprint})
    initial = _initial(trained, settings["backbone"], packed.passport.image_size, device)
    images = torch.from_numpy(np.array(packed.images("novel"))).to(device)
    protocol = settings["episodes"]
    values: dict[str, Any] = {}
    for name, options in settings["adaptations"].items():
        adaptation = Adaptation.model_validate(options)
        values[name] = {"n_queries": protocol["n_way"] * adaptation.n_query}
        for n_shot in protocol["n_shots"]:
            episodes = sample(
                packed.labels("novel"),
                n_way=protocol["n_way"],
                n_shot=n_shot,
                n_query=adaptation.n_query,
                n_episodes=adaptation.n_episodes,
                seed=protocol["seed"],
                stream=stream(settings["dataset"], protocol["n_way"], n_shot),
            )
            found = fine_tune(
                initial,
                adaptation,
                images,
                Normalisation.of(packed.passport, settings["normalise"]),
                episodes,
                protocol["seed"],
            )
            for field, part in vars(found).items():
                if part is not None:
                    values[name].setdefault(field, {})[str(n_shot)] = _digits(part)
            say(
                f"{name}, {n_shot} shot: {found.correct.double().mean():.2f} right, "
                f"loss {found.loss_before.mean():.4f} to {found.loss_after.mean():.4f} over a "
                f"distance of {found.distance.mean():.4g}"
            )
    records.write(
        out,
        "adaptation",
        settings,
        code=code,
        sources=packed.passport.sources | {"weights": trained.sha256},
        device=describe(device),
        wall_s=time.monotonic() - started,
        values=values,
    )


@dataclass(frozen=True)
class FineTuned:
    """What fine-tuning made of each episode."""

    # Queries that are classified correctly, out of way * query.
    correct: Int64[Tensor, " episode"]
    # The mean cross-entropy on the whole support before the first step and after the last.
    loss_before: Losses
    loss_after: Losses
    # How far convolutions moved: filter-normalised (Note 1, Figure 3), and in plain L2.
    distance: Losses
    length: Losses
    # The rows of the head are filters too; None where it starts at zero.
    distance_with_head: Losses | None = None


def fine_tune(
    initial: Initial,
    adaptation: Adaptation,
    images: Tensor,
    normalisation: Normalisation,
    episodes: Episodes,
    seed: int,
) -> FineTuned:
    """Fine-tune a model on each episode, and measure what came of it.

    Parameters
    ----------
    images, normalisation, episodes, seed
        See ``FineTuner.tune``.

    Raises
    ------
    UserError
        If anything measured is not finite.
    """
    tuner = FineTuner(initial, adaptation, episodes.support.shape[1], images.device)
    tuned = tuner.tune(images, normalisation, episodes, seed)
    parts = [_measure(tuner, some) for some in tuned]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    require_finite(found["correct"], *found.values())
    return FineTuned(**found)


def _measure(tuner: FineTuner, tuned: Tuned) -> dict[str, Tensor]:
    before = tuner.network.parts(tuned.start)
    moved = tuner.network.parts(tuned.end - tuned.start)
    convolutions = [name for name, part in before.items() if part.ndim > 3]
    measured = {
        "correct": tuner.correct(tuned),
        "loss_before": _losses(tuner, tuned.start, tuned.support),
        "loss_after": _losses(tuner, tuned.end, tuned.support),
        "distance": filter_distance(moved, before, convolutions),
        "length": _squares(moved, convolutions).sum(1).sqrt(),
    }
    if not (tuner.is_new and tuner.adaptation.new_head == "zero"):
        filters = [*convolutions, "head.weight"]
        measured["distance_with_head"] = filter_distance(moved, before, filters)
    return measured


def filter_distance(
    moved: dict[str, Tensor], before: dict[str, Tensor], names: Sequence[str]
) -> Losses:
    """The filter-normalised length of a move (Li et al., 2018; the paper's Note 1).

    sqrt(sum_f ||moved_f||^2 / ||before_f||^2), over filters f: output channels of a convolution,
    rows of a linear layer. Filters that are zero before are left out: any move of theirs would
    be infinitely long.

    Parameters
    ----------
    moved, before
        Parameters by name, (episode, filter, ...).
    names
        Of those to be measured.
    """
    squares, norms = _squares(moved, names), _squares(before, names)
    return (squares / norms).where(norms > 0, 0.0).sum(1).sqrt()


def _squares(parts: dict[str, Tensor], names: Sequence[str]) -> Float[Tensor, "episode filter"]:
    """The squared norm of each filter."""
    return torch.cat([parts[name].flatten(2).square().sum(2) for name in names], 1)


def _losses(tuner: FineTuner, parameters: Tensor, support: Tensor) -> Losses:
    """Batch norm takes its statistics from where it takes them in the steps."""
    labels = tuner.labels(support)

    def episode(parameters: Tensor, support: Tensor) -> Tensor:
        if not tuner.together:
            # As in the steps.
            support = support.contiguous(memory_format=torch.channels_last)
        return tuner.network.loss(parameters, support, labels)

    return tuner.each(episode, parameters, support)


def _digits(values: Tensor) -> list[int] | list[float]:
    """Counts as they are, of other numbers the seven digits that float32 holds."""
    if not values.is_floating_point():
        return values.tolist()
    return [float(f"{value:.7g}") for value in values.tolist()]


def _initial(
    weights: Weights, settings: dict[str, Any], image_size: int, device: torch.device
) -> Initial:
    backbone = weights.backbone(settings, image_size, device)
    image = torch.zeros(1, 3, image_size, image_size, device=device)
    n_features = backbone(image).shape[1]
    head = moments = None
    if tensors := weights.part("head"):
        head = nn.Linear(n_features, len(next(iter(tensors.values()))), device=device)
        weights.load(head, "head")
    if head and weights.part("moments"):
        moments = SecondMoments(Network(backbone, head).read())
        weights.load(moments, "moments")
    return Initial(backbone, n_features, head, moments)
