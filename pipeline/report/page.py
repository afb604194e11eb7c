"""The page: claims, tables, figures, and where each number comes from, in one file.

It opens from disk, without a network. Beside it lies the same for LaTeX.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from pipeline.files import write_text
from pipeline.records import Kind, Record
from pipeline.report import contents, ledger, paper, parts, provenance
from pipeline.report.contents import Part
from pipeline.report.parts import Values
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES, Section, stand_ins
from pipeline.words import plural

TEMPLATE = Path(__file__).with_name("page.html")


def write(results: Results, settings: Mapping[str, Any], data: Path) -> None:
    """Write ``report.html`` and ``paper.tex`` into the folder of the results.

    ``data`` holds the packed data sets. What is not there is shown as pending.

    Raises
    ------
    UserError
        If a file that another step of the report wrote is not whole, or a data set's passport.
    """
    chapters, folder = contents.chapters(settings), results.folder
    write_text(folder / "report.html", html(results, settings, chapters, data))
    write_text(folder / "paper.tex", paper.document(settings["scale"], chapters, folder))


def html(
    results: Results, settings: Mapping[str, Any], chapters: Mapping[str, list[Part]], data: Path
) -> str:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["plural"] = plural
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(_content(results, settings, chapters, data)).strip() + "\n"


def _content(
    results: Results, settings: Mapping[str, Any], chapters: Mapping[str, list[Part]], data: Path
) -> Values:
    scale = settings["scale"]
    tables = {
        part: parts.load(results.folder / part.folder / f"{part.id}.json")
        for chapter in chapters.values()
        for part in chapter
        if part.folder == "tables"
    }
    addresses = {
        f"{part.id}/{cell['address']}"
        for part, table in tables.items()
        if table
        for cell in parts.cells_of(table)
    }
    scorecard = parts.scorecard(results.folder, addresses)
    compared = _compared(scorecard["claims"] if scorecard else [])
    records = _records(results, settings)
    return {
        "scale": scale,
        "facts": _facts(settings, records, results),
        "stand_ins": stand_ins(settings),
        "scorecard": scorecard,
        "chapters": {
            title: [
                parts.table(part, tables[part], scale, compared)
                if part.folder == "tables"
                else parts.figure(part, results.folder, scale)
                for part in chapter
            ]
            for title, chapter in chapters.items()
        },
        "data_sets": {
            provenance.data_name(dataset, role): parts.data_set(data / dataset)
            for role, dataset in settings["roles"].items()
        },
        "ledger": [_deviation(row, results, settings) for row in ledger.ledger()],
        "records": records,
        "places": {entry["place"] for entries in records.values() for entry in entries},
        "missing": results.missing,
        "again": provenance.command(scale, "<file>"),
    }


def _compared(claims: list[Values]) -> dict[str, list[Values]]:
    """The claims that compare a cell, by the cell's name."""
    found: dict[str, list[Values]] = {}
    for claim in claims:
        names = {cell["name"] for finding in claim["findings"] for cell in finding["cells"]}
        for name in names:
            found.setdefault(name, []).append(claim)
    return found


def _records(results: Results, settings: Mapping[str, Any]) -> dict[str, list[Values]]:
    """Every record that was read, by what it is."""
    of_kind: dict[Kind, list[tuple[str, Record]]] = {
        kind: list(results.all_of(kind)) for kind in settings["records"]
    }
    trainings = [place for place, _ in of_kind.get("training", [])]
    return {
        provenance.TITLES[kind]: [
            provenance.shown(place, record, trainings) for place, record in records
        ]
        for kind, records in of_kind.items()
        if records
    }


def _facts(
    settings: Mapping[str, Any], records: Mapping[str, list[Values]], results: Results
) -> dict[str, str]:
    """What holds for all that the page shows."""
    data = [Section(role, settings["roles"].get(role), []).heading for role in PAPER_NAMES]
    n_records = sum(map(len, records.values()))
    return {
        "Data": "; ".join(data),
        "Episodes": f"{settings['n_way']}-way, "
        + " and ".join(f"{n_shot}-shot" for n_shot in settings["n_shots"]),
        "Seeds": str(settings["seeds"]),
        "Records": f"{n_records} read, {len(results.missing)} pending",
    }


def _deviation(row: ledger.Deviation, results: Results, settings: Mapping[str, Any]) -> Values:
    effects = list(ledger.effects(row, results, settings))
    sources = [place for one in effects for side in (one.here, one.other) for place in side.sources]
    return {
        "question": row.question,
        "default": row.default,
        "switches": row.switches,
        "reason": row.reason,
        "source": row.source,
        "effects": [(one.about, one.text) for one in effects],
        "sources": list(dict.fromkeys(sources)),
    }
