"""The scorecard: both its forms agree, its links lead to cells, and it says of what it is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from made_claims import COMPARISONS, Judged, Worlds

from pipeline import jobs
from pipeline.analysis.statistics import Estimate
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.claims import scorecard
from pipeline.report.claims.statements import CLAIMS
from pipeline.report.claims.verdicts import Finding, Judgement
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
        render.write(made_table, results, tmp_path / table)
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
        heading = f"\n## {number}. {one['statement']}\n\n{one['where']}. Verdict: **{one['verdict']}** ({one['reason']}).\n"
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
            outside = "" if own.in_paper else " (not in the paper)"
            words = {True: "supporting", False: "contradicting", None: "not significant"}
            outcome = "pending" if own.effect is None else words[own.supports]
            printed = shown["printed"]
            assert row == [printed[key] for key in ("name", "effect", "p", "samples", "outcome")]
            assert (row[0], row[4]) == (f"{own.name}{outside}", outcome)
            assert row[3].partition(" ")[0] == ("" if own.effect is None else f"{own.effect.n:,}")
            assert (row[2] == "") == (own.p is None)
            assert own.p is None or row[2] in (f"{own.p:.2g}", "< 1e-16")
            assert shown["cells"] == [list(cell) for cell in own.cells]
            assert shown["in_paper"] == own.in_paper
            assert shown["p"] == own.p
            if own.effect is None or own.effect.interval is None:
                assert (shown["effect"], shown["low_95"], shown["needed"]) == (None, None, None)
                continue
            assert (shown["effect"], shown["standard_error"]) == (own.effect.mean, own.effect.se)
            assert shown["samples"] == own.effect.n
            assert (shown["low_95"], shown["high_95"]) == own.effect.interval
            assert row[1].startswith(f"{own.effect.mean:+.4g} [")
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
    first, *_, generated, seed = content["notes"]
    assert first == "Scale: demo; 1 seed."
    assert generated == (
        "synthetic_cifar_fs, synthetic_mini_imagenet: generated images. Verdicts on them show that "
        "the pipeline works; they say nothing about the paper."
    )
    assert seed.startswith("With one seed, no interval covers what another training would change")
    assert "| synthetic_mini_imagenet: MetaOptNet-M against MetaOptNet-C, SVM " in text
    _, content = written(judged("right", seeds=3), tmp_path)
    assert len(content["notes"]) == 3
    assert content["notes"][0] == "Scale: paper; 3 seeds."


def test_only_generated_images_are_said_to_be_so() -> None:
    """A data set that the paper does not have may be as real as its own."""
    roles = {"cifar_fs": "cifar_fs", "birds": "birds"}
    notes = scorecard.notes({"scale": "small", "seeds": 3, "roles": roles})
    assert not [note for note in notes if "generated" in note]


@pytest.mark.parametrize(
    ("p", "printed"), [(0.2345, "0.23"), (4e-9, "4e-09"), (1e-300, "< 1e-16"), (0.0, "< 1e-16")]
)
def test_a_p_value_is_never_printed_as_zero(p: float, printed: str) -> None:
    finding = Finding("a: b against c", (), Estimate(1.0, 0.1, 20), "stretch of training", p=p)
    judgement = Judgement(CLAIMS[0], "undecided", "it is so", [finding])
    settings = {"scale": "demo", "roles": {}, "seeds": 1}
    ((row,),) = re_tables(scorecard.markdown([judgement], settings))[1:]
    assert row[2:4] == [printed, "20 stretches of training"]


@pytest.mark.parametrize(
    ("effect", "printed"),
    [(Estimate(0.0, 0.0, 4), "+0"), (Estimate(0.0, 1.0, 4), "+0 [-3.182, 3.182]")],
)
def test_equal_samples_have_no_interval(effect: Estimate, printed: str) -> None:
    finding = Finding("a: b against c", (), effect, "episode", p=1.0)
    judgement = Judgement(CLAIMS[0], "undecided", "it is so", [finding])
    settings = {"scale": "demo", "roles": {}, "seeds": 1}
    ((row,),) = re_tables(scorecard.markdown([judgement], settings))[1:]
    assert row[1] == printed
    ((claim,),) = (scorecard.as_json([judgement], settings)["claims"],)
    assert (claim["findings"][0]["low_95"] is None) == (effect.se == 0)
