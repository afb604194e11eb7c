"""The comparisons that claims rest on: which numbers, which way, and how large the effect."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from pipeline.analysis.statistics import Estimate
from pipeline.report.claims.verdicts import Finding, difference, shifted, turned, unpaired
from pipeline.report.results import Measured, Results
from pipeline.report.table import PAPER_NAMES, Cell, Section
from pipeline.report.tables import training_times, travel

Settings = Mapping[str, Any]
# All cells of one table that are about one data set.
Cells = Callable[[Results, str, str], list[Cell]]
# Of a cell: row, backbone, column.
Place = tuple[str, str, str]

MINI, BOTH = ("mini_imagenet",), tuple(PAPER_NAMES)
# Percentage points within which one accuracy is "almost as good" as another, and the share by
# which a step may take longer without being "appreciably" slower. The paper gives no number.
ALMOST, APPRECIABLY = 1.5, 0.1


def compared(
    table: str,
    cells: Cells,
    pairs: Iterable[tuple[Place, Place]],
    better: Literal["higher", "lower"],
    *,
    roles: tuple[str, ...] = BOTH,
    in_paper: tuple[str, ...] = BOTH,
    part: str = "",
    margin: float = 0.0,
) -> Callable[[Results, Settings], Iterator[Finding]]:
    """Findings on cells of a table: of each pair the first is better."""
    pairs = list(pairs)

    def findings(results: Results, settings: Settings) -> Iterator[Finding]:
        for role in roles:
            dataset = settings["roles"].get(role)
            section = Section(role, dataset, cells(results, role, dataset or ""), part)
            at = {(cell.row, cell.backbone, cell.column): cell for cell in section.cells}
            for pair in pairs:
                if not at.keys() >= set(pair):
                    continue
                first, second = (at[place] for place in pair)
                effect, unit = difference(first.measured, second.measured)
                effect = turned(effect) if better == "lower" else effect
                yield Finding(
                    f"{section.short}: {_against(*pair)}",
                    tuple((table, section.address(cell)) for cell in (first, second)),
                    shifted(effect, margin),
                    unit,
                    in_paper=role in in_paper,
                )

    return findings


def _against(ours: Place, theirs: Place) -> str:
    """Both sides in words, with what they share said once."""
    (row, backbone, column), (other_row, _, other_column) = ours, theirs
    of_backbone = f" ({backbone})" if backbone and not row.startswith(backbone) else ""
    if row == other_row:
        return f"{row}{of_backbone}, {column} against {other_column}"
    return f"{row} against {other_row}{of_backbone}, {column}"


def chained(*parts: Callable[[Results, Settings], Iterator[Finding]]) -> Any:
    def findings(results: Results, settings: Settings) -> Iterator[Finding]:
        for part in parts:
            yield from part(results, settings)

    return findings


# Twins of a backbone, as (row, backbone): the meta-learned, and the classical
TWINS = [((f"{name}-M", name), (f"{name}-C", name)) for name in ("MetaOptNet", "R2-D2")]
BACKBONES = ["R2-D2", "MetaOptNet"]
META = {"R2-D2": "R2-D2", "MetaOptNet": "MetaOptNet-SVM"}
SHOTS = ["1-shot", "5-shot"]
# The classical run and the meta-learned one whose times are compared.
TIMED = [("r2d2_classical", "r2d2_ridge"), ("resnet12_classical", "resnet12_svm")]


def in_columns(
    columns: Iterable[str], pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]]
) -> list[tuple[Place, Place]]:
    """Pairs of (row, backbone), each in every column."""
    return [((*ours, column), (*theirs, column)) for ours, theirs in pairs for column in columns]


def trained(ours: str, theirs: str | None) -> list[tuple[Place, Place]]:
    """Two ways to train each backbone, at both shots; None stands for meta-learning."""
    pairs = [((ours, name), (theirs or META[name], name)) for name in BACKBONES]
    return in_columns(SHOTS, pairs)


def moves_a_lot_for_little(results: Results, settings: Settings) -> Iterator[Finding]:
    """Against Reptile's model under the same steps: farther, and a smaller part of the loss."""
    for role in BOTH:
        dataset = settings["roles"].get(role)
        for n_shot in (1, 5):
            cells = travel.cells(results, role, dataset or "", n_shot=n_shot)
            section = Section(role, dataset, cells, f"{n_shot}-shot")
            at = {(cell.row, cell.column): cell for cell in cells}
            for model in ("MetaOptNet-M", "R2-D2-M"):
                farther = [at[row, "distance"] for row in (model, "Reptile, SGD")]
                effect, unit = difference(*(cell.measured for cell in farther))
                yield Finding(
                    f"{section.short}: {model} moves farther than Reptile's model",
                    tuple(("travel", section.address(cell)) for cell in farther),
                    effect,
                    unit,
                    in_paper=role in MINI,
                )
                after = [at[row, "loss after"] for row in (model, "Reptile, SGD")]
                before = [at[row, "loss before"] for row in (model, "Reptile, SGD")]
                gains = [
                    one.measured.minus(other.measured)
                    for one, other in zip(before, after, strict=True)
                ]
                effect, unit = difference(gains[1], gains[0])
                yield Finding(
                    f"{section.short}: the loss of {model} falls by less than Reptile's model's",
                    tuple(("travel", section.address(cell)) for cell in (*before, *after)),
                    effect,
                    unit,
                    in_paper=role in MINI,
                )


def timed(
    column: str,
    pairs: Iterable[tuple[str, str]],
    said: str,
    effect: Callable[[list[Measured], list[Measured]], tuple[Estimate | None, str]],
) -> Callable[[Results, Settings], Iterator[Finding]]:
    """Findings on the training times of pairs of runs, of which ``said`` says what should hold.

    ``effect(times, steps)`` is made of the column and of the seconds a step, for both runs of a
    pair, with what was measured in words. Of a single stretch of training there is none: it says
    nothing of its spread.
    """
    pairs = list(pairs)

    def findings(results: Results, settings: Settings) -> Iterator[Finding]:
        for role in BOTH:
            dataset = settings["roles"].get(role)
            section = Section(role, dataset, training_times.cells(results, role, dataset or ""))
            at = {(cell.row, cell.column): cell for cell in section.cells}
            for pair in pairs:
                name = f"{section.short}: {said.format(*pair)}"
                steps = [results.step_seconds(dataset or "", run) for run in pair]
                if not all(one and one.estimate().se is not None for one in steps):
                    yield Finding(name, (), None, "stretch of training")
                    continue
                cells = [at[run, column] for run in pair]
                found, shown = effect([cell.measured for cell in cells], steps)
                yield Finding(
                    name,
                    tuple(("training_times", section.address(cell)) for cell in cells),
                    found,
                    "stretch of training",
                    shown,
                )

    return findings


def _beyond_thirteen(times: list[Measured], steps: list[Measured]) -> tuple[Estimate, str]:
    """How many times faster the first is, minus 13; the time of a run is as certain as a step's."""
    ours, theirs = (one.estimate().mean for one in times)
    of_steps = [one.estimate() for one in steps]
    spread = theirs / ours * math.hypot(*((one.se or 0.0) / one.mean for one in of_steps))
    excess = Estimate(theirs / ours - 13, spread, min(one.n for one in of_steps))
    return excess, f"{theirs / ours:.2f} times faster"


def _within_margin(times: list[Measured], _: list[Measured]) -> tuple[Estimate | None, str]:
    """How many seconds the first is below what would be appreciably longer than the second."""
    ours, theirs = times
    longer = ours.estimate().mean / theirs.estimate().mean - 1
    return unpaired(ours, theirs, 1 + APPRECIABLY), f"{100 * longer:+.1f} %"


thirteen_times = timed(
    "seconds in all",
    TIMED,
    "{} trains in a 13th of the time of {}",
    _beyond_thirteen,
)
not_slower = timed(
    "seconds a step",
    [(f"{classical}_fc", classical) for classical, _ in TIMED],
    f"a step of {{}} takes less than {100 * APPRECIABLY:.0f} % longer than one of {{}}",
    _within_margin,
)


def bounded(results: Results, _: Settings) -> Iterator[Finding]:
    """Where the printed bound says something, at the law that comes closest to it."""
    record = results.simulation("theorem1")
    name = "Simulated laws: the error is below 32 eps / (1 - eps), where that is below 1"
    if record is None:
        yield Finding(name, (), None, "one-shot pair")
        return
    n = record.values["n_draws"]
    rows = [row for row in record.values["rows"] if (row["printed_bound"] or 1.0) < 1.0]
    closest = min(rows, key=lambda row: row["printed_bound"] - row["interval"][1])
    room = closest["printed_bound"] - closest["error"]
    # By the exact interval, which has a width where no error was seen.
    se = (closest["interval"][1] - closest["error"]) / 1.96
    yield Finding(
        name,
        (),
        Estimate(room, se, n),
        "one-shot pair",
        f"closest: {closest['law']}, error {closest['error']:.4f}, bound "
        f"{closest['printed_bound']:.4f}; {len(rows)} laws and ratios",
    )
