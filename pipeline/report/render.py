"""A table as Markdown, LaTeX, CSV, and as JSON for the page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from pipeline.analysis.statistics import Estimate
from pipeline.files import write_json, write_text
from pipeline.report.results import Results
from pipeline.report.table import MARKS, Cell, Published, Section, Table, variants
from pipeline.report.tex import escaped, fitted
from pipeline.words import plural

PENDING = "pending"
# Lines that a page of LaTeX holds beside a caption.
LONG = 45


def write(table: Table, results: Results, prefix: Path) -> None:
    """Write ``<prefix>.md`` and ``.tex`` to be read, ``.csv`` in full, ``.json`` for the page."""
    layout = Layout(table, variants(results, table))
    write_text(prefix.with_suffix(".md"), markdown(layout))
    write_text(prefix.with_suffix(".tex"), latex(layout))
    write_text(prefix.with_suffix(".csv"), _csv(table))
    write_json(prefix.with_suffix(".json"), as_json(layout))


@dataclass(frozen=True)
class Entry:
    """What stands in one place of a printed table."""

    text: str = ""
    bold: bool = False
    # Keys of MARKS.
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """A printed line: our numbers, their intervals, or the paper's numbers."""

    name: str
    backbone: str
    entries: dict[str, Entry]


@dataclass
class Layout:
    """A table as it is printed: up to three lines for each row of the paper's."""

    table: Table
    more_notes: list[str]
    # The letter of each mark, by where it is met first.
    letters: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        met = dict.fromkeys(
            mark
            for cell in self.table.cells
            for mark in (*(cell.marks if cell.measured else ()), *cell.paper_marks)
        )
        self.letters = {mark: chr(ord("a") + index) for index, mark in enumerate(met)}

    def lines(self, section: Section) -> list[Line]:
        rows: dict[tuple[str, str], list[Cell]] = {}
        for cell in section.cells:
            rows.setdefault((cell.row, cell.backbone), []).append(cell)
        lines = []
        for (row, backbone), cells in rows.items():
            kinds: list[tuple[str, str, Callable[[Section, Cell], Entry]]] = [
                (row, backbone, self.ours),
                ("95 %", "", self.interval),
                ("paper", "", self.paper),
            ]
            for name, group, entry in kinds:
                entries = {cell.column: entry(section, cell) for cell in cells}
                if name == row or any(one.text for one in entries.values()):
                    lines.append(Line(name, group, entries))
        return lines

    def ours(self, _: Section, cell: Cell) -> Entry:
        if cell.ours is None:
            return Entry(PENDING)
        return Entry(estimated(cell.ours, self._digits(cell)), cell.best, cell.marks)

    def interval(self, _: Section, cell: Cell) -> Entry:
        if cell.interval is None:
            return Entry()
        low, high = (_number(end, self._digits(cell)) for end in cell.interval)
        return Entry(f"[{low}, {high}]")

    def paper(self, section: Section, cell: Cell) -> Entry:
        if cell.paper is None:
            return Entry()
        # To generated images the paper's numbers are no more than an example of its form.
        difference = "" if section.is_stand_in else _difference(cell, self._digits(cell))
        return Entry(f"{printed(cell.paper)}{difference}", marks=cell.paper_marks)

    def _digits(self, cell: Cell) -> int:
        return self.table.digits if cell.digits is None else cell.digits

    @property
    def notes(self) -> list[str]:
        """The table's own, between what its numbers are and what must not be read into them."""
        table = self.table
        means = [cell for cell in table.cells if cell.ours and cell.ours.se is not None]
        seeds = ", ".join(str(n) for n in sorted({cell.measured.n_seeds for cell in means}))
        notes = list(table.notes)
        if means:
            notes.insert(
                0,
                "Ours: mean ± one standard error, and the 95 % confidence interval, over "
                f"{_sizes(means)}; seeds: {seeds}.",
            )
        if any(cell.interval is None for cell in means):
            notes.append("No interval: all samples are equal, and leave their spread unknown.")
        if any(cell.ours and cell.interval not in (None, cell.ours.interval) for cell in means):
            notes.append("Intervals of accuracies are cut at 0 and 100 %.")
        if any(
            cell.difference is not None
            for section in table.sections
            for cell in section.cells
            if not section.is_stand_in
        ):
            notes.append(
                "Paper: in brackets our difference to it, and the same in standard errors (SE) of "
                "the difference."
            )
        if any(cell.best for cell in table.cells):
            notes.append("Bold: the best of those that the paper compares.")
        notes += [f"{letter}: {MARKS[mark]}" for mark, letter in self.letters.items()]
        notes += self.more_notes
        if any(section.is_stand_in for section in table.sections):
            notes.append(
                "Generated images stand in for the paper's: what is measured on them says nothing "
                "about the paper, whose numbers show what its table is like."
            )
        return notes


def _sizes(means: list[Cell]) -> str:
    """How many samples there are, and of which columns or else rows, if these decide it."""
    found: dict[tuple[int, str], list[Cell]] = {}
    for cell in means:
        if cell.ours:
            found.setdefault((cell.ours.n, cell.measured.unit), []).append(cell)
    sizes, groups = zip(*sorted(found.items(), key=itemgetter(0)), strict=True)
    printed_sizes = [plural(*size) for size in sizes]
    # A row of a run and a fine-tuner goes by the latter.
    for name in (lambda cell: cell.column, lambda cell: cell.row.rpartition(", ")[2]):
        names = [dict.fromkeys(map(name, cells)) for cells in groups]
        if len(sizes) > 1 and sum(map(len, names)) == len({*chain(*names)}):
            of = [*(", ".join(one) for one in names[:-1]), "the others"]
            return " or ".join(map("{} ({})".format, printed_sizes, of))
    return " or ".join(printed_sizes)


def estimated(ours: Estimate, digits: int) -> str:
    """The mean with its standard error."""
    return _number(ours.mean, digits) + (
        "" if ours.se is None else f" ± {_number(ours.se, digits)}"
    )


def _number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def printed(paper: Published) -> str:
    return f"{paper.value}" + ("" if paper.radius is None else f" ± {paper.radius}")


def _difference(cell: Cell, digits: int) -> str:
    if cell.difference is None:
        return ""
    in_se = cell.difference_in_se
    return f" ({cell.difference:+,.{digits}f}{'' if in_se is None else f', {in_se:+.1f} SE'})"


def markdown(layout: Layout) -> str:
    def shown(entry: Entry) -> str:
        marks = ", ".join(layout.letters[mark] for mark in entry.marks)
        text = f"**{entry.text}**" if entry.bold else entry.text
        return f"{text} <sup>{marks}</sup>" if marks else text

    table = layout.table
    parts = [f"# {table.heading}", f"Scale: {table.scale}."]
    for section in table.sections:
        lines = [
            {"": line.name, "Backbone": line.backbone}
            | {name: shown(entry) for name, entry in line.entries.items()}
            for line in layout.lines(section)
        ]
        body = tabulate(
            _columns(lines, section).to_dict("list"), "keys", "github", disable_numparse=True
        )
        parts += [f"## {section.heading}", body]
    parts.append("\n".join(f"- {note}" for note in layout.notes))
    return "\n\n".join(parts) + "\n"


def latex(layout: Layout) -> str:
    """A float for each data set, or, where it is long, a table of several pages.

    Needs the packages booktabs, graphicx and longtable.
    """

    def shown(entry: Entry) -> str:
        text = escaped(entry.text)
        marks = ", ".join(layout.letters[mark] for mark in entry.marks)
        text = rf"\textbf{{{text}}}" if entry.bold else text
        return rf"{text}\textsuperscript{{{marks}}}" if marks else text

    table, parts = layout.table, []
    for section in table.sections:
        lines = [
            {"": escaped(line.name), "Backbone": escaped(line.backbone)}
            | {escaped(name): shown(entry) for name, entry in line.entries.items()}
            for line in layout.lines(section)
        ]
        long = len(lines) > LONG
        body = _columns(lines, section).to_latex(index=False, escape=False, longtable=long)
        words = [f"{table.heading}. {section.heading}. Scale: {table.scale}.", *layout.notes]
        caption = rf"\caption{{{escaped(' '.join(words))}}}"
        if long:
            # pandas would repeat the caption on every page.
            body = body.replace("\\toprule", f"{caption} \\\\\n\\toprule", 1)
            parts.append(f"{{\\footnotesize\n{body}}}\n")
        else:
            parts.append(
                "\\begin{table}[htbp]\n\\centering\\footnotesize\n"
                f"{fitted(body)}\n{caption}\n\\end{{table}}\n"
            )
    return "\n".join(parts)


def _columns(lines: list[dict[str, str]], section: Section) -> pd.DataFrame:
    """A column may be of one row alone; that of backbones goes where there are none."""
    frame = pd.DataFrame(lines).fillna("")
    if not any(cell.backbone for cell in section.cells):
        frame = frame.drop(columns="Backbone")
    return frame


def as_json(layout: Layout) -> dict[str, Any]:
    """What the page shows of a table, and where each cell comes from."""
    table = layout.table
    return {
        "number": table.number,
        "heading": table.heading,
        "notes": layout.notes,
        "sections": [
            {
                "heading": section.heading,
                "columns": list(dict.fromkeys(cell.column for cell in section.cells)),
                "cells": [
                    {
                        "address": section.address(cell),
                        "row": cell.row,
                        "backbone": cell.backbone,
                        "column": cell.column,
                        "value": cell.ours.mean if cell.ours else None,
                        "ours": layout.ours(section, cell).text,
                        "interval": layout.interval(section, cell).text,
                        "paper": layout.paper(section, cell).text,
                        "best": cell.best,
                        "marks": [
                            layout.letters[mark] for mark in layout.ours(section, cell).marks
                        ],
                        "paper_marks": [layout.letters[mark] for mark in cell.paper_marks],
                        "place": cell.measured.place,
                        "samples": cell.ours.n if cell.ours else 0,
                        "unit": cell.measured.unit,
                        "sources": list(cell.measured.sources),
                    }
                    for cell in section.cells
                ],
            }
            for section in table.sections
        ],
    }


def _csv(table: Table) -> str:
    rows = [_row(table, section, cell) for section in table.sections for cell in section.cells]
    # With a pending cell the counts would turn into floats.
    frame = pd.DataFrame(rows).astype({"n_samples": "Int64"})
    return frame.to_csv(index=False, lineterminator="\n")


def _row(table: Table, section: Section, cell: Cell) -> dict[str, Any]:
    low, high = cell.interval or (None, None)
    return {
        "table": table.id,
        "cell": section.address(cell),
        "scale": table.scale,
        "dataset": section.dataset,
        "in_place_of": section.role,
        "part": section.part,
        "row": cell.row,
        "backbone": cell.backbone,
        "column": cell.column,
        "mean": cell.ours and cell.ours.mean,
        "standard_error": cell.ours and cell.ours.se,
        "low_95": low,
        "high_95": high,
        "n_samples": cell.ours and cell.ours.n,
        "unit": cell.measured.unit,
        "n_seeds": cell.measured.n_seeds,
        "sd_between_seeds": cell.seed_sd,
        "published": cell.paper and cell.paper.value,
        "published_radius": cell.paper and cell.paper.radius,
        "published_radius_meaning": cell.paper and cell.paper.radius_meaning,
        "published_kind": cell.paper and cell.paper.kind,
        "difference": None if section.is_stand_in else cell.difference,
        "difference_in_se": None if section.is_stand_in else cell.difference_in_se,
        "marks": " ".join((*cell.marks, *cell.paper_marks)),
        "records": " ".join(cell.measured.sources),
    }
