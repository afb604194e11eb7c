"""What each job reads of the configuration, and which jobs and records there are."""

import json

import pytest

from pipeline import config_files, jobs, shown
from pipeline.config_files import merged
from pipeline.errors import UserError
from tests.conftest import ROOT


def run(name, **changes):
    return {"runs": {name: changes}}


# Twins


TWINS = {
    "r2d2_ridge": ["r2d2_classical", "r2d2_classical_fc", "r2d2_classical_hv"],
    "resnet12_svm": ["resnet12_classical", "resnet12_classical_fc", "resnet12_classical_hv"],
    "conv64_protonet": ["conv64_classical"],
}


@pytest.mark.parametrize("dataset", ["synthetic_cifar_fs", "synthetic_mini_imagenet"])
def test_twins_are_named_by_the_classical_run_and_by_those_like_it(dataset):
    experiment = config_files.load()
    found = {name: experiment.twins_of(name, dataset) for name in experiment.runs}
    assert {name: twins for name, twins in found.items() if twins} == TWINS
    for name, twins in TWINS.items():
        for twin in twins:
            assert experiment.runs[twin].training.algorithm == "classical"
            own, other = (experiment.run_on(one, dataset).backbone for one in (name, twin))
            assert type(own) is type(other)
            assert own.width == other.width


def test_twins_are_compared_where_both_are_trained():
    """By the data set, and by the one that stands for it."""
    experiment = config_files.load(
        merged(
            run("r2d2_classical_fc", datasets=["cifar_fs"]),
            run("resnet12_svm", datasets=["mini_imagenet"]),
        )
    )
    here, there = "synthetic_cifar_fs", "synthetic_mini_imagenet"
    assert "r2d2_classical_fc" in experiment.twins_of("r2d2_ridge", here)
    assert "r2d2_classical_fc" in experiment.twins_of("r2d2_ridge", "cifar_fs")
    assert "r2d2_classical_fc" not in experiment.twins_of("r2d2_ridge", there)
    assert experiment.twins_of("resnet12_svm", here) == []
    assert len(experiment.twins_of("resnet12_svm", there)) == 3
    subjects = shown.subjects(experiment, "similarity")
    assert ("resnet12_svm" in subjects[here], "resnet12_svm" in subjects[there]) == (False, True)


def test_a_twin_may_be_taken_away():
    experiment = config_files.load(run("conv64_classical", twin=None))
    assert experiment.twins_of("conv64_protonet", "synthetic_cifar_fs") == []
    with pytest.raises(
        UserError, match="no run is a twin of conv64_protonet on synthetic_cifar_fs; set twin"
    ):
        jobs.settings(experiment, "compare", dataset="synthetic_cifar_fs", run="conv64_protonet")


# What there are records of


def test_each_kind_has_the_records_of_its_own_runs():
    experiment = config_files.load()
    here, there = "synthetic_cifar_fs", "synthetic_mini_imagenet"
    found = {kind: shown.subjects(experiment, kind) for kind in shown.CLAIMS}
    assert found["simulation"] == {"": ["theorem1", "boundaries"]}
    assert found["similarity"] == {here: sorted(TWINS), there: sorted(TWINS)}
    assert found["projection"] == {
        name: ["conv64_classical", "conv64_protonet"] for name in (here, there)
    }
    trained = {name: [] for name in (here, there)}
    for dataset, name, _ in sorted(experiment.trainings()):
        trained[dataset].append(name)
    assert found["training"] == trained
    assert set(trained[there]) == experiment.runs.keys()
    assert "maml_5shot" not in trained[here]
    for dataset, runs in trained.items():
        assert (
            found["evaluation"][dataset]
            == found["measurement"][dataset]
            == [name for name in runs if experiment.heads_of(name)]
        )
        assert found["adaptation"][dataset] == [
            name for name in runs if experiment.adaptations_of(name)
        ]


def test_seeds_and_data_that_are_not_there_change_what_there_is():
    experiment = config_files.load({"scale": "small", "seeds": 3})
    for kind in shown.CLAIMS:
        subjects = shown.subjects(experiment, kind)
        assert set(subjects) == {"" if kind == "simulation" else "cifar_fs"}
        assert all(len(set(runs)) == len(runs) for runs in subjects.values())
    reading = jobs.settings(experiment, "claims")
    assert (reading["seeds"], reading["roles"]) == (3, {"cifar_fs": "cifar_fs"})


# Projections, simulations, and whether anything may be missing


def test_budgets_of_projections_and_simulations_come_from_the_scale():
    demo, paper = (config_files.load({"scale": scale}) for scale in ("demo", "paper"))
    budget = config_files.read_yaml(ROOT / "scales/demo.yaml")
    for name, value in budget["projection"].items():
        assert getattr(demo.projection, name) == value < getattr(paper.projection, name)
    n_draws = budget["simulations"]["theorem1"]["n_draws"]
    assert demo.simulations.theorem1.n_draws == n_draws < paper.simulations.theorem1.n_draws
    assert demo.simulations.boundaries == paper.simulations.boundaries
    own = {"simulations": {"theorem1": {"n_draws": 7}}, "projection": {"n_draws": 8}}
    changed = config_files.load(own)
    assert (changed.simulations.theorem1.n_draws, changed.projection.n_draws) == (7, 8)


def settings_of_all_jobs(overrides):
    """Of every job of the demo, by its verb and its names."""
    experiment = config_files.load(overrides)
    found = {}
    for verb in jobs.VERBS:
        for names in jobs_of(experiment, verb):
            found[verb, *names.values()] = jobs.settings(experiment, verb, **names)
    return found


KINDS = {
    "train": "training",
    "embed": "training",
    "evaluate": "evaluation",
    "adapt": "adaptation",
    "measure": "measurement",
    "compare": "similarity",
    "project": "projection",
    "simulate": "simulation",
}


def jobs_of(experiment, verb):
    match verb:
        case "pack" | "contact_sheets":
            return [{"dataset": name} for name in experiment.roles.values()]
        case "table":
            return [{"table": name} for name in shown.TABLES]
        case "figure":
            return [{"figure": name} for name in shown.FIGURES]
        case "claims" | "page":
            return [{}]
        case "simulate":
            return [{"simulation": name} for name in shown.simulations(experiment)]
    seed = {} if verb == "compare" else {"seed": 0}
    return [
        {"dataset": dataset, "run": name, **seed}
        for dataset, runs in shown.subjects(experiment, KINDS[verb]).items()
        for name in runs
    ]


READERS = {"table", "figure", "claims", "page"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"strict": True}, lambda job: job[0] in READERS),
        ({"projection": {"seed": 1}}, lambda job: job[0] == "project"),
        ({"projection": {"n_classes": 4}}, lambda job: job[0] == "project"),
        ({"simulations": {"theorem1": {"seed": 1}}}, lambda job: job == ("simulate", "theorem1")),
        ({"simulations": {"boundaries": {"n_shown": 4}}}, lambda job: job == ("simulate", "boundaries")),
        ({"measurement": {"n_folds": 3}}, lambda job: job[0] == "compare"),
        ({"measurement": {"n_pairs": 3}}, lambda job: job[0] == "measure"),
        (run("conv64_classical", twin="r2d2_ridge"), lambda job: (
            job[0] == "compare" and job[2] == "r2d2_ridge")),
    ],
)  # fmt: skip
def test_a_change_reaches_the_jobs_that_it_is_about_alone(change, expected):
    """But for which records there are to be read, where that changes."""
    before, after = settings_of_all_jobs({}), settings_of_all_jobs(change)
    changed = {job for job in before if job in after and before[job] != after[job]}
    if before.keys() != after.keys():
        changed = {job for job in changed if job[0] not in READERS}
    assert changed == {job for job in after if expected(job)}
    assert changed


def test_what_reads_records_says_whether_any_may_be_missing():
    for strict in (False, True):
        experiment = config_files.load({"strict": strict})
        for verb in READERS:
            for names in jobs_of(experiment, verb):
                assert jobs.settings(experiment, verb, **names)["strict"] is strict
    assert config_files.load().strict is False


def test_settings_of_every_job_are_known_by_their_names():
    """Whatever the source of the images."""
    real = {"roles": {"cifar_fs": "cifar_fs", "mini_imagenet": "mini_imagenet"}}
    for overrides in ({}, real):
        for (verb, *_), settings in settings_of_all_jobs(overrides).items():
            jobs.check(verb, settings)


@pytest.mark.parametrize(
    ("verb", "given", "message"),
    [
        ("claims", {}, "missing: n_shots, n_way, records, roles, scale, seeds, strict"),
        ("contact_sheets", {"dataset": "a", "run": "b", "seed": 0}, "unknown: run, seed"),
        ("contact_sheets", {"data": "a"}, "missing: dataset; unknown: data"),
        ("contact_sheets", ["dataset"], r"not an object but \['dataset'\]"),
        ("contact_sheets", None, "not an object but None"),
        ("pack", {"dataset": "a", "source": "cifar_fs", "seed": 0}, "unknown: seed"),
        ("pack", {"dataset": "a", "source": "mini_imagenet"}, "missing: image_lists, resize"),
        ("pack", {"dataset": "a", "source": "nowhere", "path": "b"}, "unknown: path"),
    ],
)
def test_settings_of_no_job_of_a_verb_are_told_by_their_names(verb, given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        jobs.check(verb, given)


def test_settings_are_json_and_name_no_place_of_this_machine(tmp_path):
    experiment = config_files.load(
        {"scale": "small", "datasets": {"cifar_fs": {"path": str(tmp_path)}}}
    )
    for verb in jobs.VERBS:
        made = [jobs.settings(experiment, verb, **names) for names in jobs_of(experiment, verb)]
        assert made
        for settings in made:
            text = jobs.dumps(settings)
            assert json.loads(text) == settings
            assert str(tmp_path) not in text
            assert str(ROOT) not in text
