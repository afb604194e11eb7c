"""Where a number of a table comes from, for a terminal."""

import difflib
import operator
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipeline import records
from pipeline.config.fields import nearest
from pipeline.errors import UserError
from pipeline.report import parts, provenance
from pipeline.words import plural

Cell = dict[str, Any]


def explain(results: Path, table: str, cell: str | None) -> str:
    """What stands in a cell and where it comes from; or which cells there are.

    ``results`` is the folder of a scale. ``cell`` is an address, as the page and the CSV file
    have it, or some parts of one in their order; None lists all cells.

    Raises
    ------
    UserError
        If the table was not made, or has no such cell, or a record is missing.
    """
    content = _content(results, table)
    cells = parts.cells_of(content)
    if cell is None:
        return _listed(content["heading"], cells)
    found = _matching(cells, cell)
    if not found:
        addresses = [one["address"] for one in cells]
        close = difflib.get_close_matches(cell.lower(), addresses, n=5, cutoff=0.0)
        raise UserError(
            f"{table} has no cell {cell!r}; the nearest are\n"
            + "\n".join(f"  {address}" for address in close)
            + f"\nAll of them: python -m pipeline explain {table}"
        )
    if len(found) > 1:
        return _listed(f"{len(found)} cells of {table} are called so; name one:", found)
    return "\n".join(_explained(results, content, found[0]))


def _content(results: Path, table: str) -> dict[str, Any]:
    known = [path.stem for path in (Path(__file__).parent / "tables").glob("[!_]*.py")]
    if table not in known:
        raise UserError(f"unknown table {table!r}; {nearest(table, known)}")
    content = parts.load(results / "tables" / f"{table}.json")
    if content is None:
        place = f"tables/{table}.json"
        raise UserError(
            f"there is no {results / place}; make it: {provenance.command(results.name, place)}"
        )
    return content


def _matching(cells: list[Cell], text: str) -> list[Cell]:
    """The cells whose address is the text; or has its parts, in their order; or contains them."""
    wanted = [part for part in text.lower().split("/") if part]

    def has(address: str, fits: Callable[[str, str], bool]) -> bool:
        rest = iter(address.split("/"))
        return all(any(fits(one, part) for one in rest) for part in wanted)

    found = [cell for cell in cells if cell["address"] == "/".join(wanted)]
    for fits in (operator.eq, operator.contains):
        found = found or [cell for cell in cells if has(cell["address"], fits)]
    return found


def _listed(heading: str, cells: list[Cell]) -> str:
    width = max((len(cell["address"]) for cell in cells), default=0)
    return "\n".join([heading, *(f"  {cell['address']:{width}}  {cell['ours']}" for cell in cells)])


def _explained(results: Path, content: dict[str, Any], cell: Cell) -> Iterator[str]:
    yield content["heading"]
    yield cell["address"]
    yield ""
    marks = f" ({', '.join(cell['marks'])})" if cell["marks"] else ""
    paper_marks = f" ({', '.join(cell['paper_marks'])})" if cell["paper_marks"] else ""
    own = {
        "ours": f"{cell['ours']}{marks}",
        "95 % interval": cell["interval"],
        "exactly": cell["value"] is not None and repr(cell["value"]),
        "paper": cell["paper"] and f"{cell['paper']}{paper_marks}",
        "samples": cell["samples"] and plural(cell["samples"], cell["unit"]),
        "place": cell["sources"] and cell["place"],
    }
    yield from _facts({name: text for name, text in own.items() if text})
    yield ""
    yield from (textwrap.fill(note, 96, subsequent_indent="  ") for note in content["notes"])
    known = sorted(
        path.relative_to(results).as_posix() for path in results.glob("runs/*/*/seed*/record.json")
    )
    trainings: dict[str, None] = {}
    for place in cell["sources"]:
        entry = _entry(results, place, known)
        trainings |= dict.fromkeys(entry["trainings"])
        yield from _shown(results / place, entry)
    for place in trainings:
        if place not in cell["sources"]:
            yield from _shown(results / place, _entry(results, place, known))


def _entry(results: Path, place: str, known: list[str]) -> dict[str, Any]:
    return provenance.shown(place, records.read(results / place, *records.PLACES), known)


def _shown(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    weights = {"weights of": ", ".join(entry["trainings"])} if entry["trainings"] else {}
    yield ""
    yield str(path)
    yield from _facts(entry["facts"] | weights | {"again": entry["command"]})
    yield "  configuration"
    yield textwrap.indent(entry["configuration"], "    ")


def _facts(facts: dict[str, str]) -> Iterator[str]:
    width = max(map(len, facts))
    return (f"  {name:{width}}  {text}" for name, text in facts.items())
