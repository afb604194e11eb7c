"""What a figure is, how it looks, and the files that it becomes."""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from pipeline import records
from pipeline.files import replacing, write_json, write_text
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES, Section

# Inches: a column of the paper, and both.
COLUMN, PAGE = 3.25, 6.75
CHARACTERS_PER_INCH = 20
# Colours that colour-blind readers tell apart as well (Okabe & Ito, 2008).
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PINK, "#56B4E9", "#D55E00")
WARNING = "#B03A00"
GREY = "0.45"
MARKERS = ("o", "^", "s", "D", "v", "P")
_STYLE: Any = {
    "figure.dpi": 200,
    "savefig.dpi": 200,
    # It comes with matplotlib. In the SVG letters are paths: they look alike everywhere.
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    # Names of elements are random without it.
    "svg.hashsalt": "figure",
    "axes.titlesize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "legend.handlelength": 1.5,
}
# Without the dates and versions that writers add.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}


@dataclass(frozen=True)
class Figure:
    """A figure as it is drawn, and what it says of itself."""

    id: str
    # The paper's name for it, if it is one of the paper's.
    number: str | None
    title: str
    # The true names of its data sets, as by ``data_names``; empty for a simulation.
    data: str
    # What one sees, and over what.
    caption: str
    notes: list[str]
    drawing: Canvas
    # Exactly what is plotted, a row for each mark.
    plotted: pd.DataFrame
    # Where its records lie, below results/<scale>, and what of them is not there.
    sources: list[str]
    missing: list[str]

    @property
    def heading(self) -> str:
        named = f"{self.number}: {self.title}" if self.number else self.title
        return ", ".join(filter(None, [named, self.data]))

    @property
    def pending(self) -> bool:
        return bool(self.missing)


def write(
    draw: Callable[[Results, Mapping[str, Any]], Figure],
    results: Results,
    settings: Mapping[str, Any],
    prefix: Path,
) -> None:
    """Draw a figure as ``<prefix>.png``, ``.pdf``, ``.svg``; what is plotted goes to ``.csv``.

    What it says goes to ``.json``, for the page. The same records give the same bytes.
    """
    with _style():
        figure = draw(results, settings)
        _label(figure, settings["scale"])
        # One layout, for all files.
        figure.drawing.draw_without_rendering()
        figure.drawing.set_layout_engine("none")
        for suffix, metadata in _METADATA.items():
            with replacing(prefix.with_suffix(suffix)) as temporary:
                title = {"Title": f"{figure.heading}, scale {settings['scale']}"}
                figure.drawing.savefig(temporary, metadata=metadata | title)
    write_text(prefix.with_suffix(".csv"), figure.plotted.to_csv(index=False, lineterminator="\n"))
    write_json(prefix.with_suffix(".json"), as_json(figure))


def as_json(figure: Figure) -> dict[str, Any]:
    """What the page shows of a figure, and where it comes from."""
    pending = [f"Pending: no {what}." for what in figure.missing]
    return {
        "number": figure.number,
        "heading": figure.heading,
        "caption": figure.caption,
        "notes": figure.notes + pending,
        "sources": figure.sources,
    }


# For those that draw


def canvas(width: float, height: float) -> Canvas:
    """An empty drawing, in inches; nothing of it is global."""
    return Canvas(figsize=(width, height), layout="constrained")


def limit(axes: Axes, least: float, most: float) -> None:
    """Cut what the margin of the vertical axis has beyond what its quantity can be."""
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, least), min(high, most))


def data_names(settings: Mapping[str, Any], roles: Iterable[str]) -> str:
    """The data sets in these roles, by their true names, as tables name them."""
    return " and ".join(Section(role, settings["roles"].get(role), []).heading for role in roles)


def lookup(
    results: Results,
    settings: Mapping[str, Any],
    kind: records.Kind,
    role: str | None,
    names: Iterable[str],
) -> tuple[list[str], list[str]]:
    """Where the records of runs or simulations lie, and what is missing of them.

    ``role`` is that of a data set; None for simulations, which have none.
    """
    dataset = "" if role is None else settings["roles"].get(role)
    if dataset is None:
        return [], [f"data in the place of {PAPER_NAMES[role or '']} at this scale"]
    known = records.places(kind, settings["records"][kind], settings["seeds"])
    wanted = records.places(kind, {dataset: list(names)}, settings["seeds"])
    missing = [place for place in wanted if place in results.missing or place not in known]
    return [place for place in wanted if place not in missing], missing


@contextmanager
def _style() -> Iterator[None]:
    """The look of all figures, whatever the user's own settings of matplotlib are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def _label(figure: Figure, scale: str) -> None:
    """Write into the picture whose data it shows, for wherever it is seen alone, and what lacks."""
    lines = [figure.title, "; ".join(filter(None, [figure.data, f"scale: {scale}"]))]
    if figure.pending:
        first, *others = figure.missing
        lines.append(f"PENDING: no {first}" + (f", and {len(others)} more" if others else ""))
    width = int(CHARACTERS_PER_INCH * figure.drawing.get_figwidth())
    figure.drawing.suptitle(
        "\n".join(textwrap.fill(line, width, break_on_hyphens=False) for line in lines),
        x=0.01,
        ha="left",
        fontsize=6,
        color=WARNING if figure.pending else GREY,
    )
    for axes in figure.drawing.axes:
        if figure.pending and axes.axison and not axes.has_data():
            axes.text(0.5, 0.5, "pending", color=WARNING, ha="center", transform=axes.transAxes)
            axes.tick_params(
                which="both", left=False, bottom=False, labelleft=False, labelbottom=False
            )
