"""What stands in a printed table: numbers, bold, marks, the paper's values, and what is pending."""

import csv
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from scipy import stats

from pipeline.report import render
from pipeline.report.render import Layout, as_json, markdown
from pipeline.report.results import Measured, Results
from pipeline.report.table import (
    Cell,
    Published,
    Section,
    Table,
    sections,
    stand_ins,
    variants,
)

SETTINGS: dict[str, Any] = {"scale": "tiny", "seeds": 1, "records": {}, "strict": False}


def percent(*samples: float, seed: int = 0, **others: list[float]) -> Measured:
    """Of one seed, or of several as s0, s1."""
    seeds = {int(name[1:]): np.array(one) for name, one in others.items()}
    one = {seed: np.array(samples)} if samples else {}
    return Measured(one | seeds, ("evals/cifar_fs/a/seed0.json",), "correct.1.svm", "episode")


def measured(value: str, radius: str | None = None, kind: str = "measured") -> Published:
    meaning = {"quoted": "95 % interval"}.get(kind, "one standard error") if radius else "none"
    return Published(Decimal(value), Decimal(radius) if radius else None, meaning, kind)


@pytest.fixture
def table() -> Table:
    """Four rows at two shots, of real images, and of a data set that is not there."""
    cells = [
        Cell("Ours", "R2-D2", "1-shot", percent(50, 60), measured("52.50", "4.00"), ("transductive",), "1"),
        Cell("Ours", "R2-D2", "5-shot", percent(s0=[70, 80], s1=[72, 82]), measured("70.0"), (), "5"),
        Cell("Theirs", "R2-D2", "1-shot", percent(40, 50), measured("45.00", "9.80", "quoted"), (), "1"),
        Cell("Theirs", "R2-D2", "5-shot", percent(75, 77), measured("75.0", None, "suspect"), (), "5"),
        Cell("No error", "", "1-shot", percent(45), measured("45.00")),
        Cell("Neither", "", "1-shot", Measured(), measured("50.20", "0.30"), ("transductive",), "1"),
    ]  # fmt: skip
    absent = [Cell("Ours", "", "1-shot", Measured())]
    held = [Section("cifar_fs", "cifar_fs", cells), Section("mini_imagenet", None, absent)]
    held[0] = sections(
        {"roles": {"cifar_fs": "cifar_fs"}}, lambda *_: cells, roles=["cifar_fs"], best="highest"
    )[0]
    return Table("table9", "Table 9", "Accuracy in percent", "tiny", 2, held, ["A note."])


MARKDOWN = """\
# Table 9: Accuracy in percent

Scale: tiny.

## CIFAR-FS

|          | Backbone   | 1-shot                                      | 5-shot                         |
|----------|------------|---------------------------------------------|--------------------------------|
| Ours     | R2-D2      | **55.00 ± 5.00** <sup>a</sup>               | **76.00 ± 5.00**               |
| 95 %     |            | [-8.53, 118.53]                             | [12.47, 139.53]                |
| paper    |            | 52.50 ± 4.00 (+2.50, +0.4 SE)               | 70.0 (+6.00, +1.2 SE)          |
| Theirs   | R2-D2      | 45.00 ± 5.00                                | **76.00 ± 1.00**               |
| 95 %     |            | [-18.53, 108.53]                            | [63.29, 88.71]                 |
| paper    |            | 45.00 ± 9.80 (+0.00, +0.0 SE) <sup>b</sup>  | 75.0 (+1.00, +1.0 SE) <sup>c</sup> |
| No error |            | 45.00                                       |                                |
| paper    |            | 45.00 (+0.00)                               |                                |
| Neither  |            | pending                                     |                                |
| paper    |            | 50.20 ± 0.30                                |                                |

## mini-ImageNet (no data at this scale)

|      | 1-shot   |
|------|----------|
| Ours | pending  |

- Ours: mean ± one standard error, and the 95 % confidence interval, over 2 episodes; seeds: 1, 2.
- A note.
- Paper: in brackets our difference to it, and the same in standard errors (SE) of the difference.
- Bold: the best of those that the paper compares.
- a: Transductive: batch norm sees all queries of an episode as one batch.
- b: The paper took this number from earlier work.
- c: The paper prints under this name a number that was measured otherwise: see published.csv.
- Images of cifar_fs: fingerprint f00d.
"""


def test_a_table_in_markdown(table: Table) -> None:
    lines = markdown(Layout(table, ["Images of cifar_fs: fingerprint f00d."])).splitlines()
    assert [words(line) for line in lines] == [words(line) for line in MARKDOWN.splitlines()]


def test_a_count_has_no_digits_after_the_point(table: Table) -> None:
    counted = [Cell("Ours", "", "steps", percent(180_000), digits=0)]
    whole = replace(table, sections=[Section("cifar_fs", "cifar_fs", counted)])
    assert "| Ours | 180,000 |" in " ".join(markdown(Layout(whole, [])).split())


def test_large_numbers_have_one_form(table: Table) -> None:
    """The mean, its error, its interval and its difference to the paper."""
    cells = [Cell("Ours", "", "1-shot", percent(10_000, 20_000), measured("2000", "1"))]
    large = replace(table, sections=[Section("cifar_fs", "cifar_fs", cells)])
    text = " ".join(markdown(Layout(large, [])).split())
    assert "| Ours | 15,000.00 ± 5,000.00 |" in text
    assert "| [-48,531.02, 78,531.02] |" in text
    assert "| 2000 ± 1 (+13,000.00, +2.6 SE) |" in text


def words(line: str) -> list[str]:
    """Without the widths of columns and the rule below their names."""
    if set(line) <= set("|-"):
        return ["-"] * line.count("|")
    return line.split()


def test_numbers_in_full_are_in_csv(table: Table, tmp_path: Path) -> None:
    render.write(table, Results(tmp_path, SETTINGS), tmp_path / "table9")
    with (tmp_path / "table9.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = {
        "table": "table9",
        "cell": "cifar-fs/r2-d2/ours/5-shot",
        "scale": "tiny",
        "dataset": "cifar_fs",
        "in_place_of": "cifar_fs",
        "part": "",
        "row": "Ours",
        "backbone": "R2-D2",
        "column": "5-shot",
        "unit": "episode",
        "published": "70.0",
        "published_radius": "",
        "published_radius_meaning": "none",
        "published_kind": "measured",
        "marks": "",
        "records": "evals/cifar_fs/a/seed0.json",
    }
    low, high = stats.t.interval(0.95, 1, 76, 5)
    numbers = {
        "mean": 76,
        "standard_error": 5,
        "low_95": low,
        "high_95": high,
        "n_samples": 2,
        "n_seeds": 2,
        "sd_between_seeds": np.sqrt(2),
        "difference": 6,
        "difference_in_se": 6 / 5,
    }
    own = rows[1]
    assert own.keys() == texts.keys() | numbers.keys()
    assert {name: own[name] for name in texts} == texts
    assert {name: float(own[name]) for name in numbers} == pytest.approx(numbers)
    # Pending, and counts stay whole numbers beside it.
    empty = {"mean", "standard_error", "low_95", "high_95", "n_samples", "difference"}
    assert {rows[5][name] for name in empty} == {""}
    assert (rows[1]["n_samples"], rows[5]["n_seeds"]) == ("2", "0")
    assert rows[0]["marks"] == "transductive"
    assert rows[2]["marks"] == "quoted"


def test_json_holds_what_the_page_shows(table: Table) -> None:
    content = as_json(Layout(table, []))
    assert json.loads(json.dumps(content)) == content
    assert content.keys() == {"number", "heading", "notes", "sections"}
    assert (content["number"], content["heading"]) == ("Table 9", "Table 9: Accuracy in percent")
    first, second = content["sections"]
    assert (first["heading"], first["columns"]) == ("CIFAR-FS", ["1-shot", "5-shot"])
    assert second["heading"] == "mini-ImageNet (no data at this scale)"
    assert first["cells"][2] == {
        "address": "cifar-fs/r2-d2/theirs/1-shot",
        "row": "Theirs",
        "backbone": "R2-D2",
        "column": "1-shot",
        "value": 45.0,
        "ours": "45.00 ± 5.00",
        "interval": "[-18.53, 108.53]",
        "paper": "45.00 ± 9.80 (+0.00, +0.0 SE)",
        "best": False,
        "marks": [],
        "paper_marks": ["b"],
        "place": "correct.1.svm",
        "samples": 2,
        "unit": "episode",
        "sources": ["evals/cifar_fs/a/seed0.json"],
    }
    assert second["cells"][0]["ours"] == "pending"
    assert second["cells"][0]["value"] is None


# The best


def best(*groups: dict[str, list[float]], choose: Any = "highest") -> list[list[str]]:
    """The rows in bold, of groups of rivals."""
    cells = [
        Cell(row, "", "1-shot", percent(*samples), rivals=str(number))
        for number, group in enumerate(groups)
        for row, samples in group.items()
    ]
    ((section,),) = (sections({"roles": {}}, lambda *_: cells, roles=["cifar_fs"], best=choose),)
    return [
        [cell.row for cell in section.cells if cell.best and cell.rivals == str(number)]
        for number in range(len(groups))
    ]


def test_the_best_of_each_group_of_rivals_is_bold() -> None:
    groups = {"a": [1.0], "b": [3.0], "c": [2.0]}, {"d": [9.0, 1.0], "e": [4.0, 5.0]}
    assert best(*groups) == [["b"], ["d"]]
    assert best(*groups, choose="lowest") == [["a"], ["e"]]
    assert best(*groups, choose=None) == [[], []]


def test_what_is_tied_is_bold_together() -> None:
    assert best({"a": [1.0, 2.0], "b": [1.5], "c": [0.0]}) == [["a", "b"]]


def test_without_a_rival_nothing_is_bold() -> None:
    """Neither alone in its group, nor where all rivals are pending."""
    assert best({"a": [1.0]}, {"b": [2.0], "c": [], "d": []}, {"e": [], "f": []}) == [[], [], []]
    cells = [Cell(row, "", "1-shot", percent(value)) for row, value in (("a", 1), ("b", 2))]
    ((section,),) = (sections({"roles": {}}, lambda *_: cells, roles=["cifar_fs"], best="highest"),)
    assert not any(cell.best for cell in section.cells)


def test_what_is_alike_as_it_is_printed_may_still_be_the_best() -> None:
    assert best({"a": [1.0001], "b": [1.0002]}) == [["b"]]


# Beside the paper


@pytest.mark.parametrize(
    ("ours", "paper", "difference", "in_se"),
    [
        (percent(50, 60), measured("50", "12"), 5, 5 / 13),
        # A radius of 95 % is 1.96 standard errors, a printed standard error is one.
        (percent(50, 60), measured("50", "23.52", "quoted"), 5, 5 / 13),
        (percent(50, 60), measured("50"), 5, 1),
        (percent(50), measured("60", "4"), -10, -2.5),
        (percent(50), measured("60"), -10, None),
        (percent(50, 50), measured("60"), -10, None),
        (Measured(), measured("60", "4"), None, None),
        (percent(50, 60), None, None, None),
    ],
)
def test_a_difference_is_in_standard_errors_of_both_sides(
    ours: Measured, paper: Published | None, difference: float | None, in_se: float | None
) -> None:
    cell = Cell("", "", "", ours, paper)
    assert cell.difference == (None if difference is None else pytest.approx(difference))
    assert cell.difference_in_se == (None if in_se is None else pytest.approx(in_se))


def on_generated_images(table: Table) -> Table:
    section = replace(table.sections[0], dataset="shapes")
    return replace(table, sections=[section, table.sections[1]])


def test_generated_images_are_not_compared_with_the_paper(table: Table, tmp_path: Path) -> None:
    stand_in = on_generated_images(table)
    text = markdown(Layout(stand_in, []))
    assert "## shapes (generated images in the place of CIFAR-FS)" in text
    assert "| 52.50 ± 4.00 " in text
    assert "SE" not in text
    assert "(+" not in text
    assert "says nothing about the paper" in text.replace("\n", " ")
    assert "says nothing" not in markdown(Layout(table, []))
    render.write(stand_in, Results(tmp_path, SETTINGS), tmp_path / "table9")
    with (tmp_path / "table9.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["difference"], row["difference_in_se"]) for row in rows} == {("", "")}
    assert rows[0]["published"] == "52.50"


def test_headings() -> None:
    assert Section("cifar_fs", "cifar_fs", []).heading == "CIFAR-FS"
    assert Section("mini_imagenet", None, []).heading == "mini-ImageNet (no data at this scale)"
    stand_in = Section("mini_imagenet", "shapes", [], "5-shot")
    assert stand_in.heading == ("shapes (generated images in the place of mini-ImageNet), 5-shot")
    assert stand_in.short == "shapes, 5-shot"
    assert Section("mini_imagenet", None, []).short == "mini-ImageNet"


def test_a_role_of_no_published_name_goes_by_its_own() -> None:
    own = Section("birds", "birds", [])
    assert (own.heading, own.short) == ("birds", "birds")
    stand_in = Section("birds", "shapes", [])
    assert (stand_in.heading, stand_in.short) == (
        "shapes (generated images in the place of birds)",
        "shapes",
    )
    assert Section("birds", None, []).heading == "birds (no data at this scale)"


def test_stand_ins_are_what_has_the_role_of_another() -> None:
    roles = {"cifar_fs": "cifar_fs", "mini_imagenet": "shapes", "birds": "birds"}
    assert stand_ins({"roles": roles}) == ["shapes"]


def test_an_address_is_made_of_letters_digits_and_points() -> None:
    section = Section("mini_imagenet", "shapes", [], "base classes")
    cell = Cell("Classical w/ R_FC", "4-conv, 32", "1-shot, minus Reptile", Measured())
    assert section.address(cell) == (
        "mini-imagenet/base-classes/4-conv-32/classical-w-r-fc/1-shot-minus-reptile"
    )
    bare = Section("cifar_fs", None, []).address(Cell("0.5", "", "R_FC", Measured()))
    assert bare == "cifar-fs/0.5/r-fc"


# Notes


def test_notes_say_only_what_holds(table: Table) -> None:
    """Of a table without numbers neither what ours are, nor what is bold, nor a difference."""
    cells = [Cell("Ours", "", "1-shot", Measured())]
    bare = replace(table, sections=[Section("cifar_fs", "cifar_fs", cells)], notes=["A note."])
    assert Layout(bare, []).notes == ["A note."]
    paper = [Cell("Ours", "", "1-shot", Measured(), measured("45", "1", "quoted"))]
    held = replace(bare, sections=[Section("cifar_fs", "cifar_fs", paper)])
    assert Layout(held, []).notes == ["A note.", "a: The paper took this number from earlier work."]


def test_a_difference_of_nothing_is_one(table: Table) -> None:
    cells = [Cell("Ours", "", "1-shot", percent(45, 55), measured("50.00"))]
    same = replace(table, sections=[Section("cifar_fs", "cifar_fs", cells)])
    assert "| 50.00 (+0.00, +0.0 SE) |" in markdown(Layout(same, []))
    assert any(note.startswith("Paper: in brackets") for note in Layout(same, []).notes)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (
            # By columns, of which the others are those of the most samples.
            {("A", "MAML"): 2, ("A", "SVM"): 3, ("B", "MAML"): 2, ("B", "RR"): 3},
            "2 episodes (MAML) or 3 episodes (the others)",
        ),
        (
            {("A", "x"): 2, ("A", "y"): 2, ("B", "x"): 3, ("C", "y"): 4},
            "2 episodes (A) or 3 episodes (B) or 4 episodes (the others)",
        ),
        (
            # By rows that share a fine-tuner.
            {("one, maml", "x"): 2, ("two, maml", "x"): 2, ("one, svm", "x"): 3},
            "2 episodes (maml) or 3 episodes (the others)",
        ),
        ({("A", "x"): 2, ("A", "y"): 3, ("B", "x"): 3}, "2 episodes or 3 episodes"),
        ({("A", "x"): 2, ("B", "y"): 2}, "2 episodes"),
    ],
)
def test_the_numbers_of_samples_are_said_of_columns_or_rows(
    places: dict[tuple[str, str], int], said: str, table: Table
) -> None:
    cells = [Cell(row, "", column, percent(*range(n))) for (row, column), n in places.items()]
    of_these = replace(table, sections=[Section("cifar_fs", "cifar_fs", cells)])
    (note, *_) = Layout(of_these, []).notes
    assert note.endswith(f"confidence interval, over {said}; seeds: 1.")


def test_samples_of_several_kinds_are_all_named(table: Table) -> None:
    pairs = replace(percent(1.0, 2.0, 3.0), unit="pair of classes")
    section = table.sections[0]
    both = replace(section, cells=[*section.cells, Cell("Pairs", "", "R_HV", pairs)])
    (note, *_) = Layout(replace(table, sections=[both]), []).notes
    assert note.endswith(
        "over 2 episodes (1-shot, 5-shot) or 3 pairs of classes (the others); seeds: 1, 2."
    )


@pytest.mark.parametrize(
    ("samples", "limits", "printed", "said"),
    [
        ((45, 55), None, "[-13.53, 113.53]", None),
        ((45, 55), (0.0, 100.0), "[0.00, 100.00]", "Intervals of accuracies are cut"),
        ((49, 51), (0.0, 100.0), "[37.29, 62.71]", None),
        ((20, 20), (0.0, 100.0), "", "No interval: all samples are equal"),
        # Of which the mean is not quite one of them.
        ((100 / 75,) * 6, None, "", "No interval: all samples are equal"),
    ],
)
def test_an_interval_is_what_samples_can_say(
    samples: tuple[float, ...],
    limits: tuple[float, float] | None,
    printed: str,
    said: str | None,
    table: Table,
    tmp_path: Path,
) -> None:
    """In every form of a table."""
    cells = [Cell("Ours", "", "1-shot", replace(percent(*samples), limits=limits))]
    own = replace(table, sections=[Section("cifar_fs", "cifar_fs", cells)])
    render.write(own, Results(tmp_path, SETTINGS), tmp_path / "table9")
    ((shown,),) = (one["cells"] for one in as_json(Layout(own, []))["sections"])
    assert shown["interval"] == printed
    text = (tmp_path / "table9.md").read_text(encoding="utf-8")
    assert ("| 95 % " in text) == bool(printed)
    for note in ("Intervals of accuracies are cut", "No interval: all samples are equal"):
        assert (f"\n- {note}" in text) == (note == said)
    with (tmp_path / "table9.csv").open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    ends = [f"{float(row[name]):.2f}" for name in ("low_95", "high_95") if row[name]]
    assert (f"[{', '.join(ends)}]" if ends else "") == printed


@pytest.mark.parametrize(
    ("variant", "note"),
    [
        (None, "Images of cifar_fs: fingerprint f00d."),
        (
            "jpeg",
            "Images of cifar_fs: fingerprint f00d; a variant, jpeg, whose pixels may differ from "
            "those that others use.",
        ),
    ],
)
def test_a_variant_of_the_images_is_named(
    variant: str | None, note: str, table: Table, tmp_path: Path
) -> None:
    """But of none that was not measured on."""
    names = {"dataset": "cifar_fs", "run": "r2d2_ridge", "seed": 0}
    made.write(tmp_path, made.experiment(), "evaluation", {}, variant=variant, **names)
    wanted = {"evaluation": {"cifar_fs": ["r2d2_ridge"]}}
    results = Results(tmp_path, SETTINGS | {"scale": "demo", "records": wanted})
    assert variants(results, table) == [note]
    assert variants(Results(tmp_path, SETTINGS), table) == []
