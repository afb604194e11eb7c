"""What a table is: sections of cells, each with its uncertainty and the paper's value."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache, cached_property
from math import hypot
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.analysis.statistics import Estimate
from pipeline.report.results import Measured, Results

PAPER_NAMES = {"cifar_fs": "CIFAR-FS", "mini_imagenet": "mini-ImageNet"}

# What a letter at a number says of it.
MARKS = {
    "quoted": "The paper took this number from earlier work.",
    "suspect": "The paper prints under this name a number that was measured otherwise: see "
    "published.csv.",
    "transductive": "Transductive: batch norm sees all queries of an episode as one batch.",
}


@dataclass(frozen=True)
class Published:
    """A number of the paper, with as many digits as it prints."""

    value: Decimal
    radius: Decimal | None
    # What the radius means: "one standard error", "95 % interval" or "none".
    radius_meaning: str
    # "measured" by the authors, "quoted" by them from other work, or "suspect".
    kind: str

    @property
    def se(self) -> float:
        """Its standard error, by what the radius means; 0 where none is printed."""
        if self.radius is None:
            return 0.0
        return float(self.radius) / (1.96 if self.radius_meaning == "95 % interval" else 1.0)


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
    """One number of a table; not measured, it is pending."""

    row: str
    backbone: str
    column: str
    measured: Measured
    paper: Published | None = None
    # Keys of MARKS that hold for our number.
    marks: tuple[str, ...] = ()
    # Cells with the same rivals compete: the best of them is in bold, as in the paper.
    rivals: str | None = None
    best: bool = False
    # After the point, where they are not those of the table.
    digits: int | None = None

    @cached_property
    def ours(self) -> Estimate | None:
        return self.measured.estimate() if self.measured else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval, as far as the quantity can go."""
        return self.measured.interval() if self.measured else None

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation between seeds; None with a single one, and of pairs of them."""
        if self.measured.paired_seeds:
            return None
        values = list(self.measured.of_seeds().values())
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        if self.ours is None or self.paper is None:
            return None
        return self.ours.mean - float(self.paper.value)

    @property
    def difference_in_se(self) -> float | None:
        """The same in standard errors of the difference, as far as both sides give one."""
        ours, difference = self.ours, self.difference
        if ours is None or difference is None or self.paper is None:
            return None
        se = hypot(ours.se or 0.0, self.paper.se)
        return difference / se if se > 0 else None

    @property
    def paper_marks(self) -> tuple[str, ...]:
        kind = self.paper.kind if self.paper else "measured"
        return (kind,) if kind in MARKS else ()


@dataclass(frozen=True)
class Section:
    """The part of a table that is about one of the paper's data sets, or another in a role."""

    role: str
    # What was measured in its place: itself, a stand-in, or nothing at this scale.
    dataset: str | None
    cells: list[Cell]
    # What else it is about, where a data set has several sections.
    part: str = ""

    @property
    def heading(self) -> str:
        return ", ".join(filter(None, [self._data, self.part]))

    @property
    def short(self) -> str:
        """The heading in a few words, where other words say what generated images are."""
        data = self.dataset if self.is_stand_in else self._paper
        return ", ".join(filter(None, [data, self.part]))

    @property
    def is_stand_in(self) -> bool:
        return self.dataset not in (None, self.role)

    @property
    def _paper(self) -> str:
        """The published name of the role; its own, where a configuration has more roles."""
        return PAPER_NAMES.get(self.role, self.role)

    @property
    def _data(self) -> str:
        if self.dataset is None:
            return f"{self._paper} (no data at this scale)"
        if not self.is_stand_in:
            return self._paper
        return f"{self.dataset} (generated images in the place of {self._paper})"

    def address(self, cell: Cell) -> str:
        """The name of a cell in its table, which ``explain`` and links know it by."""
        parts = [self.role, self.part, cell.backbone, cell.row, cell.column]
        return "/".join(
            re.sub(r"[^a-z0-9.]+", "-", part.lower()).strip("-") for part in parts if part
        )


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


def sections(
    settings: Mapping[str, Any],
    cells: Callable[[str, str], Iterable[Cell]],
    *,
    roles: Iterable[str] = tuple(PAPER_NAMES),
    best: Literal["highest", "lowest"] | None = None,
    part: str = "",
) -> list[Section]:
    """A section for each of the paper's data sets; ``cells(role, dataset)`` fills it.

    A role without data has a section of pending cells: no record will be found for it.
    """
    of_roles = settings["roles"]
    return [
        Section(
            role, of_roles.get(role), _judged(list(cells(role, of_roles.get(role, ""))), best), part
        )
        for role in roles
    ]


def _judged(cells: list[Cell], best: Literal["highest", "lowest"] | None) -> list[Cell]:
    """The cells, the best of each group of rivals marked; one that is alone is not."""
    choose = max if best == "highest" else min
    winners: dict[str | None, float] = {}
    for rivals in {cell.rivals for cell in cells if best and cell.rivals is not None}:
        found = [cell for cell in cells if cell.rivals == rivals and cell.ours]
        if len(found) > 1:
            winners[rivals] = choose(cell.ours.mean for cell in found if cell.ours)
    return [
        replace(cell, best=True)
        if cell.ours and winners.get(cell.rivals) == cell.ours.mean
        else cell
        for cell in cells
    ]


def stand_ins(settings: Mapping[str, Any]) -> list[str]:
    """The data sets of generated images that are in the place of others."""
    return sorted({dataset for role, dataset in settings["roles"].items() if dataset != role})


def variants(results: Results, table: Table) -> list[str]:
    """A note on each data set's images: numbers of other pixels cannot be compared."""
    datasets = {section.dataset for section in table.sections if section.dataset}
    return [
        f"Images of {dataset}: fingerprint {found['images'][:16]}"
        + (
            f"; a variant, {found['variant']}, whose pixels may differ from those that others use."
            if "variant" in found
            else "."
        )
        for dataset in sorted(datasets)
        if (found := results.images(dataset))
    ]
