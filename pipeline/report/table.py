"""What a table is: sections of cells, each with its uncertainty and the paper's value."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.analysis.statistics import Estimate, estimate
from pipeline.report.results import PerSeed, over_seeds

PAPER_NAMES = {"cifar_fs": "CIFAR-FS", "mini_imagenet": "mini-ImageNet"}


@dataclass(frozen=True)
class Published:
    """A number of the paper, with as many digits as it prints."""

    value: Decimal
    radius: Decimal | None
    # What the radius means: "one standard error", "95 % interval" or "none".
    radius_meaning: str
    # "measured" by the authors, or "quoted" by them from other work.
    kind: str


def published(table: str, row: str, backbone: str, role: str, column: str) -> Published | None:
    """A number from ``published.csv``, which holds the paper's tables cell by cell."""
    return _all_published().get((table, row, backbone, role, column))


@cache
def _all_published() -> Mapping[tuple[str, ...], Published]:
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return {
            (row["table"], row["row"], row["backbone"], row["dataset"], row["column"]): Published(
                value=Decimal(row["value"]),
                radius=Decimal(row["radius"]) if row["radius"] else None,
                radius_meaning=row["radius_meaning"],
                kind=row["kind"],
            )
            for row in csv.DictReader(file)
        }


@dataclass(frozen=True)
class Cell:
    """One number of a table; ``ours`` is None while it is pending."""

    row: str
    backbone: str
    column: str
    ours: Estimate | None
    n_seeds: int = 0
    # Standard deviation between the seeds' means; None with a single seed.
    seed_sd: float | None = None
    paper: Published | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        if self.ours is None or self.paper is None:
            return None
        return self.ours.mean - float(self.paper.value)


def cell(
    row: str,
    backbone: str,
    column: str,
    samples: PerSeed,
    paper: Published | None = None,
) -> Cell:
    """A cell from each seed's samples: the error is over episodes, of the mean over seeds.

    A single sample per seed is a number that is no mean, and has no error.
    """
    if not samples:
        return Cell(row, backbone, column, None, paper=paper)
    means = [float(one.mean()) for one in samples.values()]
    shared = over_seeds(samples)
    return Cell(
        row,
        backbone,
        column,
        estimate(shared) if len(shared) > 1 else Estimate(float(shared[0]), None, 1),
        n_seeds=len(samples),
        seed_sd=float(np.std(means, ddof=1)) if len(means) > 1 else None,
        paper=paper,
    )


@dataclass(frozen=True)
class Section:
    """The part of a table that is about one of the paper's data sets."""

    role: str
    # What was measured in its place: itself, a stand-in, or nothing at this scale.
    dataset: str | None
    cells: list[Cell]

    @property
    def heading(self) -> str:
        paper = PAPER_NAMES[self.role]
        if self.dataset is None:
            return f"{paper} (no data at this scale)"
        if self.dataset == self.role:
            return paper
        return f"{self.dataset} (generated images in the place of {paper})"


@dataclass(frozen=True)
class Table:
    """A whole table; ``digits`` are those after the point."""

    id: str
    # The paper's name for it, if it is one of the paper's.
    number: str | None
    title: str
    scale: str
    digits: int
    sections: list[Section]
    notes: list[str]

    @property
    def heading(self) -> str:
        return f"{self.number}: {self.title}" if self.number else self.title

    @property
    def cells(self) -> list[Cell]:
        return [cell for section in self.sections for cell in section.cells]


def sections(roles: Mapping[str, str], cells: Callable[[str, str], list[Cell]]) -> list[Section]:
    """A section for each of the paper's data sets; ``cells(role, dataset)`` fills it.

    A role without data has a section of pending cells: no record will be found for it.
    """
    return [
        Section(role, roles.get(role), cells(role, roles.get(role, ""))) for role in PAPER_NAMES
    ]
