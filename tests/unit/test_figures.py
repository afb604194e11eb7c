"""Figures show what the records hold, under the true name of their data, and what is missing."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image

from pipeline import config_files, jobs, records, shown
from pipeline.analysis import simulation
from pipeline.analysis.projection import project
from pipeline.analysis.simulations.theorem1 import printed_bound
from pipeline.analysis.statistics import estimate
from pipeline.plugins import find
from pipeline.report import figure
from pipeline.report.figure import Figure
from pipeline.report.figures import coefficient_sweep, theorem1
from pipeline.report.results import Results

MINI, CIFAR = "shapes_mini", "shapes_cifar"
ROLES = {"cifar_fs": CIFAR, "mini_imagenet": MINI}
SEEDS = 2
PROJECTED = ["conv64_protonet", "conv64_classical"]
SWEEP = list(coefficient_sweep.RUNS.values())
# What there are records of.
SUBJECTS: dict[records.Kind, records.Subjects] = {
    "simulation": {"": ["theorem1", "boundaries"]},
    "projection": {MINI: PROJECTED},
    "adaptation": {MINI: SWEEP, CIFAR: ["reptile", "weight_clustering", "weight_clustering_0"]},
    "training": {MINI: ["reptile", "maml_5shot"], CIFAR: ["reptile"]},
}
SIMULATIONS: dict[str, dict[str, Any]] = {
    "theorem1": {"n_draws": 300, "seed": 0},
    "boundaries": {"n_draws": 300, "n_shown": 3, "seed": 0},
}
N_EPISODES = 12
MADE: dict[str, Any] = {"code": "digest", "device": "cpu", "wall_s": 1.0}


def settings_of(name: str, **changes: Any) -> dict[str, Any]:
    kinds = shown.FIGURES[name][1]
    return {
        "figure": name,
        "scale": "tiny",
        "roles": ROLES,
        "n_way": 5,
        "n_shots": [1, 5],
        "seeds": SEEDS,
        "records": {kind: SUBJECTS[kind] for kind in kinds},
        "strict": False,
    } | changes


def of_run(dataset: str, run: str, seed: int) -> dict[str, Any]:
    stands_for = next((role for role, one in ROLES.items() if one == dataset), None)
    identity = {"dataset": dataset, "stands_for": stands_for, "run": run, "seed": seed}
    return {"scale": "tiny", **identity}


def write_record(
    folder: Path,
    kind: records.Kind,
    run: str,
    seed: int,
    values: Any,
    dataset: str = MINI,
    **more: Any,
) -> None:
    place = records.PLACES[kind].format(dataset=dataset, run=run, seed=seed)
    settings = of_run(dataset, run, seed) | more
    sources = {"images": "f00d"}
    records.write(folder / place, kind, settings, values=values, sources=sources, **MADE)


def write_projection(folder: Path, run: str, seed: int, apart: float) -> None:
    """By the code that makes such records, of features of three classes, 14 images each."""
    features = folder / f"features of {run} {seed}"
    identity = of_run(MINI, run, seed)
    sources = {"images": "f00d"}
    record = features / "record.json"
    records.write(record, "features", identity, values={}, sources=sources, **MADE)
    labels = np.repeat(np.arange(3), 14)
    random = np.random.default_rng([PROJECTED.index(run), seed])
    noise = random.standard_normal((42, 6)).astype(np.float32)
    np.save(features / "novel.npy", noise + apart * np.eye(6, dtype=np.float32)[labels])
    np.save(features / "novel_labels.npy", labels)
    drawn = {"n_classes": 3, "n_images": 5, "n_fit": 9, "n_draws": 2, "projection_seed": 0}
    place = records.PLACES["projection"].format(dataset=MINI, run=run, seed=seed)
    project(identity | drawn, "digest", features, folder / place)


def write_adaptation(
    folder: Path, run: str, seed: int, dataset: str = MINI, **distance: Any
) -> None:
    random = np.random.default_rng([SWEEP.index(run), seed])
    values = {
        "n_queries": 5,
        "correct": {shot: random.integers(0, 6, N_EPISODES).tolist() for shot in "15"},
        "distance": {shot: random.random(N_EPISODES).tolist() for shot in "15"} | distance,
    }
    settings = {"episodes": {"seed": 0}, "adaptations": {"reptile": {}}}
    write_record(folder, "adaptation", run, seed, {"reptile": values}, dataset, **settings)


def write_training(folder: Path, run: str, seed: int, dataset: str) -> None:
    log = [
        {"step": 5, "loss": 2.0 + seed, "accuracy": 0.2, "elapsed_s": 1.0},
        {"step": 10, "loss": 1.5 + seed, "accuracy": 0.4, "elapsed_s": 2.0},
        {"step": 10, "validation": 0.3 + seed / 10, "validation_5shot": 0.9, "elapsed_s": 3.0},
    ]
    values = {"steps": 10, "step_seconds": [0.2, 0.2], "kept": "last", "log": log}
    algorithm = {"steps": 10, "validations": 1}
    write_record(folder, "training", run, seed, values, dataset, algorithm=algorithm)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all records; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("results")
    for name, options in SIMULATIONS.items():
        settings = {"scale": "tiny", "simulation": name, "options": options}
        place = records.PLACES["simulation"].format(simulation=name)
        simulation.run(settings, "digest", folder / place)
    for seed in range(SEEDS):
        for run, apart in zip(PROJECTED, (12, 3), strict=True):
            write_projection(folder, run, seed, apart)
        for dataset, runs in SUBJECTS["adaptation"].items():
            for run in runs:
                write_adaptation(folder, run, seed, dataset)
        for dataset, runs in SUBJECTS["training"].items():
            for run in runs:
                write_training(folder, run, seed, dataset)
    return folder


def drawer(name: str) -> Callable[..., Figure]:
    found: Callable[..., Figure] = find("report.figures", shown.FIGURES[name][0], "draw")
    return found


def drawn(name: str, folder: Path, **changes: Any) -> Figure:
    settings = settings_of(name, **changes)
    return drawer(name)(Results(folder, settings), settings)


def written(name: str, folder: Path, out: Path, **changes: Any) -> Figure:
    """The figure of which ``write`` made the files ``<out>/<name>.*``."""
    settings = settings_of(name, **changes)
    caught = []

    def draw(*arguments: Any) -> Figure:
        caught.append(drawer(name)(*arguments))
        return caught[0]

    figure.write(draw, Results(folder, settings), settings, out / name)
    return caught[0]


def values_of(folder: Path, kind: records.Kind, **names: Any) -> Any:
    return records.read(folder / records.PLACES[kind].format(**names), kind).values


def texts(one: Figure) -> list[str]:
    """All that is written in the picture, without breaks of lines."""
    found = [text.get_text() for text in one.drawing.findobj(Text)]
    return [" ".join(text.split()) for text in found if text.strip()]


def marks(axes: Axes) -> set[tuple[float, float]]:
    """Where a panel has marks."""
    return {(x, y) for line in axes.lines for x, y in np.asarray(line.get_xydata()).tolist()}


@pytest.fixture(scope="module", params=shown.FIGURES)
def whole(
    made: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Figure, Path]:
    """Each figure of the project, and the folder of its files."""
    out = tmp_path_factory.mktemp("figures")
    return written(request.param, made, out), out


def test_a_figure_is_a_picture_in_three_formats_with_its_data_and_its_words(
    whole: tuple[Figure, Path], made: Path
) -> None:
    one, out = whole
    contents = {path.name.removeprefix(one.id): path.read_bytes() for path in out.iterdir()}
    assert contents.keys() == {".png", ".pdf", ".svg", ".csv", ".json"}
    assert contents[".pdf"].startswith(b"%PDF")
    assert b"<svg" in contents[".svg"]
    with Image.open(out / f"{one.id}.png") as image:
        assert image.width / one.drawing.get_figwidth() >= 150
    assert len(pd.read_csv(out / f"{one.id}.csv")) == len(one.plotted) > 0
    words = json.loads(contents[".json"])
    assert words.keys() == {"number", "heading", "caption", "notes", "sources"}
    assert words["heading"] == one.heading
    assert words["sources"]
    assert all((made / place).exists() for place in words["sources"])
    assert not one.pending
    assert "PENDING" not in " ".join(texts(one))


def test_a_picture_of_generated_images_says_so_wherever_it_names_the_papers(
    whole: tuple[Figure, Path],
) -> None:
    one, out = whole
    words = json.loads((out / f"{one.id}.json").read_text(encoding="utf-8"))
    for text in [*texts(one), words["heading"], words["caption"], *words["notes"]]:
        named = len(re.findall("mini-ImageNet|CIFAR-FS", text))
        assert named == len(re.findall("generated images in the place of", text)), text
    assert "scale: tiny" in " ".join(texts(one))
    if one.data:
        assert f"{MINI} (generated images in the place of mini-ImageNet)" in words["heading"]


def test_a_figure_bears_no_date_and_no_version(whole: tuple[Figure, Path]) -> None:
    one, out = whole
    for suffix in (".svg", ".pdf", ".png"):
        content = (out / f"{one.id}{suffix}").read_bytes()
        assert not re.search(rb"CreationDate|<dc:date>|Matplotlib v|matplotlib\.org", content)


def test_only_figures_of_simulations_name_no_data_set(whole: tuple[Figure, Path]) -> None:
    one, _ = whole
    assert bool(one.data) == (one.id not in ("figure1a", "figure1b", "theorem1"))


@pytest.mark.parametrize("name", ["figure2b", "figure3a"])
def test_the_same_records_give_the_same_bytes_whatever_the_users_style_is(
    made: Path, tmp_path: Path, name: str
) -> None:
    written(name, made, tmp_path / "one")
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "svg.hashsalt": "mine"}):
        written(name, made, tmp_path / "two")
        assert matplotlib.rcParams["font.size"] == 20
    for first in (tmp_path / "one").iterdir():
        assert first.read_bytes() == (tmp_path / "two" / first.name).read_bytes(), first.suffix


def test_the_papers_own_data_bear_its_name(tmp_path: Path) -> None:
    one = drawn("figure3a", tmp_path, roles={"mini_imagenet": "mini_imagenet"})
    assert one.heading.endswith("fine-tuning, mini-ImageNet")


@pytest.mark.parametrize("name", shown.FIGURES)
def test_without_records_every_figure_of_the_configuration_is_pending(
    tmp_path: Path, name: str
) -> None:
    settings = jobs.settings(config_files.load({"scale": "demo"}), "figure", figure=name)
    one = drawer(name)(Results(tmp_path, settings), settings)
    assert one.pending
    assert one.sources == []
    assert one.plotted.empty


def copy_without(made: Path, folder: Path, *missing: str) -> Path:
    for path in made.rglob("*.json"):
        place = path.relative_to(made)
        if str(place) not in missing:
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(path.read_bytes())
    return folder


MISSING = {
    "figure1a": "simulations/boundaries.json",
    "figure2a": f"projections/{MINI}/conv64_protonet/seed1.json",
    # The axes of part a depend on the model of part b.
    "figure2b": f"projections/{MINI}/conv64_protonet/seed0.json",
    "figure3b": f"adaptations/{MINI}/weight_clustering/seed0.json",
    "theorem1": "simulations/theorem1.json",
    "coefficient_sweep": f"adaptations/{CIFAR}/weight_clustering_0/seed1.json",
    "training_curves": f"runs/{MINI}/maml_5shot/seed0/record.json",
}


@pytest.mark.parametrize(("name", "place"), MISSING.items())
def test_a_figure_knows_which_record_it_lacks(
    made: Path, tmp_path: Path, name: str, place: str
) -> None:
    one = drawn(name, copy_without(made, tmp_path, place))
    assert one.missing == [place]
    assert place not in one.sources


def test_a_pending_figure_names_the_record_in_the_picture_and_beside_it(
    made: Path, tmp_path: Path
) -> None:
    place = MISSING["figure3b"]
    folder = copy_without(made, tmp_path / "results", place)
    one = written("figure3b", folder, tmp_path)
    assert f"PENDING: no {place}" in " ".join(texts(one))
    words = json.loads((tmp_path / "figure3b.json").read_text(encoding="utf-8"))
    assert f"Pending: no {place}." in words["notes"]


def test_a_panel_without_data_is_marked(made: Path, tmp_path: Path) -> None:
    lost = [f"runs/{MINI}/maml_5shot/seed{seed}/record.json" for seed in range(SEEDS)]
    folder = copy_without(made, tmp_path / "results", *lost)
    one = written("training_curves", folder, tmp_path)
    assert {
        axes.get_title(): "pending" in [text.get_text() for text in axes.texts]
        for axes in one.drawing.axes
        if axes.get_title()
    } == {"reptile": False, "maml_5shot": True}


@pytest.mark.parametrize("name", ["figure2a", "figure3a", "coefficient_sweep", "training_curves"])
def test_a_data_set_that_the_scale_has_not_is_missing(made: Path, name: str) -> None:
    one = drawn(name, made, roles={"cifar_fs": CIFAR})
    assert one.missing == ["data in the place of mini-ImageNet at this scale"]


@pytest.mark.parametrize("name", ["figure3a", "coefficient_sweep"])
def test_a_fine_tuner_that_a_record_has_not_is_missing(
    made: Path, tmp_path: Path, name: str
) -> None:
    folder = copy_without(made, tmp_path)
    for seed in range(SEEDS):
        settings = {"episodes": {"seed": 0}, "adaptations": {}}
        write_record(folder, "adaptation", "weight_clustering", seed, {}, **settings)
    (first, *_) = drawn(name, folder).missing
    assert re.search(f"1-shot .* of weight_clustering on {MINI}", first)


# Figure 1


def test_figure_1_plots_the_points_and_boundaries_of_its_panel(made: Path) -> None:
    panels = values_of(made, "simulation", simulation="boundaries")["panels"]
    for name, panel in zip(("figure1a", "figure1b"), panels, strict=True):
        one = drawn(name, made)
        points = [point for points in panel["points"] for point in points]
        of = one.plotted.set_index("what")
        assert of.loc["point", ["x", "y"]].to_numpy().tolist() == points
        lines = of.loc["one-shot boundary", ["x", "y", "direction_x", "direction_y"]]
        assert lines.to_numpy().tolist() == [
            [*pair["midpoint"], *pair["direction"]] for pair in panel["pairs"]
        ]
        assert set(map(tuple, points)) <= marks(one.drawing.axes[0])
        assert f"{100 * panel['mean_error']:.3g} %" in one.caption
    assert [panel["name"] for panel in panels] == ["wide_near", "tight_far"]


def test_figure_1_has_equal_axes_of_one_stretch_in_both_parts(made: Path) -> None:
    first, second = (drawn(name, made).drawing.axes[0] for name in ("figure1a", "figure1b"))
    assert first.get_aspect() == second.get_aspect() == 1
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())


# Figure 2


@pytest.mark.parametrize(("name", "run"), [("figure2a", PROJECTED[0]), ("figure2b", PROJECTED[1])])
def test_figure_2_plots_the_first_choice_of_classes_of_the_first_seed(
    made: Path, name: str, run: str
) -> None:
    one = drawn(name, made)
    values = values_of(made, "projection", dataset=MINI, run=run, seed=0)
    for panel, axes in zip(("held_out", "in_sample"), one.drawing.axes[:2], strict=True):
        plotted = one.plotted[one.plotted["panel"] == panel]
        points = [tuple(point) for points in values[panel]["points"] for point in points]
        assert list(zip(plotted["x"], plotted["y"], strict=True)) == points
        assert marks(axes) == set(points)
        assert plotted["class"].unique().tolist() == values["classes"]
        assert plotted["ratio"].unique().tolist() == values[panel]["ratios"][:1]
        assert f"ratio {values[panel]['ratios'][0]:.3g}" in axes.get_title()
    assert "fitted to 9 other" in one.drawing.axes[0].get_title()


def test_figure_2_has_the_same_axes_for_both_models_and_all_points_within(made: Path) -> None:
    both = [drawn(name, made) for name in ("figure2a", "figure2b")]
    for panels in zip(*(one.drawing.axes[:2] for one in both), strict=True):
        limits = {(*axes.get_xlim(), *axes.get_ylim()) for axes in panels}
        assert len(limits) == 1
        reach = max(limits.pop())
        assert all(abs(x) < reach and abs(y) < reach for axes in panels for x, y in marks(axes))


# Figure 3


@pytest.mark.parametrize(("name", "shot"), [("figure3a", "1"), ("figure3b", "5")])
def test_figure_3_counts_all_episodes_of_all_seeds(made: Path, name: str, shot: str) -> None:
    one = drawn(name, made)
    for run in ("reptile", "weight_clustering"):
        pooled = [
            distance
            for seed in range(SEEDS)
            for distance in values_of(made, "adaptation", dataset=MINI, run=run, seed=seed)[
                "reptile"
            ]["distance"][shot]
        ]
        bars = one.plotted[one.plotted["model"] == run]
        edges = [*bars["low"], bars["high"].iloc[-1]]
        assert bars["episodes"].tolist() == np.histogram(pooled, edges)[0].tolist()
        assert bars["episodes"].sum() == SEEDS * N_EPISODES
        assert bars["median"].unique().tolist() == [np.median(pooled)]


def test_figure_3_has_the_same_bins_for_both_models_and_parts(made: Path) -> None:
    both = [drawn(name, made).plotted for name in ("figure3a", "figure3b")]
    bins = {
        tuple(bars["low"]) for plotted in both for _, bars in plotted.groupby("model", sort=False)
    }
    assert len(bins) == 1


def test_figure_3_compares_the_models_as_computed_by_hand(tmp_path: Path) -> None:
    for run, distances in {"reptile": [4, 5, 6], "weight_clustering": [1, 2, 3.5]}.items():
        write_adaptation(tmp_path, run, 0, **{"1": distances})
    caption = drawn("figure3a", tmp_path, seeds=1).caption
    # All nine pairs lie one way. Of the 20 orders two do, this one and its reverse: p = 2 / 20.
    assert "minus without: -3. " in caption
    assert "0 % of pairs (Mann-Whitney U test, two-sided: U = 0, p = 0.1)" in caption
    assert "3 and 3 fine-tunings, seeds: 1" in caption


# Theorem 1


def test_theorem_1_plots_every_row_with_its_interval(made: Path) -> None:
    one = drawn("theorem1", made)
    rows = values_of(made, "simulation", simulation="theorem1")["rows"]
    for name in ("law", "dimension", "epsilon", "error", "tighter_bound"):
        assert one.plotted[name].tolist() == [row[name] for row in rows]
    ends = one.plotted[["low_95", "high_95"]].to_numpy().tolist()
    assert ends == [list(row["interval"]) for row in rows]
    # An error of zero has no logarithm: the mark is at the upper end of the interval.
    shown = {(row["epsilon"], row["error"] or row["interval"][1]) for row in rows}
    assert shown <= marks(one.drawing.axes[0])
    assert any(row["error"] == 0 for row in rows)


def test_the_shade_begins_where_the_printed_bound_is_one() -> None:
    assert printed_bound(theorem1.SAYS_NOTHING) == pytest.approx(1)


# The coefficient sweep


def test_the_sweep_plots_the_accuracy_of_every_run_that_a_data_set_has(made: Path) -> None:
    one = drawn("coefficient_sweep", made)
    plotted = one.plotted.set_index(["dataset", "shot", "coefficient"]).sort_index()
    names = {run: coefficient for coefficient, run in coefficient_sweep.RUNS.items()}
    for dataset, runs in SUBJECTS["adaptation"].items():
        for run in runs:
            for shot in "15":
                correct = [
                    values_of(made, "adaptation", dataset=dataset, run=run, seed=seed)["reptile"][
                        "correct"
                    ][shot]
                    for seed in range(SEEDS)
                ]
                ours = estimate(20 * np.mean(correct, axis=0))
                row = plotted.loc[(dataset, f"{shot}-shot", names[run])]
                assert row["accuracy"] == pytest.approx(ours.mean)
                assert (row["low_95"], row["high_95"]) == pytest.approx(ours.interval)
    assert len(plotted) == 2 * sum(map(len, SUBJECTS["adaptation"].values()))
    assert not one.pending


def test_the_sweep_sets_reptile_and_zero_apart(made: Path) -> None:
    axes = drawn("coefficient_sweep", made).drawing.axes[2]
    places = dict(
        zip([label.get_text() for label in axes.get_xticklabels()], axes.get_xticks(), strict=True)
    )
    assert list(places) == list(coefficient_sweep.RUNS)
    assert places["Reptile"] < places["0"] < coefficient_sweep.BORDER < places["5e-6"]
    assert places["5"] - places["5e-2"] == pytest.approx(2)
    # Nothing joins them with the rest.
    joined = [line for line in axes.lines if len(np.unique(line.get_xdata())) > 2]
    assert joined
    assert all(min(line.get_xdata()) > coefficient_sweep.BORDER for line in joined)


@pytest.mark.parametrize(
    ("correct", "ends"), [([0, 0, 5, 5], [0, 100]), ([5, 5, 5, 5], [math.nan, math.nan])]
)
def test_the_sweep_shows_no_accuracy_below_0_or_above_100(
    correct: list[int], ends: list[float], tmp_path: Path
) -> None:
    """And no interval of episodes that are all alike."""
    values = {"reptile": {"n_queries": 5, "correct": dict.fromkeys("15", correct)}}
    settings = {"episodes": {"seed": 0}, "adaptations": {"reptile": {}}}
    for dataset, runs in SUBJECTS["adaptation"].items():
        for run in runs:
            write_record(tmp_path, "adaptation", run, 0, values, dataset, **settings)
    one = drawn("coefficient_sweep", tmp_path)
    for row in one.plotted[["low_95", "high_95"]].to_numpy():
        assert row == pytest.approx(ends, nan_ok=True)
    for axes in one.drawing.axes:
        least, most = axes.get_ylim()
        assert 0 <= least < most <= 100


# Training curves


def test_training_curves_plot_the_log_of_every_run_data_set_and_seed(made: Path) -> None:
    plotted = drawn("training_curves", made).plotted
    for (dataset, run, seed), rows in plotted.groupby(["dataset", "run", "seed"]):
        log = values_of(made, "training", dataset=dataset, run=run, seed=seed)["log"]
        for quantity in ("loss", "validation"):
            of_quantity = rows[rows["quantity"] == quantity]
            assert list(zip(of_quantity["step"], of_quantity["value"], strict=True)) == [
                (entry["step"], entry[quantity]) for entry in log if quantity in entry
            ]
    # Three records of each seed, each with two losses and one score.
    assert len(plotted) == 3 * SEEDS * 3


def test_training_curves_have_a_place_for_each_run_with_both_data_sets_in_it(made: Path) -> None:
    one = drawn("training_curves", made)
    lines = {axes.get_title(): len(axes.lines) for axes in one.drawing.axes if axes.get_title()}
    assert lines == {"reptile": 2 * SEEDS, "maml_5shot": SEEDS}
