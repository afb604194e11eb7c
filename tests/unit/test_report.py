"""What holds of every table: its forms agree, it can be set, and it says whose images it is of.

Whether the numbers are those of the records: ``test_tables.py``.
"""

import csv
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest

from pipeline import config_files, jobs, records
from pipeline.__main__ import main
from pipeline.config.experiment import Experiment
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.render import Layout
from pipeline.report.results import Measured, Results
from pipeline.report.table import PAPER_NAMES, Cell, Published, Section, Table
from pipeline.shown import TABLES
from tests.conftest import ROOT

# Rows and columns of these are what there is, not what the paper has.
OPEN = {"fine_tuners", "training_times"}
# Sections of each table: data sets, splits and shots.
SECTIONS = dict.fromkeys(TABLES, 2)
SECTIONS |= {"table1": 1, "table5": 1, "cross_fine_tuners": 3, "clustering": 4, "travel": 4}


def write(name: str, folder: Path, of: Experiment, out: Path) -> dict[str, Any]:
    """What the page shows of a table, which is written in all its forms."""
    settings = jobs.settings(of, "table", table=name)
    results = Results(folder, settings)
    table = find("report.tables", name, "table")(results, settings)
    render.write(table, results, out / name)
    content: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    return content


def cells_of(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [cell for section in content["sections"] for cell in section["cells"]]


EXPERIMENTS: dict[str, Experiment] = {
    "real": made.experiment(),
    "stand_ins": made.experiment(made.STAND_INS),
    # The data set of the scale small.
    "one": made.experiment({"cifar_fs": "cifar_fs"}),
    "nothing": made.experiment(),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Records of all runs, for each of the experiments; and all tables of them."""
    found = {}
    for name, of in EXPERIMENTS.items():
        found[name] = tmp_path_factory.mktemp(name)
        if name != "nothing":
            made.fill(found[name], of, made.scattered)
        for table in TABLES:
            write(table, found[name], of, found[name] / "tables")
    return found


def shown(worlds: Mapping[str, Path], world: str, table: str) -> dict[str, Any]:
    text = (worlds[world] / f"tables/{table}.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def test_every_table_has_a_module_and_every_module_is_a_table() -> None:
    folder = ROOT / "pipeline/report/tables"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules == TABLES.keys()


@pytest.mark.parametrize("name", TABLES)
def test_the_forms_of_a_table_agree(name: str, worlds: Mapping[str, Path]) -> None:
    for world, folder in worlds.items():
        content = shown(worlds, world, name)
        with (folder / f"tables/{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        cells = cells_of(content)
        assert [row["cell"] for row in rows] == [cell["address"] for cell in cells]
        text = (folder / f"tables/{name}.md").read_text(encoding="utf-8")
        for row, cell in zip(rows, cells, strict=True):
            assert (row["table"], row["scale"]) == (name, "demo")
            assert [row[key] for key in ("row", "backbone", "column", "unit")] == [
                cell[key] for key in ("row", "backbone", "column", "unit")
            ]
            assert row["records"].split() == cell["sources"]
            assert int(row["n_samples"] or 0) == cell["samples"]
            if cell["value"] is None:
                assert (row["mean"], cell["ours"], cell["interval"]) == ("", "pending", "")
                continue
            assert float(row["mean"]) == pytest.approx(cell["value"], rel=1e-12)
            mean, _, se = cell["ours"].partition(" ± ")
            half = 0.5 * 10.0 ** -len(mean.partition(".")[2]) + 1e-12
            assert abs(float(mean.replace(",", "")) - cell["value"]) <= half
            assert bool(se) == bool(row["standard_error"]) == bool(cell["interval"])
            if se:
                assert abs(float(se) - float(row["standard_error"])) <= half
                ends = [float(end) for end in cell["interval"].strip("[]").split(", ")]
                assert ends == pytest.approx(
                    [float(row[f"{end}_95"]) for end in ("low", "high")], abs=half
                )
            # With its mark, and in bold or not.
            assert re.search(rf"\| (\*\*)?{re.escape(cell['ours'])}(\*\*)? ", text)
            assert (f"**{cell['ours']}**" in text) >= cell["best"]


@pytest.mark.parametrize("name", TABLES)
def test_a_cell_says_where_its_number_is(name: str, worlds: Mapping[str, Path]) -> None:
    """In each record that it names, at its place."""
    found = 0
    for cell in cells_of(shown(worlds, "real", name)):
        assert bool(cell["sources"]) == (cell["value"] is not None)
        for source in cell["sources"]:
            value = json.loads((worlds["real"] / source).read_text(encoding="utf-8"))["values"]
            if "similarities" in source:
                split, _, twin, form = cell["place"].split(".")
                value = [pair[form] for pair in value[split]["pairs"] if pair["run"] == twin]
            else:
                for key in re.split(r"[.,] ?", cell["place"].split(", ")[0]):
                    value = value[key]
            assert np.size(value) >= 1
            found += 1
    assert found


@pytest.mark.parametrize("name", TABLES)
def test_addresses_name_one_cell_each(name: str, worlds: Mapping[str, Path]) -> None:
    for world in worlds:
        addresses = [cell["address"] for cell in cells_of(shown(worlds, world, name))]
        assert len(set(addresses)) == len(addresses)
        assert all(re.fullmatch(r"[a-z0-9.-]+(/[a-z0-9.-]+)+", one) for one in addresses)


@pytest.mark.parametrize("name", sorted(set(TABLES) - OPEN))
def test_addresses_do_not_depend_on_what_was_measured(
    name: str, worlds: Mapping[str, Path]
) -> None:
    """So a link holds at any scale, with any data."""
    first, *others = (
        [cell["address"] for cell in cells_of(shown(worlds, world, name))] for world in worlds
    )
    assert all(one == first for one in others)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("table1", "mini-imagenet/metaoptnet/metaoptnet-m/svm"),
        ("table2", "cifar-fs/r2-d2/r2-d2-c/r-hv"),
        ("table3", "mini-imagenet/metaoptnet/classical-w-r-fc/5-shot"),
        ("table4", "cifar-fs/r2-d2/r-fc"),
        ("table5", "mini-imagenet/maml-c/r-fc"),
        ("table6", "mini-imagenet/w-clustering/1-shot"),
        ("cross_fine_tuners", "cifar-fs/5-shot/r2-d2/r2-d2-m/maml"),
        ("clustering", "cifar-fs/novel-classes/4-conv-32/maml-1/r-fc-exact"),
        ("similarity", "mini-imagenet/metaoptnet/r-hv/base-debiased"),
        ("regularizers", "cifar-fs/r2-d2/ridge-1-shot/r-fc"),
        ("training_times", "cifar-fs/r2d2-ridge/seconds-a-step"),
        ("coefficient_sweep", "cifar-fs/5e-5/1-shot-minus-reptile"),
        ("travel", "mini-imagenet/5-shot/w-clustering/distance"),
        ("separation", "cifar-fs/protonet/other-images"),
        ("fine_tuners", "mini-imagenet/maml-1shot-maml-inductive/5-shot"),
    ],
)
def test_an_address_stays_what_it_is(name: str, address: str, worlds: Mapping[str, Path]) -> None:
    assert address in [cell["address"] for cell in cells_of(shown(worlds, "real", name))]


# What is missing


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_records_is_all_pending(name: str, worlds: Mapping[str, Path]) -> None:
    cells = cells_of(shown(worlds, "nothing", name))
    assert cells
    assert {(cell["value"], cell["ours"], cell["samples"]) for cell in cells} == {
        (None, "pending", 0)
    }
    text = (worlds["nothing"] / f"tables/{name}.md").read_text(encoding="utf-8")
    assert "Ours: mean" not in text
    assert "±" not in text or any(cell["paper"] for cell in cells)
    assert "Bold" not in text


@pytest.mark.parametrize("run", ["r2d2_classical", "resnet12_svm", "maml_5shot", "reptile"])
def test_a_run_that_is_missing_leaves_its_cells_pending_and_others_as_they_are(
    run: str, worlds: Mapping[str, Path], tmp_path: Path
) -> None:
    some = tmp_path / "some"
    shutil.copytree(
        worlds["real"], some, ignore=shutil.ignore_patterns("tables", run, f"{run}.json")
    )
    for name in set(TABLES) - OPEN:
        before = cells_of(shown(worlds, "real", name))
        after = cells_of(write(name, some, EXPERIMENTS["real"], tmp_path / "tables"))
        for old, new in zip(before, after, strict=True):
            assert old["address"] == new["address"]
            of_run = any(re.search(f"/{run}[/.]", source) for source in old["sources"])
            assert new["value"] == (None if of_run else old["value"])
            assert new["sources"] == ([] if of_run else old["sources"])


@pytest.mark.parametrize("name", TABLES)
def test_a_cell_that_there_is_not_is_empty(name: str, worlds: Mapping[str, Path]) -> None:
    """As the difference to Reptile in Reptile's own row."""
    for folder in worlds.values():
        for suffix in (".md", ".tex"):
            text = (folder / f"tables/{name}{suffix}").read_text(encoding="utf-8")
            assert not re.search(r"\bnan\b|\bNone\b|\binf\b", text)


# The verb


def reported(world: str, worlds: Mapping[str, Path], home: Path, monkeypatch: Any) -> Path:
    """A copy of a world's records where the verb ``report`` looks for them."""
    folder = home / "results/demo"
    shutil.copytree(worlds[world], folder, ignore=shutil.ignore_patterns("tables"))
    monkeypatch.setattr(config_files, "load", lambda _: EXPERIMENTS[world])
    # They take long to draw, and test_figures.py has them.
    monkeypatch.setattr("pipeline.shown.FIGURES", {})
    monkeypatch.chdir(home)
    return folder


def test_the_report_reads_each_record_once_and_its_tables_are_those_made_one_by_one(
    worlds: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = reported("one", worlds, tmp_path, monkeypatch)
    # So that tables read more or less of the data set.
    shutil.rmtree(folder / "projections")
    write("separation", folder, EXPERIMENTS["one"], tmp_path / "alone")
    read, asked = records.read, Counter[Path]()

    def counting(path: Path, *kinds: records.Kind) -> records.Record:
        asked[path] += 1
        return read(path, *kinds)

    monkeypatch.setattr(records, "read", counting)
    assert main(["report"]) == 0
    there = {path.relative_to(tmp_path) for path in folder.rglob("*.json")}
    assert asked == {path: 1 for path in there if path.parts[2] not in ("tables", "claims.json")}
    for path in sorted((folder / "tables").iterdir()):
        alone = tmp_path / "alone" / path.name
        expected = alone if alone.exists() else worlds["one"] / "tables" / path.name
        assert path.read_bytes() == expected.read_bytes()


def test_a_strict_report_needs_what_the_configuration_asks_for_and_no_more(
    worlds: Mapping[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Here one data set and one seed: what is pending for want of another is no fault."""
    folder = reported("one", worlds, tmp_path, monkeypatch)
    assert main(["report", "--strict"]) == 0
    assert "| pending " in (folder / "tables/table3.md").read_text(encoding="utf-8")
    assert "**pending**" in (folder / "claims.md").read_text(encoding="utf-8")
    for name in ("tables", "claims.md", "claims.json", "report.html", "paper.tex"):
        path = folder / name
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    place = "evals/cifar_fs/r2d2_ridge/seed0.json"
    (folder / place).unlink()
    capsys.readouterr()
    assert main(["report", "--strict"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(
        "error: records that the configuration asks for are missing, 1 in all"
    )
    assert message.endswith(f"\n  no results/demo/{place}\n")
    assert not (folder / "tables").exists()
    assert main(["report"]) == 0


# Whose images


@pytest.mark.parametrize("name", TABLES)
def test_a_stand_in_never_bears_the_papers_name_alone(
    name: str, worlds: Mapping[str, Path]
) -> None:
    content = shown(worlds, "stand_ins", name)
    texts = {
        suffix: (worlds["stand_ins"] / f"tables/{name}{suffix}").read_text(encoding="utf-8")
        for suffix in (".md", ".tex")
    }
    for section in content["sections"]:
        (role,) = {cell["address"].split("/")[0].replace("-", "_") for cell in section["cells"]}
        heading = f"synthetic_{role} (generated images in the place of {PAPER_NAMES[role]})"
        assert section["heading"].startswith(heading)
        assert f"\n## {heading}" in texts[".md"]
        assert heading.replace("_", r"\_") in texts[".tex"]
        assert not any(" SE" in cell["paper"] for cell in section["cells"])
    said = "what is measured on them says nothing about the paper"
    assert said in texts[".md"]
    assert texts[".tex"].count(said) == len(content["sections"])
    assert said not in (worlds["real"] / f"tables/{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_images_are_named_where_there_are_any(name: str, worlds: Mapping[str, Path]) -> None:
    sections = {"table1": ["mini_imagenet"], "table5": ["mini_imagenet"]}.get(name, PAPER_NAMES)
    notes = shown(worlds, "real", name)["notes"]
    named = [note for note in notes if note.startswith("Images of ")]
    assert named == [f"Images of {role}: fingerprint f00d." for role in sorted(sections)]
    assert not any("f00d" in note for note in shown(worlds, "nothing", name)["notes"])


@pytest.mark.parametrize("name", TABLES)
def test_a_data_set_that_is_not_there_is_pending(name: str, worlds: Mapping[str, Path]) -> None:
    for section in shown(worlds, "one", name)["sections"]:
        absent = section["heading"].startswith("mini-ImageNet (no data at this scale)")
        values = [cell["value"] for cell in section["cells"]]
        assert section["heading"].startswith("CIFAR-FS") or absent
        assert any(value is not None for value in values) != absent


# How it is set


@pytest.mark.parametrize("name", TABLES)
def test_every_line_of_a_markdown_table_has_as_many_columns(
    name: str, worlds: Mapping[str, Path]
) -> None:
    for folder in worlds.values():
        text = (folder / f"tables/{name}.md").read_text(encoding="utf-8")
        tables = re.findall(r"(?m)(?:^\|.*\|\n)+", text)
        assert len(tables) == SECTIONS[name]
        for lines in tables:
            assert len({line.count("|") for line in lines.splitlines()}) == 1


@pytest.mark.parametrize("name", TABLES)
def test_the_column_of_backbones_is_there_where_the_paper_has_one(
    name: str, worlds: Mapping[str, Path]
) -> None:
    content = shown(worlds, "real", name)
    text = (worlds["real"] / f"tables/{name}.md").read_text(encoding="utf-8")
    assert ("| Backbone " in text) == any(cell["backbone"] for cell in cells_of(content))
    assert ("\n| paper " in text) == any(cell["paper"] for cell in cells_of(content))


AWKWARD = "[50 % of a_b & #1]"


@pytest.fixture
def awkward() -> Table:
    """A table whose every text holds what LaTeX would act on."""
    paper = Published(Decimal(50), None, "none", "quoted")
    samples = Measured({0: np.array([40.0, 60.0])}, unit=AWKWARD)
    cells = [
        Cell(AWKWARD, AWKWARD, AWKWARD, samples, paper, ("transductive",), best=True),
        Cell("plain", "plain", AWKWARD, Measured()),
        Cell("plain", "plain", "one more", samples),
        Cell(AWKWARD, AWKWARD, "one more", Measured()),
    ]
    held = [Section("cifar_fs", "my_shapes", cells), Section("mini_imagenet", None, cells)]
    return Table("awkward", None, AWKWARD, "my_scale", 1, held, [AWKWARD])


@pytest.mark.parametrize("world", EXPERIMENTS)
@pytest.mark.parametrize("name", TABLES)
def test_latex_can_be_set(name: str, world: str, worlds: Mapping[str, Path]) -> None:
    text = (worlds[world] / f"tables/{name}.tex").read_text(encoding="utf-8")
    assert_can_be_set(text, SECTIONS[name])


def test_awkward_latex_can_be_set(awkward: Table) -> None:
    assert_can_be_set(render.latex(Layout(awkward, [AWKWARD])), 2)


def assert_can_be_set(text: str, n_tables: int) -> None:
    """Nothing opened stays open, nothing is a command by mistake, and columns are as announced."""
    assert text.isascii()
    bare = re.sub(r"\\[%_&#$]", "", text)
    assert not set("%_#~^") & set(bare)
    assert bare.count("$") % 2 == 0
    assert_nested(re.findall(r"[{}]", re.sub(r"\\[{}]", "", bare)), {"}": "{"})
    tokens = re.findall(r"\\begin{(\w+)}|\\end{(\w+)}", bare)
    names = ("table", "tabular", "longtable")
    assert_nested(
        [begin or f"end {end}" for begin, end in tokens], {f"end {name}": name for name in names}
    )
    bodies = re.findall(r"(?s)\\begin{(tabular|longtable)}{(l+)}(.*?)\\end{\1}", bare)
    assert len(bodies) == n_tables
    assert bare.count(r"\caption{") == n_tables
    for _, columns, body in bodies:
        lines = body.strip().splitlines()
        # The command \\ would take a bracket that follows for its option.
        assert not any(line.lstrip().startswith("[") for line in lines)
        rows = [
            line
            for line in lines
            if line.endswith(r"\\") and not re.match(r"\\(multicolumn|caption)", line)
        ]
        assert {row.count("&") for row in rows} == {len(columns) - 1}
        bare = bare.replace(body, "")
    assert "&" not in bare


def assert_nested(tokens: list[str], pairs: Mapping[str, str]) -> None:
    """Each closing token closes the one last opened, and none stays open."""
    opened: list[str] = []
    for token in tokens:
        if token not in pairs:
            opened.append(token)
        else:
            assert opened.pop() == pairs[token]
    assert tokens
    assert not opened


def test_awkward_names_stand_in_latex_as_they_are(awkward: Table) -> None:
    text = render.latex(Layout(awkward, []))
    escaped = r"{[}50 \% of a\_b \& \#1]"
    assert rf"\caption{{{escaped}. my\_shapes (generated" in text
    assert r"Scale: my\_scale." in text
    assert f"\n{escaped} & {escaped} & " in text
    assert r"\textbf{50.0 $\pm$ 10.0}\textsuperscript{a}" in text
