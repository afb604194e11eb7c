"""The ledger speaks of switches and runs that there are, and computes what it shows."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_report import settings_of, write_record

from pipeline import config_files
from pipeline.analysis.statistics import estimate
from pipeline.report.ledger import Deviation, effects, ledger
from pipeline.report.results import Results

ROWS = ledger()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.question[:40])
def test_every_row_is_whole(row: Deviation) -> None:
    assert row.question
    assert row.default
    assert row.reason
    assert row.source
    assert len({bool(one) for one in (row.quantity, row.here, row.other)}) == 1


def test_no_question_stands_twice() -> None:
    assert len({row.question for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("switch", [switch for row in ROWS for switch in row.switches])
def test_a_switch_changes_something_and_is_allowed(switch: str) -> None:
    key, text = switch.split(": ")
    value = yaml.safe_load(text)
    *place, field = key.split(".")
    experiment = config_files.load()
    match place:
        case ["heads", head]:
            found = [getattr(experiment.heads, head)]
        case ["adaptations", name]:
            found = [experiment.adaptations[name]]
        case [part]:
            trainings = experiment.trainings()
            found = [getattr(experiment.run_on(run, data), part) for data, run, _ in trainings]
    found = [one for one in found if field in type(one).model_fields]
    assert any(getattr(one, field) != value for one in found)
    for one in found:
        type(one).model_validate(one.model_dump() | {field: value})


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.quantity], ids=lambda row: row.question[:40]
)
def test_what_shows_an_effect_can_be_measured(row: Deviation) -> None:
    experiment = config_files.load()
    for side in (row.here, row.other):
        run, *place = side.split("/")
        assert run in experiment.runs
        if row.quantity == "accuracy":
            (fine_tuner,) = place
            assert fine_tuner in (*type(experiment.heads).model_fields, *experiment.adaptations)
        else:
            assert row.quantity == "clustering"
            assert place[0] in ("base", "novel")
    sides = {side.split("/")[1] for side in (row.here, row.other)}
    assert row.quantity == "accuracy" or len(sides) == 1


HERE, OTHER = [10, 20, 30, 40], [11, 23, 32, 44]


def effects_of(folder: Path, quantity: str, here: str, other: str) -> list[tuple[str, str]]:
    settings = settings_of("page")
    row = Deviation("", "", "", "", "", quantity, here, other)
    found = effects(row, Results(folder, settings), settings)
    return [(one.about, one.text) for one in found]


def write_counts(folder: Path, run: str, counts: dict[str, list[int]], n_queries: int = 50) -> None:
    """Correct queries of each one-shot episode, by head."""
    settings = settings_of("evaluate", dataset="synthetic_cifar_fs", run=run, seed=0)
    values = {"n_queries": n_queries, "correct": {"1": counts}}
    write_record(folder, "evaluation", settings, values)


def test_an_effect_is_paired_over_episodes(tmp_path: Path) -> None:
    write_counts(tmp_path, "resnet12_svm", {"svm": HERE})
    write_counts(tmp_path, "resnet12_classical", {"svm": OTHER})
    found = effects_of(tmp_path, "accuracy", "resnet12_svm/svm", "resnet12_classical/svm")
    change = estimate(2.0 * (np.array(OTHER) - HERE))
    assert change.interval is not None
    low, high = change.interval
    assert found == [
        (
            "synthetic_cifar_fs, 1-shot",
            "50 ± 13 here, 55 ± 14 with the other; difference "
            f"+5, 95 % interval [{low:.4g}, {high:.4g}]",
        )
    ]


@pytest.mark.parametrize(
    ("other", "changed"),
    [([20, 10, 40, 30], r"\+0, 95 % interval \[-24\.\d+, 24\.\d+\]"), (HERE, r"\+0")],
)
def test_an_effect_of_nothing_is_0(other: list[int], changed: str, tmp_path: Path) -> None:
    """Not what rounding leaves of it; and equal differences have no interval."""
    write_counts(tmp_path, "resnet12_svm", {"svm": HERE, "ridge": other}, n_queries=75)
    ((_, text),) = effects_of(tmp_path, "accuracy", "resnet12_svm/svm", "resnet12_svm/ridge")
    assert re.fullmatch(f".*; difference {changed}", text)


def test_a_data_set_that_the_paper_does_not_have_goes_by_its_own_name(tmp_path: Path) -> None:
    write_counts(tmp_path, "resnet12_svm", {"svm": HERE, "ridge": OTHER})
    settings = settings_of("page") | {"roles": {"synthetic_cifar_fs": "synthetic_cifar_fs"}}
    row = Deviation("", "", "", "", "", "accuracy", "resnet12_svm/svm", "resnet12_svm/ridge")
    (found,) = effects(row, Results(tmp_path, settings), settings)
    assert found.about == "synthetic_cifar_fs, 1-shot"


def test_different_numbers_of_episodes_give_no_difference(tmp_path: Path) -> None:
    write_counts(tmp_path, "resnet12_svm", {"svm": HERE, "ridge": OTHER[:3]})
    found = effects_of(tmp_path, "accuracy", "resnet12_svm/svm", "resnet12_svm/ridge")
    assert found == [("synthetic_cifar_fs, 1-shot", "50 ± 13 here, 44 ± 12 with the other")]


def test_a_side_that_was_not_measured_gives_nothing(tmp_path: Path) -> None:
    write_counts(tmp_path, "resnet12_svm", {"svm": HERE})
    assert effects_of(tmp_path, "accuracy", "resnet12_svm/svm", "resnet12_svm/svm_qpth") == []
    assert effects_of(tmp_path, "", "", "") == []


def test_measures_of_pairs_and_of_all_images_at_once(tmp_path: Path) -> None:
    run = "r2d2_classical"
    settings = settings_of("measure", dataset="synthetic_mini_imagenet", run=run, seed=0)
    pairs = {"r_hv_released": [1.0, 2.0], "r_hv_printed": [0.5, 0.5]}
    base = {"images_per_class": 20, "pairs": pairs, "r_fc_printed": 40.0}
    values = {"base": base, "novel": {"pairs": {}}}
    write_record(tmp_path, "measurement", settings, values)
    sides = [f"{run}/base/{name}" for name in ("r_hv_released", "r_hv_printed", "r_fc_printed")]
    ((about, text),) = effects_of(tmp_path, "clustering", *sides[:2])
    assert about == "synthetic_mini_imagenet, base classes"
    assert text.startswith("1.5 ± 0.5 here, 0.5 ± 0 with the other; difference -1, 95 % interval [")
    ((_, text),) = effects_of(tmp_path, "clustering", sides[0], sides[2])
    assert text == "1.5 ± 0.5 here, 40 with the other"
