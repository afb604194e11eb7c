"""The records that a report reads: which are found, which are refused, and what is paired."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import made_records as made
import numpy as np
import pytest
from scipy import stats

from pipeline import records
from pipeline.errors import UserError
from pipeline.report.results import Measured, Results
from pipeline.report.table import Cell

HEADS = ["ridge", "svm", "prototypes"]
RUN = {"dataset": "cifar_fs", "run": "r2d2_ridge", "seed": 0}
# Of each kind, a job whose record there is.
JOBS: dict[records.Kind, dict[str, Any]] = {
    **dict.fromkeys(made.VERBS, RUN),
    "similarity": {"dataset": "cifar_fs", "run": "r2d2_ridge"},
    "projection": {**RUN, "run": "conv64_protonet"},
    "simulation": {"simulation": "theorem1"},
}
KINDS = tuple(JOBS)
MODELS = tuple(kind for kind in JOBS if kind not in ("similarity", "simulation"))


def settings(
    kind: records.Kind, *runs: str, seeds: int = 1, dataset: str = "cifar_fs", **changes: Any
) -> dict[str, Any]:
    """Of a part of the report that reads one kind of record."""
    wanted = {"scale": "demo", "seeds": seeds, "records": {kind: {dataset: list(runs)}}}
    return wanted | {"strict": False} | changes


def put(folder: Path, kind: records.Kind, values: Mapping[str, Any], **given: Any) -> Path:
    """A record of made-up values in the place of a job."""
    changes, images = given.pop("changes", {}), given.pop("images", "f00d")
    if kind == "measurement":
        values = {"base": {"images_per_class": 20} | values.get("base", {})}
    return made.write(
        folder, made.experiment(), kind, values, changes, images, **(JOBS[kind] | given)
    )


def counted(**counts: list[int]) -> dict[str, Any]:
    """An evaluation of four queries an episode, at one shot."""
    return {"n_queries": 4, "correct": {"1": counts}}


# What is there, and what is missing


def test_records_are_found_in_their_places_and_others_are_missing(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[1, 2]), seed=1)
    found = Results(tmp_path, settings("evaluation", "r2d2_ridge", "r2d2_classical", seeds=2))
    assert found.missing == [
        "evals/cifar_fs/r2d2_ridge/seed0.json",
        "evals/cifar_fs/r2d2_classical/seed0.json",
        "evals/cifar_fs/r2d2_classical/seed1.json",
    ]
    measured = found.accuracy("cifar_fs", "r2d2_ridge", "ridge", 1)
    assert measured.sources == ("evals/cifar_fs/r2d2_ridge/seed1.json",)
    assert {seed: list(one) for seed, one in measured.samples.items()} == {1: [25, 50]}
    assert (measured.place, measured.unit) == ("correct.1.ridge", "episode")


@pytest.mark.parametrize("kind", KINDS)
def test_what_no_job_of_the_settings_made_is_not_read(kind: records.Kind, tmp_path: Path) -> None:
    """As of a run or a seed that was taken out of the configuration."""
    put(tmp_path, kind, {})
    found = Results(tmp_path, settings(kind, seeds=1, records={kind: {}}))
    assert not found.missing
    assert not list(found.all_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_from_where_it_is_written(kind: records.Kind, tmp_path: Path) -> None:
    path = put(tmp_path, kind, {})
    name = JOBS[kind].get("run") or "theorem1"
    wanted = settings(kind, name, dataset=JOBS[kind].get("dataset", ""))
    ((place, record),) = Results(tmp_path, wanted).all_of(kind)
    assert tmp_path / place == path
    assert record.kind == kind


def test_of_what_was_not_measured_there_is_nothing(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[1, 2]))
    found = Results(tmp_path, settings("evaluation", "r2d2_ridge"))
    absent = [
        found.accuracy("cifar_fs", "r2d2_ridge", "ridge", 5),
        found.accuracy("cifar_fs", "r2d2_ridge", "svm", 1),
        found.accuracy("cifar_fs", "r2d2_classical", "ridge", 1),
        found.accuracy("mini_imagenet", "r2d2_ridge", "ridge", 1),
        found.accuracy("", "r2d2_ridge", "ridge", 1),
        found.clustering("cifar_fs", "r2d2_ridge", "base", "r_fc_released"),
        found.similarity("cifar_fs", "r2d2_ridge", "r2d2_classical", "novel"),
        found.separation("cifar_fs", "conv64_protonet", "held_out"),
        found.step_seconds("cifar_fs", "r2d2_ridge"),
        found.travel("cifar_fs", "r2d2_ridge", "maml_fresh", 1, "distance"),
    ]
    assert not any(absent)
    assert {one.sources for one in absent} == {()}
    assert found.simulation("theorem1") is None
    assert found.fine_tuners("mini_imagenet") == []


def test_a_record_that_is_missing_is_refused_where_none_may_be(tmp_path: Path) -> None:
    """All are named. What the settings do not name is not asked for."""
    put(tmp_path, "evaluation", counted(ridge=[1, 2]))
    strict = settings("evaluation", "r2d2_ridge", "r2d2_classical", seeds=2, strict=True)
    with pytest.raises(UserError) as raised:
        Results(tmp_path, strict)
    assert str(raised.value) == (
        "records that the configuration asks for are missing, 3 in all; let snakemake make them, "
        "or leave out --strict"
        f"\n  no {tmp_path}/evals/cifar_fs/r2d2_ridge/seed1.json"
        f"\n  no {tmp_path}/evals/cifar_fs/r2d2_classical/seed0.json"
        f"\n  no {tmp_path}/evals/cifar_fs/r2d2_classical/seed1.json"
    )
    assert not Results(tmp_path, settings("evaluation", "r2d2_ridge", strict=True)).missing
    assert not Results(tmp_path, settings("evaluation", strict=True)).missing


def test_results_that_share_a_reader_have_records_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[1, 2]))
    put(tmp_path, "training", {})
    asked = []

    @cache
    def read(path: Path, kind: records.Kind) -> records.Record:
        asked.append(path)
        return records.read(path, kind)

    both = settings("evaluation", "r2d2_ridge", records={
        kind: {"cifar_fs": ["r2d2_ridge"]} for kind in ("evaluation", "training")
    })  # fmt: skip
    found = [Results(tmp_path, one, read) for one in (both, settings("training", "r2d2_ridge"))]
    assert [len(list(one.all_of("evaluation"))) for one in found] == [1, 0]
    assert [len(list(one.all_of("training"))) for one in found] == [1, 1]
    assert len(asked) == len(set(asked)) == 2


# What cannot be mixed


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_another_scale_is_refused(kind: records.Kind, tmp_path: Path) -> None:
    path = put(tmp_path, kind, {}, changes={"scale": "paper"})
    name = JOBS[kind].get("run") or "theorem1"
    wanted = settings(kind, name, dataset=JOBS[kind].get("dataset", ""))
    message = f"{path} was made at scale 'paper', this is of 'demo': scales are never mixed"
    with pytest.raises(UserError, match=message):
        Results(tmp_path, wanted)


@pytest.mark.parametrize(
    ("kind", "other"),
    [(kind, {"seed": 1}) for kind in MODELS]
    + [(kind, {"run": "r2d2_classical"}) for kind in MODELS]
    + [(kind, {"dataset": "mini_imagenet"}) for kind in MODELS],
)
def test_a_record_in_the_place_of_another_is_refused(
    kind: records.Kind, other: dict[str, Any], tmp_path: Path
) -> None:
    """A copy of one seed must not pass for a second."""
    path = put(tmp_path, kind, {})
    places = [records.PLACES[kind].format(**(JOBS[kind] | names)) for names in ({}, other)]
    copy = tmp_path / places[1]
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, copy)
    names = JOBS[kind] | other
    wanted = settings(kind, names["run"], dataset=names["dataset"], seeds=2)
    message = f"{copy} is the record of {places[0]}; delete it and run snakemake again"
    with pytest.raises(UserError, match=message):
        Results(tmp_path, wanted)


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = put(tmp_path, "evaluation", {})
    measured = tmp_path / records.PLACES["measurement"].format(**RUN)
    measured.parent.mkdir(parents=True)
    path.rename(measured)
    with pytest.raises(UserError, match="record of evaluation, needed is one of measurement"):
        Results(tmp_path, settings("measurement", "r2d2_ridge"))


ADAPTED = {"maml_fresh": {"lr": 0.1}, "maml": {"lr": 0.2}}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("evaluation", {"episodes": {"seed": 1}}),
        ("adaptation", {"episodes": {"seed": 1}}),
        ("adaptation", {"adaptations": {"maml_fresh": {"lr": 0.3}}}),
        ("measurement", {"n_pairs": 9}),
        ("measurement", {"measurement_seed": 1}),
        *(
            ("projection", {name: 4})
            for name in ("n_classes", "n_images", "n_fit", "n_draws", "projection_seed")
        ),
    ],
)
def test_records_of_other_episodes_are_refused(
    kind: records.Kind, change: dict[str, Any], tmp_path: Path
) -> None:
    changes = {"adaptations": ADAPTED} if kind == "adaptation" else {}
    run = JOBS[kind]["run"]
    one = put(tmp_path, kind, {}, changes=changes)
    other = put(tmp_path, kind, {}, seed=1, changes=changes | change)
    message = f"{other} and {one} cannot be compared: .* and .*; run snakemake again"
    with pytest.raises(UserError, match=message):
        Results(tmp_path, settings(kind, run, seeds=2))


def test_pairs_of_other_embedded_images_are_refused(tmp_path: Path) -> None:
    """They are drawn from these: with the same seed and number they are still other pairs."""
    one = put(tmp_path, "measurement", {})
    other = put(tmp_path, "measurement", {"base": {"images_per_class": 10}}, seed=1)
    with pytest.raises(UserError, match=f"{other} and {one} cannot be compared: .*10.* and .*20"):
        Results(tmp_path, settings("measurement", "r2d2_ridge", seeds=2))


@pytest.mark.parametrize(
    "budget", [{"steps": 30, "validations": 6}, {"steps": 40, "validations": 5}]
)
def test_seeds_of_other_budgets_are_refused(budget: dict[str, int], tmp_path: Path) -> None:
    """They have other stretches. Runs may have budgets of their own."""
    algorithm = {"steps": 40, "validations": 6}
    one = put(tmp_path, "training", {}, changes={"algorithm": algorithm})
    changed = {"algorithm": algorithm | budget}
    put(tmp_path, "training", {}, run="r2d2_classical", changes=changed)
    wanted = settings("training", "r2d2_ridge", "r2d2_classical", seeds=2)
    assert len(list(Results(tmp_path, wanted).all_of("training"))) == 2
    other = put(tmp_path, "training", {}, seed=1, changes=changed)
    with pytest.raises(UserError, match=f"{other} and {one} cannot be compared: .*; run snakemake"):
        Results(tmp_path, wanted)


def test_stretches_of_two_runs_are_not_paired(tmp_path: Path) -> None:
    for run in ("r2d2_ridge", "r2d2_classical"):
        put(tmp_path, "training", {"step_seconds": [1.0, 2.0]}, run=run)
    found = Results(tmp_path, settings("training", "r2d2_ridge", "r2d2_classical"))
    ours, theirs = (found.step_seconds("cifar_fs", run) for run in ("r2d2_ridge", "r2d2_classical"))
    with pytest.raises(ValueError, match="cannot be paired"):
        ours.minus(theirs)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "simulation"])
def test_records_of_other_images_are_refused(kind: records.Kind, tmp_path: Path) -> None:
    """Whatever their kinds: a table may read two."""
    one = put(tmp_path, "training", {})
    other = put(tmp_path, kind, {}, **({"seed": 1} if kind in MODELS else {}), images="beef")
    wanted = settings("training", "r2d2_ridge", seeds=2)
    wanted["records"] |= {kind: {"cifar_fs": [JOBS[kind]["run"]]}}
    with pytest.raises(UserError, match=f"{other} and {one} cannot be compared: .*'beef'.*'f00d'"):
        Results(tmp_path, wanted)


def test_adaptations_of_other_names_need_not_be_comparable(tmp_path: Path) -> None:
    """Each has its own steps and its own number of episodes; a record may hold several."""
    put(tmp_path, "adaptation", {}, changes={"adaptations": {"maml_fresh": {"lr": 0.1}}})
    put(tmp_path, "adaptation", {}, changes={"adaptations": ADAPTED}, seed=1)
    found = Results(tmp_path, settings("adaptation", "r2d2_ridge", seeds=2))
    assert found.adaptations() == dict(sorted(ADAPTED.items()))
    other = put(tmp_path, "adaptation", {}, changes={"adaptations": {"maml": {}}}, seed=2)
    with pytest.raises(UserError, match=f"{other} and .*seed1.json cannot be compared: .*lr"):
        Results(tmp_path, settings("adaptation", "r2d2_ridge", seeds=3))


def test_data_sets_have_images_and_episodes_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[1, 2]))
    put(
        tmp_path,
        "evaluation",
        counted(ridge=[4, 4, 4]),
        dataset="mini_imagenet",
        images="beef",
        changes={"episodes": {"seed": 5}},
    )
    wanted = settings("evaluation")
    wanted["records"]["evaluation"] = {role: ["r2d2_ridge"] for role in made.REAL}
    found = Results(tmp_path, wanted)
    for dataset, percent in {"cifar_fs": [25, 50], "mini_imagenet": [100, 100, 100]}.items():
        assert list(found.accuracy(dataset, "r2d2_ridge", "ridge", 1).samples[0]) == percent
    for dataset, fingerprint in {"cifar_fs": "f00d", "mini_imagenet": "beef"}.items():
        assert (found.images(dataset) or {})["images"] == fingerprint
    assert found.images("synthetic_cifar_fs") is None


# Quantities


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_a_scale_of_which_nothing_is_there_names_the_command_that_makes_it(
    scale: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as raised:
        Results(tmp_path / scale, settings("evaluation", scale=scale))
    assert str(raised.value) == (
        f"there is no {tmp_path / scale}: nothing of scale {scale} is there yet; "
        f"snakemake --cores all --config scale={scale} makes it"
    )


@pytest.mark.parametrize("kind", ["evaluation", "adaptation"])
def test_an_interval_of_accuracies_is_between_0_and_100(kind: records.Kind, tmp_path: Path) -> None:
    counts = {"ridge": [0, 4, 4], "svm": [0, 0, 1], "maml": [4, 4, 4]}
    values = counted(**counts)
    if kind == "adaptation":
        values = {name: values | {"correct": {"1": one}} for name, one in counts.items()}
    put(tmp_path, kind, values)
    found = Results(tmp_path, settings(kind, "r2d2_ridge"))
    wide, low, same = (found.accuracy("cifar_fs", "r2d2_ridge", name, 1) for name in counts)
    assert wide.interval() == (0, 100)
    assert low.interval() == (0, pytest.approx(stats.t.interval(0.95, 2, 25 / 3, 25 / 3)[1]))
    assert same.interval() is None


def test_an_interval_of_their_difference_need_not_be(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[0, 4, 4], svm=[4, 0, 4]))
    found = Results(tmp_path, settings("evaluation", "r2d2_ridge"))
    ours, theirs = (found.accuracy("cifar_fs", "r2d2_ridge", name, 1) for name in HEADS[:2])
    expected = stats.t.interval(0.95, 2, 0, stats.sem([-100, 100, 0]))
    assert ours.minus(theirs).interval() == pytest.approx(expected)


def test_an_adaptation_is_counted_by_its_own_number_of_queries(tmp_path: Path) -> None:
    put(tmp_path, "evaluation", counted(ridge=[1, 2]))
    reptile = {"n_queries": 5, "correct": {"1": [0, 2, 5]}, "loss_before": {"1": [3, 4, 5]}}
    values = {"reptile": reptile, "maml": {"n_queries": 10, "correct": {"1": [1, 1]}}}
    put(tmp_path, "adaptation", values)
    wanted = settings("evaluation", "r2d2_ridge")
    wanted["records"]["adaptation"] = wanted["records"]["evaluation"]
    found = Results(tmp_path, wanted)
    measured = found.accuracy("cifar_fs", "r2d2_ridge", "reptile", 1)
    assert list(measured.samples[0]) == [0, 40, 100]
    assert measured.place == "reptile.correct.1"
    assert measured.sources == ("adaptations/cifar_fs/r2d2_ridge/seed0.json",)
    assert list(found.accuracy("cifar_fs", "r2d2_ridge", "maml", 1).samples[0]) == [10, 10]
    assert list(found.accuracy("cifar_fs", "r2d2_ridge", "ridge", 1).samples[0]) == [25, 50]
    before = found.travel("cifar_fs", "r2d2_ridge", "reptile", 1, "loss_before")
    assert list(before.samples[0]) == [3, 4, 5]
    assert not found.travel("cifar_fs", "r2d2_ridge", "reptile", 5, "loss_before")
    assert not found.travel("cifar_fs", "r2d2_ridge", "reptile", 1, "distance_with_head")


def test_a_value_of_the_whole_model_has_no_error(tmp_path: Path) -> None:
    for seed, value in enumerate([1.5, 2.5]):
        values = {"base": {"population": {"r_fc": value}, "pairs": {"r_fc_released": [1, 2]}}}
        put(tmp_path, "measurement", values, seed=seed)
    found = Results(tmp_path, settings("measurement", "r2d2_ridge", seeds=2))
    measured = found.population("cifar_fs", "r2d2_ridge", "base", "population", "r_fc")
    ours = measured.estimate()
    assert (ours.mean, ours.se, ours.n, measured.unit) == (2.0, None, 1, "model")
    assert measured.of_seeds() == {0: 1.5, 1: 2.5}
    assert not found.population("cifar_fs", "r2d2_ridge", "novel", "population", "r_fc")


def pair(run: str, seed: int, against: int, cka: float, folds: list[float]) -> dict[str, Any]:
    names = {"run": run, "seed": seed, "against": against}
    return names | {"cka": cka, "cka_debiased": cka - 0.1, "folds": folds}


def test_similarities_are_those_of_their_twin_split_and_seeds(tmp_path: Path) -> None:
    novel = [
        pair("r2d2_classical", 0, 0, 0.7, [0.6, 0.62]),
        pair("r2d2_classical", 1, 1, 0.8, [0.7, 0.72]),
        pair("r2d2_classical_fc", 1, 1, 0.9, [0.8, 0.9]),
        pair("r2d2_ridge", 1, 0, 0.95, [0.91, 0.92]),
        pair("r2d2_ridge", 2, 0, 0.97, [0.93, 0.94]),
        pair("r2d2_ridge", 2, 1, 0.99, [0.95, 0.96]),
    ]
    base = [pair("r2d2_classical", 0, 0, 0.1, [0.2, 0.3])]
    splits = {"novel": {"n_images": 9, "pairs": novel}, "base": {"n_images": 9, "pairs": base}}
    put(tmp_path, "similarity", splits)
    found = Results(tmp_path, settings("similarity", "r2d2_ridge", seeds=3))

    def similarity(twin: str, split: str = "novel", name: str = "cka") -> Measured:
        return found.similarity("cifar_fs", "r2d2_ridge", twin, split, name)

    classical = similarity("r2d2_classical")
    assert classical.of_seeds() == {0: 0.7, 1: 0.8}
    assert {seed: list(one) for seed, one in classical.samples.items()} == {
        0: [0.6, 0.62],
        1: [0.7, 0.72],
    }
    ours = classical.estimate()
    # The value is of all images, its error of the folds.
    assert (ours.mean, ours.n) == (pytest.approx(0.75), 2)
    assert ours.se == pytest.approx(stats.sem([0.65, 0.67]))
    assert (classical.unit, classical.place) == ("fold of images", "novel.pairs.r2d2_classical.cka")
    assert classical.sources == ("similarities/cifar_fs/r2d2_ridge.json",)
    assert similarity("r2d2_classical", "base").of_seeds() == {0: 0.1}
    debiased = similarity("r2d2_classical", name="cka_debiased")
    assert debiased.of_seeds() == {0: pytest.approx(0.6), 1: pytest.approx(0.7)}
    # A run's own seeds are all compared with each other.
    own = similarity("r2d2_ridge")
    assert list(own.of_seeds().values()) == [0.95, 0.97, 0.99]
    assert (own.n_seeds, similarity("r2d2_ridge", "base").n_seeds) == (3, 0)
    assert Cell("", "", "", own).seed_sd is None
    assert (classical.n_seeds, Cell("", "", "", classical).seed_sd) == (
        2,
        pytest.approx(stats.tstd([0.7, 0.8])),
    )
    assert not similarity("r2d2_classical_hv")
    assert not similarity("r2d2_ridge", "base")
    better = similarity("r2d2_classical_fc").minus(classical)
    assert better.of_seeds() == {1: pytest.approx(0.1)}
    assert list(better.samples[1]) == pytest.approx([0.1, 0.18])


def test_each_run_has_its_own_fine_tuners(tmp_path: Path) -> None:
    """With its heads and adaptations, also where it has but one kind; each once."""
    for seed in (0, 1):
        put(tmp_path, "evaluation", counted(), seed=seed)
    put(tmp_path, "adaptation", {}, run="reptile")
    put(tmp_path, "adaptation", {}, run="r2d2_classical", dataset="mini_imagenet")
    wanted = settings("evaluation", "r2d2_ridge", seeds=2)
    wanted["records"]["adaptation"] = {
        "cifar_fs": ["reptile"],
        "mini_imagenet": ["r2d2_classical"],
    }
    found = Results(tmp_path, wanted)
    assert sorted(found.fine_tuners("cifar_fs")) == sorted(
        [
            *(("r2d2_ridge", head) for head in HEADS),
            *(("reptile", name) for name in ("maml_fresh", "reptile", "reptile_inductive")),
        ]
    )
    assert found.fine_tuners("mini_imagenet") == [("r2d2_classical", "maml_fresh")]


# Measured


def measured(basis: str = "heads", **samples: list[float]) -> Measured:
    """Of the seeds s0, s1 and so on."""
    arrays = {int(name[1:]): np.array(one) for name, one in samples.items()}
    return Measured(arrays, tuple(samples), "place", "episode", basis=basis)


def test_the_error_is_that_of_the_mean_over_seeds() -> None:
    """Over episodes, which seeds share; so two seeds are not twice as many episodes."""
    both = measured(s0=[1, 2, 6], s1=[3, 6, 12])
    ours = both.estimate()
    assert (ours.mean, ours.n) == (5, 3)
    assert ours.se == pytest.approx(stats.sem([2, 4, 9]))
    assert both.of_seeds() == {0: 3, 1: 7}
    assert list(both.over_seeds()) == [2, 4, 9]


def test_nothing_measured_is_false() -> None:
    assert not Measured()
    assert measured(s0=[0.0])


def test_a_difference_is_paired_by_episode_and_by_seed() -> None:
    """Whatever the order of the seeds; those of one side alone are left out."""
    ours = measured(s2=[5, 9, 4], s0=[1, 2, 6])
    theirs = measured(s0=[1, 1, 1], s1=[0, 0, 0], s2=[2, 2, 2])
    both = ours.minus(theirs)
    assert {seed: list(one) for seed, one in both.samples.items()} == {2: [3, 7, 2], 0: [0, 1, 5]}
    assert both.sources == ("s2", "s0", "s1")
    test = stats.ttest_rel([3, 5.5, 5], [1.5, 1.5, 1.5])
    ours_, se = both.estimate(), both.estimate().se
    assert se is not None
    assert ours_.mean / se == pytest.approx(test.statistic)
    assert ours_.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_rounding_is_no_difference() -> None:
    thirds = [float(n) * 100 / 75 for n in (1, 2, 0, 7, 5)]
    ours = measured(s0=thirds).minus(measured(s0=[*thirds[1:], thirds[0]]))
    assert ours.estimate().mean == 0
    # Of equal samples the mean is not always one of them.
    alike = measured(s0=[0.3] * 3).minus(measured(s0=[0.1 + 0.2] * 3))
    assert (alike.estimate().mean, alike.estimate().se) == (0, 0)
    values = Measured({0: np.array([1.0, 2.0])}, values={0: 0.1 + 0.2})
    assert values.minus(replace(values, values={0: 0.3})).of_seeds() == {0: 0}
    small = measured(s0=[1.0, 2.0]).minus(measured(s0=[1 - 1e-6, 2 - 3e-6]))
    assert small.estimate().mean == pytest.approx(2e-6)


def test_equal_samples_have_no_spread_by_rounding_and_no_interval() -> None:
    alike = measured(s0=[0.1] * 3, s1=[0.2] * 3)
    assert alike.estimate().se == 0
    assert alike.interval() is None
    assert measured(s0=[0.1]).interval() is None


def test_without_a_shared_seed_there_is_no_difference() -> None:
    nothing = measured(s0=[1, 2]).minus(measured(s1=[1, 2]))
    assert not nothing
    assert nothing.sources == ()
    assert not measured(s0=[1, 2]).minus(Measured())
    assert not Measured().minus(measured(s0=[1, 2]))


def test_the_difference_of_values_is_not_that_of_the_samples() -> None:
    ours = Measured({0: np.array([0.5, 0.7])}, values={0: 0.9}, basis="similarity")
    theirs = Measured({0: np.array([0.4, 0.5])}, values={0: 0.6}, basis="similarity")
    both = ours.minus(theirs)
    assert both.of_seeds() == {0: pytest.approx(0.3)}
    estimate = both.estimate()
    assert estimate.mean == pytest.approx(0.3)
    assert estimate.se == pytest.approx(stats.sem([0.1, 0.2]))


def test_samples_of_other_episodes_cannot_be_subtracted() -> None:
    """Also where there are as many: FOMAML and Reptile are tested on episodes of their own."""
    ours, theirs = measured("adaptation maml", s0=[1, 2]), measured("adaptation reptile", s0=[1, 2])
    message = "samples of adaptation maml and adaptation reptile cannot be paired"
    with pytest.raises(ValueError, match=message):
        ours.minus(theirs)


def test_what_shares_episodes_has_one_basis(tmp_path: Path) -> None:
    """Heads do among each other, an adaptation with itself alone, of whatever runs."""
    of = made.experiment()
    made.fill(tmp_path, of, made.scattered, kinds=("evaluation", "adaptation", "measurement"))
    found = made.results_of(tmp_path, of, ("evaluation", "adaptation", "measurement"))

    def accuracy(run: str, fine_tuner: str) -> Measured:
        one = found.accuracy("cifar_fs", run, fine_tuner, 1)
        assert one
        return one

    ridge = accuracy("r2d2_ridge", "ridge")
    assert ridge.minus(accuracy("r2d2_classical", "svm"))
    fresh, reptile = accuracy("reptile", "maml_fresh"), accuracy("reptile", "reptile")
    assert fresh.minus(accuracy("r2d2_ridge", "maml_fresh"))
    assert reptile.minus(accuracy("weight_clustering", "reptile"))
    for ours, theirs in ((ridge, fresh), (fresh, reptile), (ridge, reptile)):
        with pytest.raises(ValueError, match="cannot be paired"):
            ours.minus(theirs)
    pairs = [
        found.clustering("cifar_fs", run, "base", "r_fc_released")
        for run in ("r2d2_ridge", "r2d2_classical")
    ]
    assert pairs[0].minus(pairs[1])
