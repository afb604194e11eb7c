"""The paper's 90 numbers: each as it is printed, in its place in its table, and what it is."""

import csv
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import made_records as made
import pytest

from pipeline import jobs
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES, Published, published
from pipeline.shown import TABLES
from tests.conftest import ROOT

COUNTS = {"table1": 16, "table2": 16, "table3": 32, "table4": 12, "table5": 6, "table6": 8}


def published_rows() -> list[dict[str, str]]:
    with (ROOT / "pipeline/report/published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# The tables of the paper, number by number, as they are printed: mini-ImageNet, CIFAR-FS.
MINI_TABLE1 = """
MetaOptNet-M | MetaOptNet | SVM 62.64 0.31 | RR 60.50 0.30 | ProtoNet 51.99 0.33 | MAML 55.77 0.32
MetaOptNet-C | MetaOptNet | SVM 56.18 0.31 | RR 55.09 0.30 | ProtoNet 41.89 0.32 | MAML 46.39 0.28
R2-D2-M | R2-D2 | SVM 51.80 0.20 | RR 55.89 0.31 | ProtoNet 47.89 0.32 | MAML 53.72 0.33
R2-D2-C | R2-D2 | SVM 48.39 0.29 | RR 48.29 0.29 | ProtoNet 28.77 0.24 | MAML 44.31 0.28
"""
CIFAR_TABLE2 = """
R2-D2-M | R2-D2 | R_FC 1.29 | R_HV 0.95
R2-D2-C | R2-D2 | R_FC 2.92 | R_HV 1.69
MetaOptNet-M | MetaOptNet | R_FC 0.99 | R_HV 0.75
MetaOptNet-C | MetaOptNet | R_FC 1.84 | R_HV 1.25
"""
MINI_TABLE2 = """
R2-D2-M | R2-D2 | R_FC 2.60 | R_HV 1.57
R2-D2-C | R2-D2 | R_FC 3.58 | R_HV 1.90
MetaOptNet-M | MetaOptNet | R_FC 1.29 | R_HV 0.95
MetaOptNet-C | MetaOptNet | R_FC 3.13 | R_HV 1.75
"""
MINI_TABLE3 = """
R2-D2 | R2-D2 | 1-shot 51.80 0.20 | 5-shot 68.40 0.20
Classical | R2-D2 | 1-shot 48.39 0.29 | 5-shot 68.24 0.26
Classical w/ R_FC | R2-D2 | 1-shot 50.39 0.30 | 5-shot 69.58 0.26
Classical w/ R_HV | R2-D2 | 1-shot 50.16 0.30 | 5-shot 69.54 0.26
MetaOptNet-SVM | MetaOptNet | 1-shot 62.64 0.31 | 5-shot 78.63 0.25
Classical | MetaOptNet | 1-shot 56.18 0.31 | 5-shot 76.72 0.24
Classical w/ R_FC | MetaOptNet | 1-shot 59.38 0.31 | 5-shot 78.15 0.24
Classical w/ R_HV | MetaOptNet | 1-shot 59.37 0.32 | 5-shot 77.05 0.25
"""
CIFAR_TABLE3 = """
R2-D2 | R2-D2 | 1-shot 65.3 0.2 | 5-shot 79.4 0.1
Classical | R2-D2 | 1-shot 62.9 0.3 | 5-shot 82.8 0.3
Classical w/ R_FC | R2-D2 | 1-shot 65.5 0.4 | 5-shot 83.3 0.3
Classical w/ R_HV | R2-D2 | 1-shot 64.6 0.3 | 5-shot 83.1 0.3
MetaOptNet-SVM | MetaOptNet | 1-shot 72.0 0.4 | 5-shot 84.2 0.3
Classical | MetaOptNet | 1-shot 69.5 0.3 | 5-shot 85.7 0.2
Classical w/ R_FC | MetaOptNet | 1-shot 72.3 0.4 | 5-shot 86.3 0.2
Classical w/ R_HV | MetaOptNet | 1-shot 72.0 0.4 | 5-shot 85.9 0.2
"""
CIFAR_TABLE4 = """
R2-D2 | R2-D2 | C 0.71 | R_FC 0.77 | R_HV 0.73
MetaOptNet | MetaOptNet | C 0.77 | R_FC 0.89 | R_HV 0.87
"""
MINI_TABLE4 = """
R2-D2 | R2-D2 | C 0.69 | R_FC 0.72 | R_HV 0.70
MetaOptNet | MetaOptNet | C 0.70 | R_FC 0.82 | R_HV 0.79
"""
MINI_TABLE5 = """
MAML-1 | | R_FC 3.9406 | R_HV 1.9434
MAML-5 | | R_FC 3.7044 | R_HV 1.8901
MAML-C | | R_FC 3.3487 | R_HV 1.8113
"""
MINI_TABLE6 = """
Classical | | 1-shot 28.72 0.16 | 5-shot 45.25 0.21
FOMAML | | 1-shot 48.07 1.75 | 5-shot 63.15 0.91
Reptile | | 1-shot 49.97 0.32 | 5-shot 65.99 0.58
W-Clustering | | 1-shot 51.94 0.23 | 5-shot 68.02 0.22
"""
PAPER = {
    ("table1", "mini_imagenet"): MINI_TABLE1,
    ("table2", "cifar_fs"): CIFAR_TABLE2,
    ("table2", "mini_imagenet"): MINI_TABLE2,
    ("table3", "cifar_fs"): CIFAR_TABLE3,
    ("table3", "mini_imagenet"): MINI_TABLE3,
    ("table4", "cifar_fs"): CIFAR_TABLE4,
    ("table4", "mini_imagenet"): MINI_TABLE4,
    ("table5", "mini_imagenet"): MINI_TABLE5,
    ("table6", "mini_imagenet"): MINI_TABLE6,
}
Key = tuple[str, str, str, str, str]


def paper() -> dict[Key, tuple[str, str]]:
    """Value and radius by table, row, backbone, data set and column."""
    found = {}
    for (table, role), text in PAPER.items():
        for line in text.strip().splitlines():
            row, backbone, *numbers = (part.strip() for part in line.split("|"))
            for number in numbers:
                column, value, *radius = number.split()
                found[table, row, backbone, role, column] = (value, *radius, "")[:2]
    return found


KEY = ("table", "row", "backbone", "dataset", "column")


def test_every_number_is_the_papers_to_the_last_digit() -> None:
    rows = published_rows()
    assert len(rows) == len(paper()) == 90
    ours = {tuple(row[name] for name in KEY): (row["value"], row["radius"]) for row in rows}
    assert ours == paper()
    assert Counter(row["table"] for row in rows) == COUNTS
    assert {row["dataset"] for row in rows} == set(PAPER_NAMES)


@pytest.mark.parametrize(
    ("table", "role", "column", "values", "radii"),
    [
        ("table1", "mini_imagenet", "SVM", 219.01, 1.11),
        ("table1", "mini_imagenet", "RR", 219.77, 1.20),
        ("table1", "mini_imagenet", "ProtoNet", 170.54, 1.21),
        ("table1", "mini_imagenet", "MAML", 200.19, 1.21),
        ("table2", "cifar_fs", "R_FC", 7.04, 0),
        ("table2", "cifar_fs", "R_HV", 4.64, 0),
        ("table2", "mini_imagenet", "R_FC", 10.60, 0),
        ("table2", "mini_imagenet", "R_HV", 6.17, 0),
        ("table3", "mini_imagenet", "1-shot", 438.31, 2.34),
        ("table3", "mini_imagenet", "5-shot", 586.31, 1.96),
        ("table3", "cifar_fs", "1-shot", 544.1, 2.7),
        ("table3", "cifar_fs", "5-shot", 670.7, 1.9),
        ("table4", "cifar_fs", "C", 1.48, 0),
        ("table4", "cifar_fs", "R_FC", 1.66, 0),
        ("table4", "cifar_fs", "R_HV", 1.60, 0),
        ("table4", "mini_imagenet", "C", 1.39, 0),
        ("table4", "mini_imagenet", "R_FC", 1.54, 0),
        ("table4", "mini_imagenet", "R_HV", 1.49, 0),
        ("table5", "mini_imagenet", "R_FC", 10.9937, 0),
        ("table5", "mini_imagenet", "R_HV", 5.6448, 0),
        ("table6", "mini_imagenet", "1-shot", 178.70, 2.46),
        ("table6", "mini_imagenet", "5-shot", 242.41, 1.92),
    ],
)
def test_columns_add_up_to_the_papers(
    table: str, role: str, column: str, values: float, radii: float
) -> None:
    """A slip of the pen in any cell shows in its column's sum."""
    rows = [
        row
        for row in published_rows()
        if (row["table"], row["dataset"], row["column"]) == (table, role, column)
    ]
    assert sum(float(row["value"]) for row in rows) == pytest.approx(values)
    assert sum(float(row["radius"] or 0) for row in rows) == pytest.approx(radii)


# Quoted numbers, with what their radius means: all others are the authors' own.
QUOTED = {
    ("table1", "MetaOptNet-M", "SVM"): ("Lee et al. (2019)", "one standard error"),
    ("table3", "R2-D2", ""): ("Bertinetto et al. (2018)", "95 % interval"),
    ("table3", "MetaOptNet-SVM", ""): ("Lee et al. (2019)", "one standard error"),
    ("table6", "FOMAML", ""): ("Finn et al. (2017)", "95 % interval"),
    ("table6", "Reptile", ""): ("Nichol et al. (2018)", "95 % interval"),
}


def test_numbers_say_what_they_are_and_whose() -> None:
    kinds = Counter(row["kind"] for row in published_rows())
    assert kinds == {"measured": 76, "quoted": 13, "suspect": 1}
    for row in published_rows():
        places = [(row["table"], row["row"], column) for column in (row["column"], "")]
        quoted = next((QUOTED[place] for place in places if place in QUOTED), None)
        # Of ridge regression by its authors, under the name of the SVM.
        if row["kind"] == "suspect":
            assert places[0] == ("table1", "R2-D2-M", "SVM")
            assert row["radius_meaning"] == "95 % interval"
            assert "not the SVM" in row["source"]
            continue
        assert row["kind"] == ("quoted" if quoted else "measured"), row
        source, meaning = quoted or ("Goldblum et al. (2020)", "one standard error")
        assert row["source"].startswith(source)
        expected = meaning if row["table"] in ("table1", "table3", "table6") else "none"
        assert row["radius_meaning"] == expected
        assert (row["radius"] == "") == (expected == "none")


@pytest.mark.parametrize(
    ("radius", "meaning", "se"),
    [(Decimal("0.31"), "one standard error", 0.31), (Decimal("1.96"), "95 % interval", 1.0), (None, "none", 0.0)],
)  # fmt: skip
def test_the_standard_error_of_a_number_is_by_what_its_radius_means(
    radius: Decimal | None, meaning: str, se: float
) -> None:
    assert Published(Decimal(50), radius, meaning, "measured").se == pytest.approx(se)


def test_a_number_that_is_read_has_its_digits() -> None:
    found = published("table6", "FOMAML", "", "mini_imagenet", "1-shot")
    assert found == Published(Decimal("48.07"), Decimal("1.75"), "95 % interval", "quoted")
    found = published("table1", "MetaOptNet-M", "MetaOptNet", "mini_imagenet", "RR")
    assert found is not None
    assert str(found.value) == "60.50"


@pytest.mark.parametrize(
    "key",
    [
        ("table3", "R2-D2", "R2-D2", "cifar_fs", "10-shot"),
        ("table1", "R2-D2-M", "R2-D2", "cifar_fs", "RR"),
        ("table6", "Reptile", "", "cifar_fs", "1-shot"),
        ("cross_fine_tuners", "R2-D2-M", "R2-D2", "mini_imagenet", "RR"),
    ],
)
def test_what_the_paper_did_not_print_is_not_there(key: Key) -> None:
    assert published(*key) is None


def shown(table: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """What the page shows of a table without any record."""
    settings = jobs.settings(made.experiment(), "table", table=table) | changes
    results = Results(folder, settings)
    render.write(find("report.tables", table, "table")(results, settings), results, folder / table)
    content: dict[str, Any] = json.loads((folder / f"{table}.json").read_text(encoding="utf-8"))
    return content


@pytest.mark.parametrize("table", TABLES)
def test_each_number_stands_in_its_table_once(table: str, tmp_path: Path) -> None:
    """A name that is misspelt in a table or in ``published.csv`` would leave a cell empty."""
    places = {}
    for section in shown(table, tmp_path)["sections"]:
        for cell in section["cells"]:
            if cell["paper"]:
                role = cell["address"].split("/")[0].replace("-", "_")
                key = (cell["row"], cell["backbone"], role, cell["column"])
                assert key not in places
                places[key] = cell["paper"]
    expected = {}
    for (of_table, row, backbone, role, column), (value, radius) in paper().items():
        # The rows of Table 4 are the backbones.
        backbone = "" if table == "table4" else backbone
        if of_table == table:
            expected[row, backbone, role, column] = f"{value} ± {radius}" if radius else value
    assert places == expected
    assert len(places) == COUNTS.get(table, 0)


@pytest.mark.parametrize("table", ["table1", "table3", "table6"])
def test_accuracies_of_other_ways_stand_beside_none_of_the_papers(
    table: str, tmp_path: Path
) -> None:
    """Those are all 5-way."""
    sections = shown(table, tmp_path, n_way=2)["sections"]
    assert not any(cell["paper"] for section in sections for cell in section["cells"])
    assert "2-way" in (tmp_path / f"{table}.md").read_text(encoding="utf-8")
