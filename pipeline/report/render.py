"""A table as Markdown, LaTeX and CSV."""

from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from pipeline.analysis.statistics import Estimate
from pipeline.files import write_text
from pipeline.report.table import Cell, Published, Section, Table

PENDING = "pending"


def write(table: Table, prefix: Path) -> None:
    """Write ``<prefix>.md`` and ``.tex`` to be read, ``.csv`` with every cell in full."""
    write_text(prefix.with_suffix(".md"), markdown(table))
    write_text(prefix.with_suffix(".tex"), latex(table))
    write_text(prefix.with_suffix(".csv"), _csv(table))


def markdown(table: Table) -> str:
    parts = [f"# {table.heading}", f"Scale: {table.scale}."]
    for section in table.sections:
        frame = _frame(table, section)
        body = tabulate(frame.to_dict("list"), "keys", "github", disable_numparse=True)
        parts += [f"## {section.heading}", body]
    parts.append("\n".join(f"- {note}" for note in _notes(table)))
    return "\n\n".join(parts) + "\n"


def latex(table: Table) -> str:
    """One float per data set; needs the package booktabs."""
    parts = []
    for section in table.sections:
        body = _frame(table, section).to_latex(index=False, escape=True)
        # An opening bracket after a line's end would be read as the option of \\.
        body = body.replace("±", r"$\pm$").replace("[", "{[}")
        caption = " ".join(
            [f"{table.title}. {section.heading}. Scale: {table.scale}.", *_notes(table)]
        )
        parts.append(
            "\\begin{table}\n\\centering\\footnotesize\n"
            f"{body}\\caption{{{_escaped(caption)}}}\n\\end{{table}}\n"
        )
    return "\n".join(parts)


def _csv(table: Table) -> str:
    rows = [_row(table, section, cell) for section in table.sections for cell in section.cells]
    # With a pending cell the counts would turn into floats.
    frame = pd.DataFrame(rows).astype({"n_samples": "Int64"})
    return frame.to_csv(index=False, lineterminator="\n")


def _frame(table: Table, section: Section) -> pd.DataFrame:
    """A line for each row of the paper's table; its columns with interval, paper, difference."""
    lines: dict[tuple[str, str], dict[str, str]] = {}
    compared = any(cell.paper for cell in section.cells)
    for cell in section.cells:
        names = {"": cell.row} | ({"Backbone": cell.backbone} if cell.backbone else {})
        line = lines.setdefault((cell.row, cell.backbone), names)
        line[cell.column] = line[f"{cell.column} 95 %"] = PENDING
        if cell.ours is not None:
            line[cell.column], line[f"{cell.column} 95 %"] = _estimate(cell.ours, table.digits)
        if compared:
            line[f"{cell.column} paper"] = _paper(cell.paper)
            difference = cell.difference
            line[f"{cell.column} difference"] = (
                "" if difference is None else f"{difference:+.{table.digits}f}"
            )
    # A column may be of one backbone alone.
    return pd.DataFrame(list(lines.values())).fillna("")


def _estimate(ours: Estimate, digits: int) -> tuple[str, str]:
    """The mean with its standard error, and the interval."""
    if ours.se is None or ours.interval is None:
        return f"{ours.mean:.{digits}f}", ""
    low, high = ours.interval
    return (
        f"{ours.mean:.{digits}f} ± {ours.se:.{digits}f}",
        f"[{low:.{digits}f}, {high:.{digits}f}]",
    )


def _paper(paper: Published | None) -> str:
    if paper is None:
        return ""
    radius = "" if paper.radius is None else f" ± {paper.radius}"
    return f"{paper.value}{radius}{' (quoted)' if paper.kind == 'quoted' else ''}"


def _notes(table: Table) -> list[str]:
    """The table's own notes, between what its numbers are and what must not be read into them."""
    means = [cell for cell in table.cells if cell.ours and cell.ours.se is not None]
    samples = ", ".join(str(n) for n in sorted({cell.ours.n for cell in means if cell.ours}))
    seeds = ", ".join(str(n) for n in sorted({cell.n_seeds for cell in means}))
    notes = [
        "Ours: mean ± one standard error, and the 95 % confidence interval. "
        f"Samples per cell: {samples or 'none'}; seeds: {seeds or 'none'}.",
        *table.notes,
    ]
    if any(cell.paper and cell.paper.kind == "quoted" for cell in table.cells):
        notes.append("(quoted): the paper took this number from earlier work.")
    if any(section.dataset not in (None, section.role) for section in table.sections):
        notes.append(
            "Generated images stand in for the paper's: their differences to the paper's numbers "
            "say nothing about the paper."
        )
    return notes


def _row(table: Table, section: Section, cell: Cell) -> dict[str, Any]:
    low, high = (cell.ours and cell.ours.interval) or (None, None)
    return {
        "table": table.id,
        "scale": table.scale,
        "dataset": section.dataset,
        "in_place_of": section.role,
        "row": cell.row,
        "backbone": cell.backbone,
        "column": cell.column,
        "mean": cell.ours and cell.ours.mean,
        "standard_error": cell.ours and cell.ours.se,
        "low_95": low,
        "high_95": high,
        "n_samples": cell.ours and cell.ours.n,
        "n_seeds": cell.n_seeds,
        "sd_between_seeds": cell.seed_sd,
        "published": cell.paper and cell.paper.value,
        "published_radius": cell.paper and cell.paper.radius,
        "published_radius_meaning": cell.paper and cell.paper.radius_meaning,
        "published_kind": cell.paper and cell.paper.kind,
        "difference": cell.difference,
    }


def _escaped(text: str) -> str:
    for character in "%_&#":
        text = text.replace(character, f"\\{character}")
    return text.replace("±", r"$\pm$")
