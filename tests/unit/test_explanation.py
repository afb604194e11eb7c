"""A cell is found by parts of its address, and says where it comes from as the page does."""

import json
from pathlib import Path

import pytest
from small_report import RUNS, settings_of, write_record, write_report

from pipeline import records
from pipeline.errors import UserError
from pipeline.report import parts, provenance
from pipeline.report.explanation import explain

CELL = "cifar-fs/r2-d2/classical/1-shot"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explanation") / "demo"
    write_report(folder, ["table2", "table3"], RUNS[:3])
    return folder


def lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def addresses(text: str) -> list[str]:
    """Of a list of cells, after its heading."""
    return [line.split()[0] for line in text.splitlines()[1:]]


def test_one_cell_is_explained_with_its_record_and_its_training(results: Path) -> None:
    found = lines(explain(results, "table3", CELL))
    content = json.loads((results / "tables/table3.json").read_text())
    cell = next(one for one in parts.cells_of(content) if one["address"] == CELL)
    place = "evals/synthetic_cifar_fs/r2d2_classical/seed0.json"
    training = "runs/synthetic_cifar_fs/r2d2_classical/seed0/record.json"
    assert found[:10] == [
        "Table 3: 5-way accuracy in percent",
        CELL,
        "",
        f"ours {cell['ours']}",
        f"95 % interval {cell['interval']}",
        f"exactly {cell['value']!r}",
        "paper 62.9 ± 0.3",
        "samples 30 episodes",
        "place correct.1.svm",
        "",
    ]
    record, of_training = (found.index(f"{results}/{one}") for one in (place, training))
    whole = "\n".join(found[record:of_training])
    for fact in ("code digest digest of evaluation", "wall time 4 min", '"regularization": 50.0'):
        assert fact in whole
    assert f"weights of {training}" in whole
    assert f"again {provenance.command('demo', place)}" in whole
    assert '"algorithm": "classical",' in found[of_training:]


def test_the_facts_are_those_of_the_page(results: Path) -> None:
    place = "evals/synthetic_cifar_fs/r2d2_classical/seed0.json"
    record = records.read(results / place, "evaluation")
    text = lines(explain(results, "table3", CELL))
    for name, fact in provenance.facts(record).items():
        assert f"{name} {fact}" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # The whole address, whole parts of it, and at last parts of parts
        (CELL, [CELL]),
        (CELL.upper(), [CELL]),
        ("cifar/r2-d2/classical-w-r-h/5-sh", ["cifar-fs/r2-d2/classical-w-r-hv/5-shot"]),
        ("r2-d2/classical/1-shot", [CELL, CELL.replace("cifar-fs", "mini-imagenet")]),
        (
            "mini-imagenet/w-r-fc/1-shot",
            [
                "mini-imagenet/r2-d2/classical-w-r-fc/1-shot",
                "mini-imagenet/metaoptnet/classical-w-r-fc/1-shot",
            ],
        ),
    ],
)
def test_a_cell_is_found_by_parts_of_its_address(
    results: Path, text: str, found: list[str]
) -> None:
    shown = explain(results, "table3", text)
    if len(found) == 1:
        assert shown.splitlines()[1] == found[0]
    else:
        assert shown.splitlines()[0] == f"{len(found)} cells of table3 are called so; name one:"
        assert addresses(shown) == found


def test_parts_have_to_be_in_their_order(results: Path) -> None:
    with pytest.raises(UserError, match="table3 has no cell '1-shot/classical'"):
        explain(results, "table3", "1-shot/classical")


def test_without_a_cell_all_are_listed_with_their_values(results: Path) -> None:
    shown = explain(results, "table3", None)
    content = json.loads((results / "tables/table3.json").read_text())
    assert shown.splitlines()[0] == "Table 3: 5-way accuracy in percent"
    assert lines(shown)[1:] == [
        f"{cell['address']} {cell['ours']}" for cell in parts.cells_of(content)
    ]


def test_a_pending_cell_has_no_record(results: Path) -> None:
    found = lines(explain(results, "table3", "cifar-fs/metaoptnet/metaoptnet-svm/1-shot"))
    assert found[3:6] == ["ours pending", "paper 72.0 ± 0.4 (a)", ""]
    assert not any(str(results) in line for line in found)


def test_an_unknown_cell_is_refused_with_the_nearest(results: Path) -> None:
    with pytest.raises(UserError) as refusal:
        explain(results, "table3", "cifar-fs/r2d2/clasical/1-shot")
    first, nearest, *_, last = str(refusal.value).splitlines()
    assert first == "table3 has no cell 'cifar-fs/r2d2/clasical/1-shot'; the nearest are"
    assert nearest == f"  {CELL}"
    assert last == "All of them: python -m pipeline explain table3"


def test_an_unknown_table_is_refused_with_the_nearest(results: Path) -> None:
    with pytest.raises(UserError, match="unknown table 'tabel3'; did you mean 'table3'"):
        explain(results, "tabel3", None)


def test_a_table_that_is_not_made_names_the_command_that_makes_it(results: Path) -> None:
    again = "snakemake --cores all --config scale=demo --force -- results/demo/tables/table5.json"
    with pytest.raises(UserError, match=f"there is no .*table5.json; make it: {again}"):
        explain(results, "table5", None)


def test_a_record_that_is_gone_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_report(folder, ["table3"], RUNS[:1])
    (folder / "evals/synthetic_cifar_fs/r2d2_ridge/seed0.json").unlink()
    with pytest.raises(UserError, match="cannot read the record .*r2d2_ridge/seed0.json"):
        explain(folder, "table3", "cifar-fs/r2-d2/r2-d2/1-shot")


def test_a_number_of_two_runs_names_the_records_of_both(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    write_report(folder, ["regularizers"], RUNS[1:3])
    text = explain(folder, "regularizers", "cifar-fs/r2-d2/svm-1-shot/r-fc")
    for run in RUNS[1:3]:
        assert f"{folder}/evals/synthetic_cifar_fs/{run}/seed0.json" in text.splitlines()
        assert f"{folder}/runs/synthetic_cifar_fs/{run}/seed0/record.json" in text.splitlines()


def test_a_simulation_has_no_run_and_no_data(tmp_path: Path) -> None:
    settings = settings_of("simulate", simulation="theorem1")
    place = write_record(tmp_path, "simulation", settings | {"dataset": None}, {})
    facts = provenance.facts(records.read(tmp_path / place, "simulation"))
    assert facts["run"] == "theorem1"
    assert facts.keys().isdisjoint({"data set", "seed", "twins"})
