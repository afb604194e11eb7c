"""The scorecard: both its forms agree, its links lead to cells, and it says of what it is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_claims import COMPARISONS, Judged, Worlds

from pipeline import jobs
from pipeline.errors import UserError
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.claims import scorecard
from pipeline.report.results import Results


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Worlds:
    return Worlds(tmp_path_factory.mktemp("worlds"))


@pytest.mark.parametrize("roles", ["real", "stand_ins", "cifar_fs"])
@pytest.mark.parametrize("name", ["right", "absent"])
def test_every_cell_that_a_comparison_names_is_in_its_table(
    name: str, roles: str, judged: Worlds, tmp_path: Path
) -> None:
    """Links of the page lead there; and what it compares is what stands there."""
    found = judged(name, roles, "demo")
    named = {cell for finding in found.findings for cell in finding.cells}
    tables = {table for table, _ in named}
    places: dict[tuple[str, str], Any] = {}
    for table in tables:
        settings = jobs.settings(found.of, "table", table=table)
        results = Results(found.folder, settings)
        made_table = find("report.tables", table, "table")(results, settings)
        render.write(made_table, results, settings, tmp_path / table)
        content = json.loads((tmp_path / f"{table}.json").read_text(encoding="utf-8"))
        for section in content["sections"]:
            places |= {(table, cell["address"]): cell["value"] for cell in section["cells"]}
    assert named <= places.keys()
    for finding in found.findings:
        values = [places[cell] for cell in finding.cells]
        if finding.effect is not None and len(values) == 2 and not finding.shown:
            difference = abs(values[0] - values[1])
            if "R_HV against Classical w/ R_FC" in finding.name:
                assert finding.effect.mean == pytest.approx(values[0] - values[1] + 1.5)
            else:
                assert abs(finding.effect.mean) == pytest.approx(difference, abs=1e-9)
        if finding.effect is None:
            assert not values or None in values


def written(found: Judged, folder: Path, **changes: Any) -> tuple[str, dict[str, Any]]:
    scorecard.write(found.results, found.settings | changes, folder / "claims")
    content: dict[str, Any] = json.loads((folder / "claims.json").read_text(encoding="utf-8"))
    return (folder / "claims.md").read_text(encoding="utf-8"), content


@pytest.mark.parametrize(
    ("name", "seeds"), [("right", 1), ("right", 3), ("wrong", 1), ("neither", 1), ("absent", 1)]
)
def test_both_forms_of_the_scorecard_agree(
    name: str, seeds: int, judged: Worlds, tmp_path: Path
) -> None:
    found = judged(name, seeds=seeds)
    text, content = written(found, tmp_path)
    assert content["scale"] == "paper"
    assert [one["id"] for one in content["claims"]] == list(COMPARISONS)
    for note in content["notes"]:
        assert f"\n- {note}\n" in text
    tables = re_tables(text)
    assert len(tables) == 1 + len(content["claims"])
    for number, (one, line) in enumerate(zip(content["claims"], tables[0], strict=True), 1):
        assert line == [
            str(number),
            one["statement"],
            one["where"],
            f"**{one['verdict']}**",
            one["reason"],
        ]
        heading = f"\n## {number}. {one['statement']}\n\n{one['where']}. Verdict: **{one['verdict']}**, {one['reason']}.\n"
        assert heading in text
        judgement = found.judgements[one["id"]]
        assert (one["verdict"], one["reason"]) == (judgement.verdict, judgement.reason)
        assert (one["family"], one["quantifier"]) == (
            judgement.claim.family,
            judgement.claim.quantifier,
        )
        for shown, row, own in zip(
            one["findings"], tables[number], judgement.findings, strict=True
        ):
            outside = "" if shown["in_paper"] else " (not in the paper)"
            outcome = {True: "yes", False: "against", None: "open"}[shown["supports"]]
            is_pending = shown["effect"] is None
            samples = "" if is_pending else f"{shown['samples']:,} ({shown['unit']})"
            assert row[0] == f"{shown['name']}{outside}"
            assert row[1] == shown["text"]
            assert row[3:] == [samples, "pending" if is_pending else outcome]
            assert (row[2] == "") == (shown["p"] is None)
            assert shown["cells"] == [list(cell) for cell in own.cells]
            assert (shown["p"], shown["supports"]) == (own.p, own.supports)
            if own.effect is None or own.effect.interval is None:
                assert (shown["effect"], shown["low_95"], shown["needed"]) == (None, None, None)
                continue
            assert shown["effect"] == own.effect.mean
            assert (shown["low_95"], shown["high_95"]) == own.effect.interval
            assert shown["text"].startswith(f"{own.effect.mean:+.4g} [")
            # More than can be drawn is no number.
            if own.needed is None or own.needed > 1e12:
                assert shown["needed"] is None
            else:
                assert shown["needed"] == math.ceil(own.needed) > 0


def re_tables(text: str) -> list[list[list[str]]]:
    """The cells of the Markdown tables, without their heads."""
    found: list[list[list[str]]] = []
    for block in text.split("\n\n"):
        lines = block.strip().splitlines()
        if lines and lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
            rows = [[cell.strip("| ") for cell in row] for row in rows]
            assert {len(row) for row in (rows[0], *rows[2:])} == {5}
            found.append(rows[2:])
    return found


def test_a_scorecard_says_of_what_it_is(judged: Worlds, tmp_path: Path) -> None:
    text, content = written(judged("right", "stand_ins", "demo"), tmp_path)
    first, _, generated, seed = content["notes"]
    assert first.startswith("Scale: demo; 1 seed(s).")
    assert generated == (
        "synthetic_cifar_fs, synthetic_mini_imagenet: generated images. These verdicts show that "
        "the pipeline works; they say nothing about the paper."
    )
    assert seed.startswith("With one seed, what another training would change is in no interval")
    assert "| synthetic_mini_imagenet: MetaOptNet-M against MetaOptNet-C, SVM " in text
    _, content = written(judged("right", seeds=3), tmp_path)
    assert len(content["notes"]) == 2
    assert content["notes"][0].startswith("Scale: paper; 3 seed(s).")


def test_a_scorecard_that_lacks_a_verdict_is_refused_where_that_is_asked_for(
    judged: Worlds, tmp_path: Path
) -> None:
    one = judged("right", "cifar_fs")
    message = (
        "2 claims are pending: maml_does_not_cluster, coefficients_around_it_help_too; run what "
        "is missing, or leave out --strict"
    )
    with pytest.raises(UserError, match=message):
        written(one, tmp_path, strict=True)
    assert not list(tmp_path.iterdir())
    _, content = written(judged("neither"), tmp_path, strict=True)
    assert {claim["verdict"] for claim in content["claims"]} == {"undecided"}
