"""Tables say what the records hold, beside what the paper printed, and whose images were used."""

import csv
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from numpy.typing import NDArray
from scipy import stats

from pipeline import config_files, jobs, records
from pipeline.config.evaluation import Adaptation
from pipeline.errors import UserError
from pipeline.plugins import find
from pipeline.report import render, table
from pipeline.report.results import Results
from pipeline.report.table import PAPER_NAMES, Cell, Section, Table, cell, published
from pipeline.report.tables import fine_tuners, regularizers, table2, table3

TABLES: dict[str, ModuleType] = {
    "table2": table2,
    "table3": table3,
    "regularizers": regularizers,
    "fine_tuners": fine_tuners,
}
# Those of the tables of one backbone, and of the other.
RUNS = ["r2d2_ridge", "r2d2_classical", "r2d2_classical_fc", "r2d2_classical_hv"]
RUNS += ["resnet12_svm", "resnet12_classical", "resnet12_classical_fc", "resnet12_classical_hv"]
HEADS = ["ridge", "svm", "prototypes"]
MEASURES = ["r_fc_released", "r_hv_released", "r_hv_printed"]
SPLITS = ["base", "novel"]
N_QUERIES = 75
STAND_IN: dict[str, Any] = {"dataset": "shapes", "stands_for": "cifar_fs"}
REAL: dict[str, Any] = {"dataset": "cifar_fs", "stands_for": None}


def write_record(
    folder: Path,
    kind: records.Kind,
    values: dict[str, Any],
    images: str = "f00d",
    **settings: Any,
) -> Path:
    """The record of a job with these settings."""
    path = folder / "-".join([kind, *(str(settings[name]) for name in ("dataset", "run", "seed"))])
    sources = {"images": images, "weights": "cafe"}
    made: dict[str, Any] = {"code": "digest", "device": "cpu", "wall_s": 1.0, "sources": sources}
    records.write(path, kind, settings, values=values, **made)
    return path


def evaluation(
    folder: Path, run: str, correct: Any, n_queries: int = N_QUERIES, **changes: Any
) -> Path:
    """A record of ``correct[n_shot][head]``, the counts of each episode."""
    settings = {**STAND_IN, "scale": "tiny", "run": run, "seed": 0, "episodes": {"seed": 0}}
    settings["heads"] = [{"name": name, "options": {}} for name in next(iter(correct.values()))]
    values = {"n_queries": n_queries, "correct": correct}
    return write_record(folder, "evaluation", values, **(settings | changes))


def steps_at(lr: float, **options: Any) -> dict[str, Any]:
    """The options of an adaptation."""
    return Adaptation(lr=lr, steps=3, **options).model_dump(mode="json")


def adaptation(folder: Path, run: str, correct: Any, **changes: Any) -> Path:
    """A record of ``correct[adaptation][n_shot]``, five queries an episode for each."""
    settings = {**STAND_IN, "scale": "tiny", "run": run, "seed": 0, "episodes": {"seed": 0}}
    settings["adaptations"] = {name: steps_at(0.1) for name in correct}
    values = {name: {"n_queries": 5, "correct": counts} for name, counts in correct.items()}
    return write_record(folder, "adaptation", values, **(settings | changes))


def measurement(folder: Path, run: str, splits: Any, **changes: Any) -> Path:
    """A record of ``splits[split]``: the printed R_FC, and the other measures of each pair."""
    settings = {**STAND_IN, "scale": "tiny", "run": run, "seed": 0}
    settings |= {"n_pairs": 8, "measurement_seed": 0}
    return write_record(folder, "measurement", splits, **(settings | changes))


def random_evaluation(folder: Path, run: str, seed: int = 0, **changes: Any) -> Path:
    random = np.random.default_rng([RUNS.index(run), seed])
    correct = {
        shot: {head: random.integers(15, N_QUERIES + 1, 30).tolist() for head in HEADS}
        for shot in "15"
    }
    return evaluation(folder, run, correct, seed=seed, **changes)


def random_adaptation(folder: Path, run: str, seed: int = 0, **changes: Any) -> Path:
    random = np.random.default_rng([RUNS.index(run), seed, 2])
    counts = {shot: random.integers(1, 6, 12).tolist() for shot in "15"}
    return adaptation(folder, run, {"maml_fresh": counts}, seed=seed, **changes)


def random_measurement(folder: Path, run: str, seed: int = 0, **changes: Any) -> Path:
    random = np.random.default_rng([RUNS.index(run), seed, 1])
    splits = {
        split: {
            "r_fc_printed": random.random(),
            "pairs": {name: random.random(8).tolist() for name in MEASURES},
        }
        for split in SPLITS
    }
    return measurement(folder, run, splits, seed=seed, **changes)


def values_of(path: Path) -> dict[str, Any]:
    return records.read(path, "evaluation", "adaptation", "measurement").values


def accuracies(path: Path, head: str, n_shot: int) -> NDArray[np.float64]:
    return 100 * np.array(values_of(path)["correct"][str(n_shot)][head]) / N_QUERIES


def settings_of(name: str, roles: Mapping[str, str]) -> dict[str, Any]:
    return {"table": name, "scale": "tiny", "roles": roles, "n_way": 5}


ROLES = {"cifar_fs": "shapes"}


def cells_of(name: str, paths: list[Path], folder: Path, roles: Mapping[str, str] = ROLES) -> Any:
    """A data frame of the table's cells, by the paper's data set, backbone, row and column."""
    TABLES[name].write(settings_of(name, roles), paths, folder / name)
    cells = pd.read_csv(folder / f"{name}.csv", dtype={"backbone": str}).fillna({"backbone": ""})
    return cells.set_index(["in_place_of", "backbone", "row", "column"]).sort_index()


# The three forms of a table, made by hand


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Table 3 of one data set, of three runs with four episodes each."""
    one_shot = {
        "r2d2_ridge": [1, 2, 3, 4],
        "r2d2_classical": [4, 4, 2, 2],
        "r2d2_classical_fc": [2, 2, 2, 2],
    }
    paths = [
        evaluation(tmp_path, run, {"1": {head: counts}, "5": {head: [4, 4, 4, 3]}}, 4, **REAL)
        for run, counts in one_shot.items()
        for head in ("ridge" if run == "r2d2_ridge" else "svm",)
    ]
    table3.write(settings_of("table3", {"cifar_fs": "cifar_fs"}), paths, tmp_path / "table3")
    return tmp_path


MARKDOWN = """\
# Table 3: 5-way accuracy in percent

Scale: tiny.

## CIFAR-FS

|                   | Backbone   | 1-shot        | 1-shot 95 %     | 1-shot paper        | 1-shot difference   | 5-shot       | 5-shot 95 %     | 5-shot paper        | 5-shot difference   |
|-------------------|------------|---------------|-----------------|---------------------|---------------------|--------------|-----------------|---------------------|---------------------|
| R2-D2             | R2-D2      | 62.50 ± 16.14 | [11.14, 113.86] | 65.3 ± 0.2 (quoted) | -2.80               | 93.75 ± 6.25 | [73.86, 113.64] | 79.4 ± 0.1 (quoted) | +14.35              |
| Classical         | R2-D2      | 75.00 ± 14.43 | [29.07, 120.93] | 62.9 ± 0.3          | +12.10              | 93.75 ± 6.25 | [73.86, 113.64] | 82.8 ± 0.3          | +10.95              |
| Classical w/ R_FC | R2-D2      | 50.00 ± 0.00  | [50.00, 50.00]  | 65.5 ± 0.4          | -15.50              | 93.75 ± 6.25 | [73.86, 113.64] | 83.3 ± 0.3          | +10.45              |
| Classical w/ R_HV | R2-D2      | pending       | pending         | 64.6 ± 0.3          |                     | pending      | pending         | 83.1 ± 0.3          |                     |
| MetaOptNet-SVM    | MetaOptNet | pending       | pending         | 72.0 ± 0.4 (quoted) |                     | pending      | pending         | 84.2 ± 0.3 (quoted) |                     |
| Classical         | MetaOptNet | pending       | pending         | 69.5 ± 0.3          |                     | pending      | pending         | 85.7 ± 0.2          |                     |
| Classical w/ R_FC | MetaOptNet | pending       | pending         | 72.3 ± 0.4          |                     | pending      | pending         | 86.3 ± 0.2          |                     |
| Classical w/ R_HV | MetaOptNet | pending       | pending         | 72.0 ± 0.4          |                     | pending      | pending         | 85.9 ± 0.2          |                     |

## mini-ImageNet (no data at this scale)
"""

MARKDOWN_NOTES = """
- Ours: mean ± one standard error, and the 95 % confidence interval. Samples per cell: 4; seeds: 1.
- Few-shot fine-tuning with the SVM, but with ridge regression in the R2-D2 row, which the paper quotes from Bertinetto et al. (2018), where ± is a 95 % interval.
- (quoted): the paper took this number from earlier work.
"""

LATEX = r"""\begin{table}
\centering\footnotesize
\begin{tabular}{llllllllll}
\toprule
 & Backbone & 1-shot & 1-shot 95 \% & 1-shot paper & 1-shot difference & 5-shot & 5-shot 95 \% & 5-shot paper & 5-shot difference \\
\midrule
R2-D2 & R2-D2 & 62.50 $\pm$ 16.14 & {[}11.14, 113.86] & 65.3 $\pm$ 0.2 (quoted) & -2.80 & 93.75 $\pm$ 6.25 & {[}73.86, 113.64] & 79.4 $\pm$ 0.1 (quoted) & +14.35 \\
Classical & R2-D2 & 75.00 $\pm$ 14.43 & {[}29.07, 120.93] & 62.9 $\pm$ 0.3 & +12.10 & 93.75 $\pm$ 6.25 & {[}73.86, 113.64] & 82.8 $\pm$ 0.3 & +10.95 \\
Classical w/ R\_FC & R2-D2 & 50.00 $\pm$ 0.00 & {[}50.00, 50.00] & 65.5 $\pm$ 0.4 & -15.50 & 93.75 $\pm$ 6.25 & {[}73.86, 113.64] & 83.3 $\pm$ 0.3 & +10.45 \\
Classical w/ R\_HV & R2-D2 & pending & pending & 64.6 $\pm$ 0.3 &  & pending & pending & 83.1 $\pm$ 0.3 &  \\
MetaOptNet-SVM & MetaOptNet & pending & pending & 72.0 $\pm$ 0.4 (quoted) &  & pending & pending & 84.2 $\pm$ 0.3 (quoted) &  \\
Classical & MetaOptNet & pending & pending & 69.5 $\pm$ 0.3 &  & pending & pending & 85.7 $\pm$ 0.2 &  \\
Classical w/ R\_FC & MetaOptNet & pending & pending & 72.3 $\pm$ 0.4 &  & pending & pending & 86.3 $\pm$ 0.2 &  \\
Classical w/ R\_HV & MetaOptNet & pending & pending & 72.0 $\pm$ 0.4 &  & pending & pending & 85.9 $\pm$ 0.2 &  \\
\bottomrule
\end{tabular}
\caption{5-way accuracy in percent. CIFAR-FS. Scale: tiny. Ours: mean $\pm$ one standard error, and the 95 \% confidence interval. Samples per cell: 4; seeds: 1. Few-shot fine-tuning with the SVM, but with ridge regression in the R2-D2 row, which the paper quotes from Bertinetto et al. (2018), where $\pm$ is a 95 \% interval. (quoted): the paper took this number from earlier work.}
\end{table}
"""


def test_a_table_in_markdown(by_hand: Path) -> None:
    text = (by_hand / "table3.md").read_text(encoding="utf-8")
    assert text.startswith(MARKDOWN)
    assert text.endswith(MARKDOWN_NOTES)


def test_a_table_in_latex(by_hand: Path) -> None:
    text = (by_hand / "table3.tex").read_text(encoding="utf-8")
    first, second = re.findall(r"(?s)\\begin{table}.*?\\end{table}\n", text)
    assert first == LATEX
    assert "mini-ImageNet (no data at this scale). Scale: tiny." in second


def test_a_table_in_csv(by_hand: Path) -> None:
    with (by_hand / "table3.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = {
        "table": "table3",
        "scale": "tiny",
        "dataset": "cifar_fs",
        "in_place_of": "cifar_fs",
        "row": "R2-D2",
        "backbone": "R2-D2",
        "column": "1-shot",
        "sd_between_seeds": "",
        "published_radius_meaning": "95 % interval",
        "published_kind": "quoted",
    }
    numbers = {
        "mean": 62.5,
        "standard_error": 16.137430609197573,
        "low_95": 11.14349358098697,
        "high_95": 113.85650641901303,
        "n_samples": 4,
        "n_seeds": 1,
        "published": 65.3,
        "published_radius": 0.2,
        "difference": -2.8,
    }
    first = rows[0]
    assert first.keys() == texts.keys() | numbers.keys()
    assert {name: first[name] for name in texts} == texts
    assert {name: float(first[name]) for name in numbers} == pytest.approx(numbers)
    assert [(row["in_place_of"], row["row"], row["column"]) for row in rows] == [
        (role, row, column)
        for role in PAPER_NAMES
        for row, _, _, _ in table3.ROWS
        for column in ("1-shot", "5-shot")
    ]


# The numbers


def test_accuracies_of_two_seeds(tmp_path: Path) -> None:
    """The error is over episodes, of the mean over seeds; what seeds change stands beside it."""
    paths = [random_evaluation(tmp_path, run, seed) for seed in (1, 0) for run in RUNS]
    found = cells_of("table3", paths, tmp_path)
    for (row, backbone, _, _), run in zip(table3.ROWS, RUNS, strict=True):
        head = "ridge" if run == "r2d2_ridge" else "svm"
        for n_shot in (1, 5):
            samples = np.stack(
                [
                    accuracies(tmp_path / f"evaluation-shapes-{run}-{seed}", head, n_shot)
                    for seed in (0, 1)
                ]
            )
            per_episode, per_seed = samples.mean(0), samples.mean(1)
            error = stats.sem(per_episode)
            low, high = stats.t.interval(0.95, 29, per_episode.mean(), error)
            one = found.loc["cifar_fs", backbone, row, f"{n_shot}-shot"]
            assert one[["mean", "standard_error", "low_95", "high_95"]].tolist() == pytest.approx(
                [samples.mean(), error, low, high]
            )
            assert (one["n_samples"], one["n_seeds"]) == (30, 2)
            assert one["sd_between_seeds"] == pytest.approx(
                abs(per_seed[0] - per_seed[1]) / np.sqrt(2)
            )
            assert one["difference"] == pytest.approx(samples.mean() - one["published"])
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert "Samples per cell: 30; seeds: 2." in text


def test_measures_of_two_seeds(tmp_path: Path) -> None:
    paths = [random_measurement(tmp_path, run, seed) for seed in (0, 1) for run in RUNS]
    found = cells_of("table2", paths, tmp_path)
    runs = ["r2d2_ridge", "r2d2_classical", "resnet12_svm", "resnet12_classical"]
    for (model, backbone, _), run in zip(table2.MODELS, runs, strict=True):
        values = [values_of(tmp_path / f"measurement-shapes-{run}-{seed}") for seed in (0, 1)]
        for split in SPLITS:
            for name, measure in table2.MEASURES:
                pairs = np.array([one[split]["pairs"][measure] for one in values])
                one = found.loc["cifar_fs", backbone, f"{name} {split}", model]
                assert one["mean"] == pytest.approx(pairs.mean())
                assert one["standard_error"] == pytest.approx(stats.sem(pairs.mean(0)))
                assert (one["n_samples"], one["n_seeds"]) == (8, 2)
            ratio = found.loc["cifar_fs", backbone, f"R_FC printed {split}", model]
            assert ratio["mean"] == pytest.approx(
                np.mean([one[split]["r_fc_printed"] for one in values])
            )
            assert (ratio["n_samples"], ratio["n_seeds"]) == (1, 2)
            assert np.isnan(ratio["standard_error"])
            assert np.isnan(ratio["low_95"])


def test_effects_are_paired_by_episode_and_by_seed(tmp_path: Path) -> None:
    """Whatever the order of the records."""
    order = [(run, seed) for run in RUNS for seed in (0, 1)]
    order[2:4] = reversed(order[2:4])
    paths = [random_evaluation(tmp_path, run, seed) for run, seed in order]
    paths += [random_measurement(tmp_path, run, seed) for run, seed in order]
    found = cells_of("regularizers", paths, tmp_path)

    def both_seeds(kind: str, run: str, read: Callable[[Path], Any]) -> NDArray[np.float64]:
        return np.array([read(tmp_path / f"{kind}-shapes-{run}-{seed}") for seed in (0, 1)])

    quantities: dict[str, tuple[str, Callable[[Path], Any]]] = {
        "prototypes 5-shot": ("evaluation", lambda path: accuracies(path, "prototypes", 5)),
        "ridge 1-shot": ("evaluation", lambda path: accuracies(path, "ridge", 1)),
        "svm 1-shot": ("evaluation", lambda path: accuracies(path, "svm", 1)),
        "R_FC base": (
            "measurement",
            lambda path: values_of(path)["base"]["pairs"]["r_fc_released"],
        ),
        "R_HV printed novel": (
            "measurement",
            lambda path: values_of(path)["novel"]["pairs"]["r_hv_printed"],
        ),
    }
    effects = {"+ R_FC": "fc", "+ R_HV": "hv"}
    backbones = {"R2-D2": "r2d2_classical", "MetaOptNet": "resnet12_classical"}
    for (backbone, run), (column, effect) in product(backbones.items(), effects.items()):
        for row, (kind, read) in quantities.items():
            ours = both_seeds(kind, f"{run}_{effect}", read)
            plain = both_seeds(kind, run, read)
            expected = stats.ttest_rel(ours.mean(0), plain.mean(0)).confidence_interval(0.95)
            one = found.loc["cifar_fs", backbone, row, column]
            assert one["mean"] == pytest.approx(ours.mean() - plain.mean())
            assert one[["low_95", "high_95"]].tolist() == pytest.approx(list(expected))
            between = np.std((ours - plain).mean(1), ddof=1)
            assert one["sd_between_seeds"] == pytest.approx(between)


def test_only_seeds_of_both_runs_are_paired(tmp_path: Path) -> None:
    made = [("r2d2_classical", 0), ("r2d2_classical", 2), ("r2d2_classical_fc", 1)]
    made.append(("r2d2_classical_fc", 2))
    paths = [random_evaluation(tmp_path, run, seed) for run, seed in made]
    found = cells_of("regularizers", paths, tmp_path)
    one = found.loc["cifar_fs", "R2-D2", "ridge 1-shot", "+ R_FC"]
    ours, plain = (accuracies(paths[place], "ridge", 1) for place in (3, 1))
    assert one["n_seeds"] == 1
    assert one["mean"] == pytest.approx((ours - plain).mean())


# Gradient steps beside heads


def test_accuracies_of_an_adaptation(tmp_path: Path) -> None:
    """Of its own number of queries, in percent; one that a run does not have is not there."""
    counts = {"1": [0, 2, 5], "5": [5, 4, 5]}
    paths = [
        random_evaluation(tmp_path, "r2d2_ridge"),
        adaptation(tmp_path, "r2d2_ridge", {"maml": {"1": [1, 1]}, "reptile": counts}),
        adaptation(tmp_path, "r2d2_ridge", {"reptile": counts}, seed=1),
    ]
    results = Results(paths, "tiny")
    found = results.accuracy("shapes", "r2d2_ridge", "reptile", 1)
    assert {seed: list(one) for seed, one in found.items()} == {
        seed: pytest.approx([0, 40, 100]) for seed in (0, 1)
    }
    assert list(results.accuracy("shapes", "r2d2_ridge", "reptile", 5)[1]) == [100, 80, 100]
    # Of a seed, a shot or a run that was not measured there is nothing.
    assert results.accuracy("shapes", "r2d2_ridge", "maml", 1).keys() == {0}
    assert not results.accuracy("shapes", "r2d2_ridge", "maml", 5)
    assert not results.accuracy("shapes", "r2d2_ridge", "maml_fresh", 1)
    assert not results.accuracy("shapes", "r2d2_classical", "reptile", 1)
    assert results.accuracy("shapes", "r2d2_ridge", "ridge", 1).keys() == {0}


def test_adaptations_of_other_names_need_not_be_comparable(tmp_path: Path) -> None:
    """Each has its own steps and its own number of episodes; a record may hold several."""
    one = adaptation(tmp_path, "r2d2_ridge", {"maml": {"1": [1, 1]}})
    both = {"maml": steps_at(0.1), "reptile": steps_at(0.3, n_episodes=3)}
    counts = {"maml": {"1": [2, 2]}, "reptile": {"1": [3, 3, 3]}}
    other = adaptation(tmp_path, "r2d2_classical", counts, adaptations=both)
    assert Results([one, other], "tiny").accuracy("shapes", "r2d2_classical", "reptile", 1)
    third = adaptation(tmp_path, "resnet12_svm", {"reptile": {"1": [3]}})
    with pytest.raises(UserError, match=f"{third} and {other} cannot be compared: .*n_episodes"):
        Results([one, other, third], "tiny")


def test_every_run_stands_with_each_of_its_fine_tuners(tmp_path: Path) -> None:
    """With its heads and adaptations, also where it has but one kind; over all its seeds."""
    correct = {"1": {"svm": [60, 75], "ridge": [15, 30]}, "5": {"svm": [75, 75], "ridge": [0, 0]}}
    paths = [
        evaluation(tmp_path, "r2d2_ridge", correct),
        evaluation(tmp_path, "r2d2_ridge", correct, seed=1),
        adaptation(tmp_path, "r2d2_ridge", {"maml_fresh": {"1": [5, 4, 3], "5": [5, 5, 5]}}),
        adaptation(tmp_path, "resnet12_svm", {"reptile": {"1": [1, 0], "5": [2, 2]}}),
    ]
    found = cells_of("fine_tuners", paths, tmp_path).loc["cifar_fs", ""]
    assert found["mean"].to_dict() == pytest.approx(
        {
            ("r2d2_ridge, maml_fresh", "1-shot"): 80,
            ("r2d2_ridge, maml_fresh", "5-shot"): 100,
            ("r2d2_ridge, ridge", "1-shot"): 30,
            ("r2d2_ridge, ridge", "5-shot"): 0,
            ("r2d2_ridge, svm", "1-shot"): 90,
            ("r2d2_ridge, svm", "5-shot"): 100,
            ("resnet12_svm, reptile", "1-shot"): 10,
            ("resnet12_svm, reptile", "5-shot"): 40,
        }
    )
    assert found["n_seeds"].groupby("row").first().tolist() == [1, 2, 2, 1]
    assert found["n_samples"].groupby("row").first().tolist() == [3, 2, 2, 2]
    text = (tmp_path / "fine_tuners.md").read_text(encoding="utf-8")
    assert "Backbone" not in text
    assert (
        "- reptile: 3 steps of sgd at 0.1 from the head that the run left, or a new one; "
        "transductive, 15 queries per class.\n"
    ) in text
    # At the other data set nothing was measured.
    _, absent = text.split("## mini-ImageNet (no data at this scale)")
    assert "| every run, every fine-tuner | pending " in absent


def test_fine_tuners_of_each_data_set_are_its_own(tmp_path: Path) -> None:
    paths = [
        random_evaluation(tmp_path, "r2d2_ridge"),
        random_adaptation(tmp_path, "r2d2_classical", dataset="forms", images="beef"),
    ]
    results = Results(paths, "tiny")
    assert results.fine_tuners("shapes") == [("r2d2_ridge", head) for head in HEADS]
    assert results.fine_tuners("forms") == [("r2d2_classical", "maml_fresh")]
    assert results.fine_tuners("") == []


# What is missing, and what must not be mixed


def test_shots_that_were_not_evaluated_are_pending(tmp_path: Path) -> None:
    path = evaluation(tmp_path, "r2d2_ridge", {"5": {"ridge": [70, 71]}})
    found = cells_of("table3", [path], tmp_path)["mean"]
    assert np.isnan(found["cifar_fs", "R2-D2", "R2-D2", "1-shot"])
    assert found["cifar_fs", "R2-D2", "R2-D2", "5-shot"] == pytest.approx(94)


def test_two_records_of_one_seed_are_refused(tmp_path: Path) -> None:
    path = random_evaluation(tmp_path, "r2d2_ridge", 3)
    message = f"{path}: there are two records .* of r2d2_ridge on shapes, seed 3; give one"
    with pytest.raises(UserError, match=message):
        Results([path, path], "tiny")


@pytest.mark.parametrize("missing", RUNS)
def test_a_run_that_is_missing_is_pending(missing: str, tmp_path: Path) -> None:
    paths = [
        make(tmp_path, run)
        for make in (random_evaluation, random_adaptation, random_measurement)
        for run in RUNS
        if run != missing
    ]
    wanted: dict[str, set[tuple[str, str]]] = {
        "table2": {(backbone, model) for model, backbone, run in table2.MODELS if run == missing},
        "table3": {(backbone, row) for row, backbone, run, _ in table3.ROWS if run == missing},
        "regularizers": {
            (backbone, effect)
            for backbone, plain in regularizers.BACKBONES.items()
            for effect, suffix in regularizers.EFFECTS.items()
            if missing in (plain, f"{plain}_{suffix}")
        },
    }
    for name, expected in wanted.items():
        found = cells_of(name, of_table(name, paths), tmp_path).loc["cifar_fs"].reset_index()
        varies = "row" if name == "table3" else "column"
        of_missing = pd.Series(
            [place in expected for place in zip(found["backbone"], found[varies], strict=True)]
        )
        assert (found["mean"].isna() == of_missing).all()
        assert bool(expected) == of_missing.any()
        ours, _ = (tmp_path / f"{name}.md").read_text().split("## mini-ImageNet")
        assert ours.count("pending") == 2 * found["mean"].isna().sum()


KINDS = {"evaluation": "evals", "adaptation": "adaptations", "measurement": "measures"}


def of_table(name: str, paths: list[Path]) -> list[Path]:
    """Those that the workflow gives to a table."""
    return [path for path in paths if KINDS[path.name.split("-")[0]] in jobs.TABLES[name]]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_records_is_all_pending(name: str, tmp_path: Path) -> None:
    found = cells_of(name, [], tmp_path)
    assert set(found.index.get_level_values("in_place_of")) == set(PAPER_NAMES)
    assert found["mean"].isna().all()
    assert (found["n_seeds"] == 0).all()
    assert "Samples per cell: none; seeds: none." in (tmp_path / f"{name}.md").read_text()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("role", PAPER_NAMES)
def test_a_stand_in_never_bears_the_papers_name_alone(role: str, name: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"dataset": "shapes", "stands_for": role}
    paths = [
        make(tmp_path, run, **given)
        for make in (random_evaluation, random_adaptation, random_measurement)
        for run in RUNS
    ]
    cells = cells_of(name, of_table(name, paths), tmp_path, {role: "shapes"})
    assert set(cells["dataset"][cells["mean"].notna()]) == {"shapes"}
    heading = f"shapes (generated images in the place of {PAPER_NAMES[role]})"
    text = (tmp_path / f"{name}.md").read_text()
    (section,) = (part for part in text.split("## ")[1:] if "pending" not in part)
    assert section.splitlines()[0] == heading
    assert "say nothing about the paper" in text
    (caption,) = re.findall(
        rf"\\caption{{.*{re.escape(heading)}.*}}", (tmp_path / f"{name}.tex").read_text()
    )
    assert "say nothing about the paper" in caption


def test_headings() -> None:
    assert Section("cifar_fs", "cifar_fs", []).heading == "CIFAR-FS"
    assert Section("mini_imagenet", None, []).heading == "mini-ImageNet (no data at this scale)"
    assert Section("mini_imagenet", "shapes", []).heading == (
        "shapes (generated images in the place of mini-ImageNet)"
    )


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (random_evaluation, {"scale": "demo"}),
        (random_evaluation, {"episodes": {"seed": 1}}),
        (random_evaluation, {"images": "beef"}),
        (random_adaptation, {"scale": "demo"}),
        (random_adaptation, {"episodes": {"seed": 1}}),
        (random_adaptation, {"images": "beef"}),
        (random_adaptation, {"adaptations": {"maml_fresh": steps_at(0.2)}}),
        (random_measurement, {"n_pairs": 9}),
        (random_measurement, {"measurement_seed": 1}),
        (random_measurement, {"images": "beef"}),
    ],
)
def test_records_that_cannot_be_compared_are_refused(
    make: Callable[..., Path], change: dict[str, Any], tmp_path: Path
) -> None:
    one, other = make(tmp_path, "r2d2_ridge"), make(tmp_path, "r2d2_classical", **change)
    if "scale" in change:
        message = f"{other} was made at scale 'demo', this table is of 'tiny'"
    else:
        message = f"{other} and {one} cannot be compared: .*run snakemake again"
    with pytest.raises(UserError, match=message):
        Results([one, other], "tiny")


def test_data_sets_have_images_of_their_own(tmp_path: Path) -> None:
    one = random_evaluation(tmp_path, "r2d2_ridge")
    other = random_evaluation(tmp_path, "r2d2_ridge", dataset="forms", images="beef")
    results = Results([one, other], "tiny")
    for dataset, path in {"shapes": one, "forms": other}.items():
        found = results.accuracy(dataset, "r2d2_ridge", "ridge", 1)
        assert found.keys() == {0}
        np.testing.assert_allclose(found[0], accuracies(path, "ridge", 1))
    assert not results.accuracy("cifar_fs", "r2d2_ridge", "ridge", 1)


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    settings = {**STAND_IN, "scale": "tiny", "run": "r2d2_ridge", "seed": 0}
    path = write_record(tmp_path, "training", {}, **settings)
    with pytest.raises(UserError, match="is a record of training, needed is one of evaluation"):
        Results([path], "tiny")


# The paper's numbers


def published_rows() -> list[dict[str, str]]:
    with (ROOT / "pipeline/report/published.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


KEY = ("table", "row", "backbone", "dataset", "column")


def test_every_published_number_stands_once() -> None:
    rows = published_rows()
    assert len(rows) == 48
    assert len({tuple(row[name] for name in KEY) for row in rows}) == 48
    assert sum(row["table"] == "table2" for row in rows) == 16
    assert sum(row["table"] == "table3" for row in rows) == 32
    assert {row["dataset"] for row in rows} == set(PAPER_NAMES)


def test_published_numbers_say_what_they_are() -> None:
    for row in published_rows():
        quoted = row["row"] in ("R2-D2", "MetaOptNet-SVM")
        assert row["kind"] == ("quoted" if quoted else "measured")
        radius = {"table2": "none", "table3": "one standard error"}[row["table"]]
        if row["row"] == "R2-D2":
            radius = "95 % interval"
        assert row["radius_meaning"] == radius
        assert (row["radius"] == "") == (radius == "none")


@pytest.mark.parametrize(
    ("key", "value", "radius"),
    [
        ("table2/R2-D2-M/R2-D2/cifar_fs/r_fc", 1.29, None),
        ("table2/R2-D2-C/R2-D2/cifar_fs/r_hv", 1.69, None),
        ("table2/MetaOptNet-M/MetaOptNet/cifar_fs/r_hv", 0.75, None),
        ("table2/R2-D2-M/R2-D2/mini_imagenet/r_fc", 2.60, None),
        ("table2/MetaOptNet-C/MetaOptNet/mini_imagenet/r_fc", 3.13, None),
        ("table3/R2-D2/R2-D2/mini_imagenet/1-shot", 51.80, 0.20),
        ("table3/R2-D2/R2-D2/cifar_fs/5-shot", 79.4, 0.1),
        ("table3/Classical/R2-D2/mini_imagenet/5-shot", 68.24, 0.26),
        ("table3/Classical w/ R_FC/R2-D2/cifar_fs/5-shot", 83.3, 0.3),
        ("table3/Classical w/ R_HV/R2-D2/mini_imagenet/1-shot", 50.16, 0.30),
        ("table3/MetaOptNet-SVM/MetaOptNet/mini_imagenet/1-shot", 62.64, 0.31),
        ("table3/Classical/MetaOptNet/cifar_fs/1-shot", 69.5, 0.3),
        ("table3/Classical w/ R_FC/MetaOptNet/mini_imagenet/5-shot", 78.15, 0.24),
        ("table3/Classical w/ R_HV/MetaOptNet/mini_imagenet/1-shot", 59.37, 0.32),
    ],
)
def test_published_numbers_are_the_papers(key: str, value: float, radius: float | None) -> None:
    """``w/`` holds the separator, so a key is taken apart from both ends."""
    name, rest = key.split("/", 1)
    row, backbone, role, column = rest.rsplit("/", 3)
    found = published(name, row, backbone, role, column)
    assert found is not None
    assert (float(found.value), found.radius and float(found.radius)) == (value, radius)


@pytest.mark.parametrize(
    ("name", "role", "column", "values", "radii"),
    [
        ("table2", "cifar_fs", "r_fc", 7.04, 0),
        ("table2", "cifar_fs", "r_hv", 4.64, 0),
        ("table2", "mini_imagenet", "r_fc", 10.60, 0),
        ("table2", "mini_imagenet", "r_hv", 6.17, 0),
        ("table3", "mini_imagenet", "1-shot", 438.31, 2.34),
        ("table3", "mini_imagenet", "5-shot", 586.31, 1.96),
        ("table3", "cifar_fs", "1-shot", 544.1, 2.7),
        ("table3", "cifar_fs", "5-shot", 670.7, 1.9),
    ],
)
def test_published_columns_add_up_to_the_papers(
    name: str, role: str, column: str, values: float, radii: float
) -> None:
    """A slip of the pen in any cell shows in its column's sum."""
    rows = [
        row
        for row in published_rows()
        if (row["table"], row["dataset"], row["column"]) == (name, role, column)
    ]
    assert sum(float(row["value"]) for row in rows) == pytest.approx(values)
    assert sum(float(row["radius"] or 0) for row in rows) == pytest.approx(radii)


def test_published_numbers_have_the_digits_that_the_paper_prints(tmp_path: Path) -> None:
    cells_of("table3", [], tmp_path)
    for suffix, plus_minus in ((".md", "±"), (".tex", r"$\pm$")):
        text = (tmp_path / f"table3{suffix}").read_text(encoding="utf-8")
        assert f" 51.80 {plus_minus} 0.20 (quoted) " in text
        assert f" 50.39 {plus_minus} 0.30 " in text
    assert ",51.80,0.20," in (tmp_path / "table3.csv").read_text(encoding="utf-8")


def test_what_the_paper_did_not_print_is_not_there() -> None:
    assert published("table3", "R2-D2", "R2-D2", "cifar_fs", "10-shot") is None


def test_each_published_number_stands_in_its_table(tmp_path: Path) -> None:
    """A name that is misspelt in a table or in ``published.csv`` would leave a cell empty."""
    for name in ("table2", "table3"):
        found = cells_of(name, [], tmp_path)["published"].dropna()
        for role, backbone in product(PAPER_NAMES, ("R2-D2", "MetaOptNet")):
            printed = [
                float(row["value"])
                for row in published_rows()
                if (row["table"], row["backbone"], row["dataset"]) == (name, backbone, role)
            ]
            assert sorted(found.loc[role, backbone]) == sorted(printed)
            assert len(printed) == {"table2": 4, "table3": 8}[name]
        assert len(found) == sum(row["table"] == name for row in published_rows())


def test_tables_ask_for_runs_and_heads_that_there_are() -> None:
    experiment = config_files.load()
    asked = {(run, head) for _, _, run, head in table3.ROWS}
    for plain in regularizers.BACKBONES.values():
        for run in (plain, *(f"{plain}_{suffix}" for suffix in regularizers.EFFECTS.values())):
            asked |= {(run, head) for head in regularizers.HEADS}
    assert {run for run, _ in asked} == set(RUNS)
    for run, head in asked:
        assert head in experiment.heads_of(run)
    assert {run for _, _, run in table2.MODELS} <= experiment.runs.keys()
    assert jobs.TABLES.keys() == TABLES.keys()
    for name, module in TABLES.items():
        assert find("report.tables", name, "write") is module.write


def test_a_quoted_number_is_marked(tmp_path: Path) -> None:
    cells_of("table3", [], tmp_path)
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "(quoted)" in line]
    rows = [line.split("|")[1].strip() for line in lines[:-1]]
    assert rows == ["R2-D2", "MetaOptNet-SVM"] * len(PAPER_NAMES)
    assert lines[-1] == "- (quoted): the paper took this number from earlier work."
    cells_of("table2", [], tmp_path)
    assert "quoted" not in (tmp_path / "table2.md").read_text(encoding="utf-8")


# LaTeX


@pytest.fixture
def awkward() -> Table:
    """A table whose every text holds what LaTeX would act on."""
    awkward = "[50 % of a_b & #1]"
    paper = table.Published(Decimal(50), None, "none", "quoted")
    samples = {0: np.array([40.0, 60.0])}
    cells: list[Cell] = [
        cell(awkward, awkward, awkward, samples, paper),
        cell("plain", "plain", awkward, {}),
        cell("plain", "plain", "one more", samples),
        cell(awkward, awkward, "one more", {}),
    ]
    sections = [Section("cifar_fs", "my_shapes", cells), Section("mini_imagenet", None, cells)]
    return Table("awkward", None, awkward, "my_scale", 1, sections, [awkward])


@pytest.mark.parametrize("name", [*TABLES, "awkward"])
def test_latex_can_be_set(name: str, awkward: Table, tmp_path: Path) -> None:
    if name == "awkward":
        render.write(awkward, tmp_path / name)
    else:
        paths = [random_evaluation(tmp_path, run) for run in RUNS[1:]]
        paths += [random_adaptation(tmp_path, run) for run in RUNS[1:]]
        paths += [random_measurement(tmp_path, run) for run in RUNS[1:]]
        cells_of(name, of_table(name, paths), tmp_path)
    text = (tmp_path / f"{name}.tex").read_text(encoding="utf-8")
    assert text.isascii()
    bare = re.sub(r"\\[%_&#]", "", text)
    assert not set("%_#~^") & set(bare)
    assert set(re.findall(r"\$.*?\$", bare)) == {r"$\pm$"}
    assert_nested(re.findall(r"[{}]", bare), {"}": "{"})
    assert_nested(
        [begin or f"end {end}" for begin, end in re.findall(r"\\begin{(\w+)}|\\end{(\w+)}", bare)],
        {"end table": "table", "end tabular": "tabular"},
    )
    bodies = re.findall(r"(?s)\\begin{tabular}{(l+)}(.*?)\\end{tabular}", bare)
    assert len(bodies) == len(PAPER_NAMES)
    for columns, body in bodies:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {row.count("&") for row in rows} == {len(columns) - 1}
        # The command \\ would take a bracket that follows for its option.
        assert not any(line.startswith("[") for line in body.splitlines())
        rules = [line for line in body.splitlines() if line and line not in rows]
        assert rules == [r"\toprule", r"\midrule", r"\bottomrule"]
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
    text = render.latex(awkward)
    assert r"\caption{[50 \% of a\_b \& \#1]. my\_shapes (generated" in text
    assert r"Scale: my\_scale." in text
    assert "\n" + r"{[}50 \% of a\_b \& \#1] & {[}50 \% of a\_b \& \#1] & 50.0 $\pm$ 10.0 &" in text


@pytest.mark.parametrize("name", TABLES)
def test_every_line_of_a_markdown_table_has_as_many_columns(name: str, tmp_path: Path) -> None:
    cells_of(name, [], tmp_path)
    text = (tmp_path / f"{name}.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?m)(?:^\|.*\|\n)+", text)
    assert len(tables) == len(PAPER_NAMES)
    for lines in tables:
        assert len({line.count("|") for line in lines.splitlines()}) == 1


def test_columns_of_the_paper_are_left_out_where_it_has_none(tmp_path: Path) -> None:
    cells_of("regularizers", [], tmp_path)
    text = (tmp_path / "regularizers.md").read_text(encoding="utf-8")
    assert not re.search(r"^\|.*(paper|difference)", text, re.M)


@pytest.mark.parametrize("table", jobs.TABLES)
def test_a_cell_that_there_is_not_is_empty(table: str, tmp_path: Path) -> None:
    """Table 2's columns are of one backbone each."""
    paths = [random_evaluation(tmp_path, "r2d2_ridge"), random_measurement(tmp_path, "r2d2_ridge")]
    cells_of(table, paths, tmp_path)
    for suffix in (".md", ".tex"):
        assert "nan" not in (tmp_path / f"{table}{suffix}").read_text(encoding="utf-8").lower()
