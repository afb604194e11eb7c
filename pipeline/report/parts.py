"""What the page shows of each file: plain values, ready for its template.

Places on the page are named after the files below ``results/<scale>``: ``tables/table3``, its
cell ``tables/table3/<address>``, ``figures/figure1a``, ``claims/<id>``, ``records/<place>``; and
``from/table3/<address>`` says where the cell comes from.
"""

import base64
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pipeline.data.description import facts
from pipeline.data.packed import PASSPORT, SPLITS, Passport
from pipeline.errors import UserError
from pipeline.report.contents import Part
from pipeline.report.provenance import command
from pipeline.words import plural

Values = dict[str, Any]
Parsed = TypeVar("Parsed")
# A table of so many lines has a window of its own, and can be sorted from so many on.
_LONG, _SORTABLE = 16, 4
# A letter of 7 points is as large as a note of the page.
_PIXELS_PER_POINT = 1.9
# Bytes up to which a picture is shown as it is.
_SMALL = 1_000_000
# A sign that says the same as the colour, for those who see none.
VERDICTS = {"reproduced": "✓", "contradicted": "✗", "undecided": "?", "pending": "…"}


def load(path: Path) -> Values | None:
    """A JSON file that a step of the report wrote; None if there is none.

    Raises
    ------
    UserError
        If it is not whole.
    """
    return _read(path, json.loads)


def _read(path: Path, parse: Callable[[str], Parsed]) -> Parsed | None:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{path} is not whole ({error}); delete it and run snakemake again"
        ) from None


def scorecard(results: Path, addresses: set[str]) -> Values | None:
    """The claims, their numbers and how many there are of each verdict.

    ``addresses`` are the cells that the page has, as ``<table>/<address>``.
    """
    found = load(results / "claims.json")
    if found is None:
        return None
    claims = [
        claim
        | {
            "number": number,
            "sign": VERDICTS[claim["verdict"]],
            "compared": _compared(claim["findings"]),
            "findings": [
                finding | {"cells": _cells(finding["cells"], addresses)}
                for finding in claim["findings"]
            ],
        }
        for number, claim in enumerate(found["claims"], 1)
    ]
    verdicts = [claim["verdict"] for claim in claims]
    counts = [(verdict, sign, verdicts.count(verdict)) for verdict, sign in VERDICTS.items()]
    return {"notes": found["notes"], "claims": claims, "counts": counts}


def _compared(findings: list[Values]) -> str:
    """How many there are; the verdict counts the paper's own, if any of them was measured."""
    own = sum(finding["in_paper"] for finding in findings)
    others = len(findings) - own
    return plural(own, "comparison") + (f", and {others} not in the paper" if others else "")


def _cells(cells: Iterable[tuple[str, str]], addresses: set[str]) -> list[Values]:
    places = [f"{table}/{address}" for table, address in cells]
    return [{"name": place, "link": place if place in addresses else None} for place in places]


def cells_of(content: Values) -> list[Values]:
    return [cell for section in content["sections"] for cell in section["cells"]]


def table(part: Part, content: Values | None, scale: str, claims: Mapping[str, Any]) -> Values:
    """A table; ``claims`` are those that compare a cell, by ``<table>/<address>``."""
    if content is None:
        return _absent(part, scale)
    named = [
        cell | {"name": name, "claims": claims.get(name, [])}
        for cell in cells_of(content)
        for name in [f"{part.id}/{cell['address']}"]
    ]
    compared = {claim["number"]: claim for cell in named for claim in cell["claims"]}
    return {
        "part": part,
        "place": f"tables/{part.id}",
        "heading": content["heading"],
        "short": content["number"] or content["heading"],
        "notes": content["notes"],
        "sections": [
            _section(section, {cell["address"]: cell for cell in named})
            for section in content["sections"]
        ],
        "cells": named,
        "pending": sum(cell["value"] is None for cell in named),
        "claims": [compared[number] for number in sorted(compared)],
    }


def _section(section: Values, cells: Mapping[str, Values]) -> Values:
    rows: dict[tuple[str, str], dict[str, Values]] = {}
    for cell in section["cells"]:
        row = rows.setdefault((cell["row"], cell["backbone"]), {})
        row[cell["column"]] = cells[cell["address"]]
    return {
        "heading": section["heading"],
        "columns": section["columns"],
        "rows": [
            {
                "name": name,
                "backbone": backbone,
                "cells": [row.get(column) for column in section["columns"]],
            }
            for (name, backbone), row in rows.items()
        ],
        "long": len(rows) >= _LONG,
        "sortable": len(rows) >= _SORTABLE,
    }


def figure(part: Part, results: Path, scale: str) -> Values:
    """A figure with its picture, as far as they are there."""
    content = load(results / part.folder / f"{part.id}.json")
    if content is None:
        return _absent(part, scale)
    files = [results / part.folder / f"{part.id}{suffix}" for suffix in (".svg", ".png")]
    found = [path for path in files if path.exists()]
    return {
        "part": part,
        "place": f"figures/{part.id}",
        "heading": content["heading"],
        "short": content["number"] or content["heading"],
        "picture": picture(found[0]) if found else None,
        "width": _width(found[0]) if found else None,
        "caption": content["caption"],
        "notes": content["notes"],
        "sources": content["sources"],
    }


def _width(path: Path) -> int | None:
    """How wide a drawing is shown, in pixels, so that its letters are as large as the page's."""
    found = re.search(rb'<svg[^>]* width="([\d.]+)pt"', path.read_bytes()[:4000])
    return round(float(found[1]) * _PIXELS_PER_POINT) if found else None


def _absent(part: Part, scale: str) -> Values:
    return {
        "part": part,
        "place": f"{part.folder}/{part.id}",
        "heading": part.id,
        "short": part.id,
        "absent": command(scale, f"{part.folder}/{part.id}.json"),
    }


def data_set(folder: Path) -> Values | None:
    """What a packed data set says of itself, and its contact sheets; None if there is none.

    Raises
    ------
    UserError
        If its passport is not whole, or of another version.
    """
    passport = _read(folder / PASSPORT, Passport.model_validate_json)
    if passport is None:
        return None
    return {
        "facts": facts(passport),
        "notes": passport.origin.notes,
        "classes": {split: passport.classes[split] for split in SPLITS},
        "sheets": {
            split: picture(path)
            for split in SPLITS
            if (path := folder / "contact_sheets" / f"{split}.png").exists()
        },
    }


def picture(path: Path) -> str:
    """A picture as an address that holds it; one that is large is made smaller, as JPEG."""
    content, kind = path.read_bytes(), {".svg": "svg+xml", ".png": "png"}[path.suffix]
    if kind == "png" and len(content) > _SMALL:
        # Only here, since most pages have no such picture.
        from PIL import Image

        buffer = io.BytesIO()
        with Image.open(io.BytesIO(content)) as image:
            image.convert("RGB").save(buffer, "JPEG", quality=80)
        content, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
