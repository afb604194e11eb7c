"""Every cell of every table is the number that the records hold, read here without the pipeline.

Two seeds, on data sets of the paper's names; each table's places are written out by hand.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import made_records as made
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline import jobs, shown
from pipeline.plugins import find
from pipeline.report import render
from pipeline.report.results import Results

BOTH, MINI = ("cifar_fs", "mini_imagenet"), ("mini_imagenet",)
SEEDS = (0, 1)
# Of the paper's data set, part, backbone, row and column.
Place = tuple[str, str, str, str, str]


class Expected(NamedTuple):
    """Samples (seed, sample), the value of each seed if that is another, and what a sample is."""

    samples: NDArray[np.float64]
    unit: str = "episode"
    values: NDArray[np.float64] | None = None
    of_pairs: bool = False

    def minus(self, other: "Expected") -> "Expected":
        return Expected(self.samples - other.samples, self.unit)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    made.fill(folder, made.experiment(seeds=len(SEEDS)), made.scattered)
    return folder


class World:
    """What the records hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, kind: Any, dataset: str, run: str, *place: str) -> NDArray[np.float64] | None:
        found = []
        for seed in SEEDS:
            try:
                value = made.values_of(self.folder, kind, dataset=dataset, run=run, seed=seed)
                for name in place:
                    value = value[name]
            except (FileNotFoundError, KeyError):
                continue
            found.append(np.atleast_1d(value))
        return np.array(found, dtype=np.float64) if found else None

    def head(self, dataset: str, run: str, head: str, shot: int) -> Expected | None:
        counts = self.read("evaluation", dataset, run, "correct", str(shot), head)
        return None if counts is None else Expected(100 * counts / made.N_QUERIES)

    def steps(self, dataset: str, run: str, name: str, shot: int) -> Expected | None:
        counts = self.read("adaptation", dataset, run, name, "correct", str(shot))
        return None if counts is None else Expected(100 * counts / made.N_QUERIES)

    def travel(self, dataset: str, run: str, name: str, shot: int, what: str) -> Expected | None:
        found = self.read("adaptation", dataset, run, name, what, str(shot))
        return None if found is None else Expected(found)

    def pairs(self, dataset: str, run: str, split: str, measure: str) -> Expected | None:
        found = self.read("measurement", dataset, run, split, "pairs", measure)
        return None if found is None else Expected(found, "pair of classes")

    def whole(self, dataset: str, run: str, split: str, *place: str) -> Expected | None:
        found = self.read("measurement", dataset, run, split, *place)
        return None if found is None else Expected(found, "model")

    def cka(self, dataset: str, run: str, twin: str, split: str, form: str) -> Expected | None:
        pairs = made.values_of(self.folder, "similarity", dataset=dataset, run=run)[split]["pairs"]
        chosen = [pair for pair in pairs if pair["run"] == twin]
        assert len(chosen) == (1 if twin == run else 2)
        return Expected(
            np.array([pair["folds"] for pair in chosen]),
            "fold of images",
            np.array([pair[form] for pair in chosen]),
            of_pairs=twin == run,
        )


Found = Iterator[tuple[Place, Expected | None]]


def table1(world: World) -> Found:
    yield from fine_tuned(world, "mini_imagenet", 1, "")


def cross_fine_tuners(world: World) -> Found:
    for role, shot in (("mini_imagenet", 5), ("cifar_fs", 1), ("cifar_fs", 5)):
        yield from fine_tuned(world, role, shot, f"{shot}-shot")


TWO_TWINS = {
    ("MetaOptNet-M", "MetaOptNet"): "resnet12_svm",
    ("MetaOptNet-C", "MetaOptNet"): "resnet12_classical",
    ("R2-D2-M", "R2-D2"): "r2d2_ridge",
    ("R2-D2-C", "R2-D2"): "r2d2_classical",
}


def fine_tuned(world: World, role: str, shot: int, part: str) -> Found:
    for (row, backbone), run in TWO_TWINS.items():
        for column, head in {"SVM": "svm", "RR": "ridge", "ProtoNet": "prototypes"}.items():
            yield (role, part, backbone, row, column), world.head(role, run, head, shot)
        place = (role, part, backbone, row, "MAML")
        yield place, world.steps(role, run, "maml_fresh", shot)


def table2(world: World) -> Found:
    for role in BOTH:
        for (row, backbone), run in TWO_TWINS.items():
            for column, measure in {"R_FC": "r_fc_released", "R_HV": "r_hv_released"}.items():
                yield (role, "", backbone, row, column), world.pairs(role, run, "base", measure)


def table3(world: World) -> Found:
    suffixes = {"Classical": "", "Classical w/ R_FC": "_fc", "Classical w/ R_HV": "_hv"}
    for role in BOTH:
        for shot in (1, 5):
            column = f"{shot}-shot"
            ridge = world.head(role, "r2d2_ridge", "ridge", shot)
            yield (role, "", "R2-D2", "R2-D2", column), ridge
            svm = world.head(role, "resnet12_svm", "svm", shot)
            yield (role, "", "MetaOptNet", "MetaOptNet-SVM", column), svm
            for backbone, plain in {"R2-D2": "r2d2", "MetaOptNet": "resnet12"}.items():
                for row, suffix in suffixes.items():
                    run = f"{plain}_classical{suffix}"
                    yield (role, "", backbone, row, column), world.head(role, run, "svm", shot)


FEATURES = {"C": "classical", "R_FC": "classical_fc", "R_HV": "classical_hv"}
META = {"R2-D2": "r2d2_ridge", "MetaOptNet": "resnet12_svm"}


def table4(world: World) -> Found:
    for role in BOTH:
        for backbone, run in META.items():
            for column, name in FEATURES.items():
                twin = f"{run.split('_')[0]}_{name}"
                yield (role, "", "", backbone, column), world.cka(role, run, twin, "novel", "cka")


def similarity(world: World) -> Found:
    forms = {"plain": "cka", "debiased": "cka_debiased"}
    for role in BOTH:
        for backbone, run in META.items():
            twins = {row: f"{run.split('_')[0]}_{name}" for row, name in FEATURES.items()}
            for row, twin in {**twins, "another seed": run}.items():
                for split in ("novel", "base"):
                    for name, form in forms.items():
                        found = world.cka(role, run, twin, split, form)
                        yield (role, "", backbone, row, f"{split}, {name}"), found


MAML = {"MAML-1": "maml_1shot", "MAML-5": "maml_5shot", "MAML-C": "maml_classical"}


def table5(world: World) -> Found:
    for row, run in MAML.items():
        for column, measure in {"R_FC": "r_fc_released", "R_HV": "r_hv_released"}.items():
            place = ("mini_imagenet", "", "", row, column)
            yield place, world.pairs("mini_imagenet", run, "base", measure)


def clustering(world: World) -> Found:
    models = {**TWO_TWINS, **{(row, "4-conv, 32"): run for row, run in MAML.items()}}
    sampled = {"R_FC": "r_fc_released", "R_HV": "r_hv_released", "R_HV printed": "r_hv_printed"}
    whole = {
        "R_FC exact": ("population", "r_fc"),
        "R_HV exact": ("population", "r_hv"),
        "s": ("population", "within"),
        "D": ("population", "between"),
        "R_FC printed": ("r_fc_printed",),
    }
    for split in ("base", "novel"):
        for role in BOTH:
            for (row, backbone), run in models.items():
                start = (role, f"{split} classes", backbone, row)
                for column, measure in sampled.items():
                    yield (*start, column), world.pairs(role, run, split, measure)
                for column, place in whole.items():
                    yield (*start, column), world.whole(role, run, split, *place)


def table6(world: World) -> Found:
    for role in BOTH:
        for shot in (1, 5):
            rows = {
                "Classical": ("reptile_classical", "reptile"),
                "FOMAML": (f"fomaml_{shot}shot", "maml"),
                "Reptile": ("reptile", "reptile"),
                "W-Clustering": ("weight_clustering", "reptile"),
            }
            for row, (run, name) in rows.items():
                yield (role, "", "", row, f"{shot}-shot"), world.steps(role, run, name, shot)


def coefficient_sweep(world: World) -> Found:
    runs = {"Reptile": "reptile", "5e-5": "weight_clustering"}
    suffixes = {"0": "0", "5e-6": "5em6", "5e-4": "5em4", "5e-2": "5em2", "5": "5", "50": "50"}
    runs |= {row: f"weight_clustering_{suffix}" for row, suffix in suffixes.items()}
    for role in BOTH:
        for shot in (1, 5):
            reptile = world.steps(role, "reptile", "reptile", shot)
            assert reptile is not None
            for row, run in runs.items():
                ours = world.steps(role, run, "reptile", shot)
                yield (role, "", "", row, f"{shot}-shot"), ours
                if row != "Reptile":
                    place = (role, "", "", row, f"{shot}-shot, minus Reptile")
                    yield place, ours and ours.minus(reptile)


def travel(world: World) -> Found:
    models = {
        "Reptile": ("reptile", "reptile"),
        "W-Clustering": ("weight_clustering", "reptile"),
        "coefficient 0": ("weight_clustering_0", "reptile"),
        "MetaOptNet-M": ("resnet12_svm", "maml_fresh"),
        "R2-D2-M": ("r2d2_ridge", "maml_fresh"),
        "Reptile, SGD": ("reptile", "maml_fresh"),
        "W-Clustering, SGD": ("weight_clustering", "maml_fresh"),
    }
    columns = {
        "distance": "distance",
        "with the head": "distance_with_head",
        "length": "length",
        "loss before": "loss_before",
        "loss after": "loss_after",
    }
    for role in BOTH:
        for shot in (1, 5):
            for row, (run, name) in models.items():
                for column, what in columns.items():
                    found = world.travel(role, run, name, shot, what)
                    yield (role, f"{shot}-shot", "", row, column), found


def regularizers(world: World) -> Found:
    measures = {"R_FC": "r_fc_released", "R_HV": "r_hv_released", "R_HV printed": "r_hv_printed"}
    for role in BOTH:
        for backbone, plain in {"R2-D2": "r2d2", "MetaOptNet": "resnet12"}.items():
            runs = {"+ R_FC": f"{plain}_classical_fc", "+ R_HV": f"{plain}_classical_hv"}
            for column, run in runs.items():
                both = (run, f"{plain}_classical")
                for head in ("ridge", "svm", "prototypes"):
                    for shot in (1, 5):
                        place = (role, "", backbone, f"{head} {shot}-shot", column)
                        yield place, minus(*(world.head(role, one, head, shot) for one in both))
                for split in ("base", "novel"):
                    for row, measure in measures.items():
                        found = minus(*(world.pairs(role, one, split, measure) for one in both))
                        yield (role, "", backbone, f"{row} {split}", column), found


def minus(ours: Expected | None, theirs: Expected | None) -> Expected | None:
    assert ours is not None
    assert theirs is not None
    return ours.minus(theirs)


def separation(world: World) -> Found:
    models = {"ProtoNet": "conv64_protonet", "Classical": "conv64_classical"}
    for role in BOTH:
        for row, run in models.items():
            for column, panel in {
                "other images": "held_out",
                "the shown images": "in_sample",
            }.items():
                ratios = world.read("projection", role, run, panel, "ratios")
                assert ratios is not None
                # A ratio of variances is compared by its logarithm.
                yield (role, "", "", row, column), Expected(np.log(ratios), "choice of classes")


def training_times(world: World) -> Found:
    subjects = shown.subjects(made.experiment(seeds=len(SEEDS)), "training")
    for role in BOTH:
        for run in subjects[role]:
            seconds = world.read("training", role, run, "step_seconds")
            steps = world.read("training", role, run, "steps")
            assert seconds is not None
            assert steps is not None
            yield (role, "", "", run, "seconds a step"), Expected(seconds, "stretch of training")
            yield (role, "", "", run, "steps"), Expected(steps, "run")
            whole = seconds.mean(1, keepdims=True) * steps
            yield (role, "", "", run, "seconds in all"), Expected(whole, "run")


def fine_tuners(world: World) -> Found:
    experiment = made.experiment(seeds=len(SEEDS))
    for role in BOTH:
        for run in shown.subjects(experiment, "training")[role]:
            for name in experiment.runs[run].fine_tuners:
                for shot in (1, 5):
                    is_head = name in ("ridge", "svm", "prototypes")
                    found = (world.head if is_head else world.steps)(role, run, name, shot)
                    assert found is not None
                    yield (role, "", "", f"{run}, {name}", f"{shot}-shot"), found


TABLES: dict[str, Callable[[World], Found]] = {
    **{function.__name__: function for function in (table1, table2, table3, table4, table5)},
    **{function.__name__: function for function in (table6, cross_fine_tuners, clustering)},
    **{function.__name__: function for function in (similarity, regularizers, training_times)},
    **{function.__name__: function for function in (coefficient_sweep, travel, separation)},
    "fine_tuners": fine_tuners,
}


def test_every_table_is_here() -> None:
    assert TABLES.keys() == shown.TABLES.keys()


KEYS = ["in_place_of", "part", "backbone", "row", "column"]


@pytest.mark.parametrize("name", TABLES)
def test_every_cell_is_the_number_of_the_records(name: str, world: Path, tmp_path: Path) -> None:
    settings = jobs.settings(made.experiment(seeds=len(SEEDS)), "table", table=name)
    results = Results(world, settings)
    render.write(find("report.tables", name, "table")(results, settings), results, tmp_path / name)
    texts = dict.fromkeys(["part", "backbone", "row", "column", "unit"], str)
    cells = pd.read_csv(
        tmp_path / f"{name}.csv", dtype=texts, keep_default_na=False, na_values=[""]
    )
    cells = cells.fillna({"part": "", "backbone": ""}).set_index(KEYS)
    assert cells.index.is_unique
    # What has no record is of a run that is not trained on this data.
    expected = {place: one for place, one in TABLES[name](World(world)) if one is not None}
    assert set(cells.index) == expected.keys()
    for place, one in expected.items():
        cell = cells.loc[place]
        assert cell["scale"] == "demo"
        assert cell["dataset"] == place[0]
        values = one.samples.mean(1) if one.values is None else one.values
        over_seeds = one.samples.mean(0)
        assert cell["mean"] == pytest.approx(values.mean(), rel=1e-9), place
        n_seeds = len(SEEDS) if one.of_pairs else len(values)
        assert (cell["n_samples"], cell["n_seeds"]) == (len(over_seeds), n_seeds)
        assert cell["unit"] == one.unit
        if len(values) > 1:
            assert cell["sd_between_seeds"] == pytest.approx(values.std(ddof=1), abs=1e-12)
        if len(over_seeds) == 1:
            assert math.isnan(cell["standard_error"])
            assert math.isnan(cell["low_95"])
            continue
        error = stats.sem(over_seeds)
        assert cell["standard_error"] == pytest.approx(error)
        interval = stats.t.interval(0.95, len(over_seeds) - 1, values.mean(), error)
        assert cell[["low_95", "high_95"]].tolist() == pytest.approx(list(interval))


@pytest.mark.parametrize("seeds", [1, len(SEEDS)])
@pytest.mark.parametrize("name", TABLES)
def test_where_every_run_was_measured_nothing_is_pending(
    name: str, seeds: int, world: Path
) -> None:
    """No table asks for a run on data that it is not trained on, or for a second seed of one."""
    settings = jobs.settings(made.experiment(seeds=seeds, strict=True), "table", table=name)
    table = find("report.tables", name, "table")(Results(world, settings), settings)
    assert all(cell.measured for cell in table.cells)


def test_another_seed_has_a_row_where_there_are_several(world: Path) -> None:
    for seeds in (1, len(SEEDS)):
        settings = jobs.settings(made.experiment(seeds=seeds), "table", table="similarity")
        table = find("report.tables", "similarity", "table")(Results(world, settings), settings)
        assert ("another seed" in {cell.row for cell in table.cells}) == (seeds > 1)
