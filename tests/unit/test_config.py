"""The configuration: what is valid, what is refused, and how the refusal reads."""

import json
from fractions import Fraction

import jsonschema
import pytest
import yaml

from pipeline import config_files, jobs, shown
from pipeline.config.evaluation import Adaptation
from pipeline.config.experiment import Run
from pipeline.config_files import merged
from pipeline.errors import UserError
from tests.conftest import ROOT


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_every_scale_is_valid_and_has_trainings(scale):
    experiment = config_files.load({"scale": scale})
    assert experiment.scale == scale
    assert experiment.trainings()


SCALES = ["demo", "small", "paper"]
GENERATED = {"source": "synthetic", "stands_for": "mini_imagenet", "image_size": 16, "images_per_class": 20}  # fmt: skip


def run(name, **changes):
    return {"runs": {name: changes}}


def training(**changes):
    return run("r2d2_ridge", training=changes)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scale": "smal"}, r"scale: unknown scale 'smal'; did you mean 'small'\? Allowed: demo, paper"),
        ({"sceeds": 3}, r"unknown key 'sceeds'; did you mean 'seeds'\? Allowed: adaptations, datasets"),
        ({"seeds": 0}, r"seeds: .*greater than 0.*value: 0"),
        ({"seeds": True}, r"seeds: .*valid integer.*value: True"),
        ({"seeds": "three"}, r"seeds: .*valid integer.*value: 'three'"),
        (training(n_wai=3), r"runs\.r2d2_ridge\.training: unknown key 'n_wai'; did you mean 'n_way'\?"),
        (training(lr="fast"), r"runs\.r2d2_ridge\.training\.lr: .*number.*value: 'fast'"),
        (training(lr=False), r"runs\.r2d2_ridge\.training\.lr: a number is needed.*value: False"),
        (training(lr=float("nan")), r"runs\.r2d2_ridge\.training\.lr: .*value: nan"),
        (training(lr=-1), r"runs\.r2d2_ridge\.training\.lr: .*greater than 0.*value: -1"),
        (training(algorithm="episodi"), r"training\.algorithm: did you mean 'episodic'\? Allowed: classical, episodic"),
        (training(n_way=65), r"runs\.r2d2_ridge\.training\.n_way: 65 is more than the 64 base classes of synthetic_cifar_fs"),
        (training(n_shot=190, n_query=11), r"190 shots \+ 11 queries = 201 images of a class, but synthetic_cifar_fs has 200"),
        (training(lr_factors={"0": 1, "1": 0.1}), r"runs\.r2d2_ridge\.training: lr_factors needs an entry at 0"),
        (training(lr_factors="linea"), r"\n  runs\.r2d2_ridge\.training\.lr_factors: unknown; did you mean 'linear'\?"),
        (training(lr_factors={"0": -1}), r"\n  runs\.r2d2_ridge\.training\.lr_factors\.0: .*greater than 0.*value: -1"),
        (training(lr_factors={"start": 1}), r"\n  runs\.r2d2_ridge\.training\.lr_factors\.start: .*valid fraction"),
        (run("r2d2_classical", training={"batch_size": 12804}), r"runs\.r2d2_classical\.training\.batch_size: 12804 is more than the 12800 base images of synthetic_cifar_fs"),
        (run("reptile", training={"coefficient": 0.1}), r"runs\.reptile\.training: a coefficient needs order: lock_step"),
        (run("weight_clustering", training={"order": "one_by_one"}), r"runs\.weight_clustering\.training: a coefficient needs order: lock_step"),
        (run("weight_clustering", training={"order": "lockstep"}), r"runs\.weight_clustering\.training\.order: unknown; did you mean 'lock_step'\?"),
        (run("reptile", training={"n_shot": 201}), r"runs\.reptile\.training: 201 shots \+ 0 queries = 201 images of a class"),
        (run("reptile", training={"n_query": 196}), r"runs\.reptile\.training: 5 shots \+ 196 queries = 201 images of a class"),
        (run("r2d2_ridge", backbone={"name": "r2d3"}), r"runs\.r2d2_ridge\.backbone\.name: did you mean 'r2d2'\? Allowed: conv4, r2d2, resnet12 \(value: 'r2d3'\)"),
        (run("r2d2_ridge", backbone="r2d2"), r"runs\.r2d2_ridge\.backbone: .*value: 'r2d2'"),
        (run("r2d2_ridge", backbone={"widht": 0.5}), r"\n  runs\.r2d2_ridge\.backbone: unknown key 'widht'; did you mean 'width'\?"),
        (run("r2d2_ridge", backbone={"width": "half"}), r"\n  runs\.r2d2_ridge\.backbone\.width: .*number.*value: 'half'"),
        (run("r2d2_ridge", backbone={"channels": [96, 192, 0, 512]}), r"\n  runs\.r2d2_ridge\.backbone\.channels\.2: .*greater than 0.*value: 0"),
        (run("r2d2_ridge", backbone={"filters": 32}), r"\n  runs\.r2d2_ridge\.backbone: unknown key 'filters'; Allowed: channels, dropout, form, name, width"),
        (run("resnet12_svm", backbone={"drop_blok": False}), r"\n  runs\.resnet12_svm\.backbone: unknown key 'drop_blok'; did you mean 'drop_block'\?"),
        (run("maml_1shot", backbone={"pooling": "floorr"}), r"\n  runs\.maml_1shot\.backbone\.pooling: unknown; did you mean 'floor'\?"),
        (run("r2d2_ridge", datasets=["cifarfs"]), r"runs\.r2d2_ridge\.datasets: unknown data set 'cifarfs'; did you mean 'cifar_fs'\?"),
        (run("r2d2_ridge", datasets=[]), r"runs\.r2d2_ridge\.datasets: .*at least 1"),
        (run("r2d2_ridge", datasets={"cifar_fs": {"trainin": {}}}), r"\n  runs\.r2d2_ridge\.datasets\.cifar_fs: unknown key 'trainin'; did you mean 'training'\?"),
        (run("resnet12_svm", datasets={"cifar_fs": {"training": {"n_shoot": 5}}}), r"runs\.resnet12_svm\.datasets\.cifar_fs\.training: unknown key 'n_shoot'; did you mean 'n_shot'\?"),
        (run("resnet12_svm", datasets={"cifar_fs": {"backbone": {"width": -1}}}), r"runs\.resnet12_svm\.datasets\.cifar_fs\.backbone\.width: .*greater than 0"),
        (run("resnet12_svm", datasets={"cifar_fs": {"training": {"algorithm": "episodi"}}}), r"runs\.resnet12_svm\.datasets\.cifar_fs\.training: .*'episodi'.*expected.*'episodic'"),
        (run("resnet12_svm", datasets={"cifar_fs": {"training": {"algorithm": "maml"}}}), r"runs\.resnet12_svm\.datasets\.cifar_fs\.training: unknown key 'momentum'"),
        (run("resnet12_svm", datasets={"cifar_fs": {"training": {"n_way": 65}}}), r"runs\.resnet12_svm\.training\.n_way: 65 is more than the 64 base classes of synthetic_cifar_fs"),
        (run("r2d2_ridge", like="r2d2_clasical"), r"runs\.r2d2_ridge\.like: unknown run 'r2d2_clasical'; did you mean 'r2d2_classical'\?"),
        (run("r2d2_ridge", like="r2d2_ridge"), r"runs\.r2d2_ridge\.like: 'r2d2_ridge' is like this run itself"),
        (run("r2d2_classical", like="r2d2_classical_hv"), r"runs\.r2d2_classical_hv\.like: 'r2d2_classical' is like this run itself"),
        (run("reptile", like="weight_clustering_5"), r"runs\.weight_clustering\.like: 'reptile' is like this run itself"),
        (run("r2d2_ridge", like=["r2d2_classical"]), r"runs\.r2d2_ridge\.like: unknown run \['r2d2_classical'\]"),
        (training(algorithm=["episodic"]), r"runs\.r2d2_ridge\.training\.algorithm: .*\['episodic'\]"),
        (run("r2d2_ridge", datasets=[["cifar_fs"]]), r"runs\.r2d2_ridge\.datasets: .*pattern.*cifar_fs"),
        (run("maml_1shot", fine_tuners=["rigde"]), r"runs\.maml_1shot\.fine_tuners: unknown fine-tuner 'rigde'; did you mean 'ridge'\? Allowed: maml, maml_fresh"),
        (run("maml_1shot", fine_tuners=["maml_frsh"]), r"runs\.maml_1shot\.fine_tuners: unknown fine-tuner 'maml_frsh'; did you mean 'maml_fresh'\?"),
        (run("maml_1shot", fine_tuners=[]), r"runs\.maml_1shot\.fine_tuners: .*at least 1"),
        ({"adaptations": {"ridge": {"lr": 0.1, "steps": 1}}}, r"adaptations\.ridge: a head has this name; take another"),
        ({"adaptations": {"maml": {"stepps": 3}}}, r"adaptations\.maml: unknown key 'stepps'; did you mean 'steps'\?"),
        ({"adaptations": {"maml": {"statistics": "transductiv"}}}, r"adaptations\.maml\.statistics: unknown; did you mean 'transductive'\?"),
        ({"adaptations": {"maml": {"lr": 0}}}, r"adaptations\.maml\.lr: .*greater than 0.*value: 0"),
        ({"adaptations": {"maml": {"n_query": 196}}}, r"adaptations\.maml: 5 shots \+ 196 queries = 201 images of a class, but synthetic_cifar_fs has 200|adaptations\.maml: 1 shots \+ 196 queries = 197 images of a class, but synthetic_mini_imagenet has 60"),
        (run("r2d2_classical", twin="r2d2_rigde"), r"runs\.r2d2_classical\.twin: unknown run 'r2d2_rigde'; did you mean 'r2d2_ridge'\?"),
        (run("r2d2_classical", twin=["r2d2_ridge"]), r"runs\.r2d2_classical\.twin: .*valid string"),
        ({"projection": {"runs": ["conv64_protonte"]}}, r"projection\.runs: unknown run 'conv64_protonte'; did you mean 'conv64_protonet'\?"),
        ({"projection": {"n_drawz": 3}}, r"projection: unknown key 'n_drawz'; did you mean 'n_draws'\? Allowed: n_classes, n_draws, n_fit, n_images"),
        ({"projection": {"n_classes": 2}}, r"projection\.n_classes: .*greater than or equal to 3.*value: 2"),
        ({"projection": {"n_images": 3}}, r"projection\.n_images: .*greater than or equal to 4.*value: 3"),
        ({"projection": {"n_fit": 3}}, r"projection\.n_fit: .*greater than or equal to 4.*value: 3"),
        ({"projection": {"n_classes": 21}}, r"projection\.n_classes: 21 is more than the 20 novel classes of synthetic_cifar_fs"),
        ({"projection": {"n_images": 57}}, r"projection\.n_images: 57 images to show \+ at least 4 to fit on = 61 images of a class, but synthetic_mini_imagenet has 60"),
        ({"scale": "paper", "projection": {"n_images": 597}}, r"projection\.n_images: .* = 601 images of a class, but cifar_fs has 600"),
        ({"simulations": {"theorem2": {}}}, r"simulations: unknown key 'theorem2'; did you mean 'theorem1'\? Allowed: boundaries, theorem1"),
        ({"simulations": {"theorem1": {"n_draws": 0}}}, r"simulations\.theorem1\.n_draws: .*greater than or equal to 2.*value: 0"),
        ({"simulations": {"boundaries": {"n_shwon": 3}}}, r"simulations\.boundaries: unknown key 'n_shwon'; did you mean 'n_shown'\?"),
        ({"measurement": {"n_folds": 1}}, r"measurement\.n_folds: .*greater than or equal to 2.*value: 1"),
        ({"measurement": {"n_folds": 301}}, r"measurement\.n_folds: 301 leaves 3 of the 1200 novel images of synthetic_mini_imagenet that are embedded to a fold, at least 4 are needed"),
        ({"measurement": {"n_folds": 33, "base_images_per_class": 2}}, r"measurement\.n_folds: 33 leaves 3 of the 128 base images of synthetic_cifar_fs"),
        ({"strict": "maybe"}, r"strict: .*valid boolean.*value: 'maybe'"),
        ({"strikt": True}, r"unknown key 'strikt'; did you mean 'strict'\?"),
        ({"runs": {"../up": {}}}, r"runs\.\.\./up: String should match pattern"),
        ({"roles": "x"}, r"roles: .*valid dictionary.*value: 'x'"),
        ({"scale": "small", "roles": "x"}, r"roles: .*valid dictionary.*value: 'x'"),
        ({"scale": "small", "roles": {"mini_imagenet": ["x"]}}, r"roles\.mini_imagenet: .*valid string.*value: \['x'\]"),
        ({"scale": "small", "datasets": 5}, r"datasets: .*valid dictionary.*value: 5"),
        ({"runs": 5}, r"runs: .*valid dictionary.*value: 5"),
        ({"runs": {"r2d2_ridge": 5}}, r"runs\.r2d2_ridge: .*value: 5"),
        ({"roles": {"cifar_fs": "synthetic_cifar"}}, r"roles\.cifar_fs: unknown data set 'synthetic_cifar'; did you mean 'synthetic_cifar_fs'\?"),
        ({"roles": {"cifar_fs": "synthetic_mini_imagenet"}}, r"roles\.cifar_fs: 'synthetic_mini_imagenet' does not stand for 'cifar_fs'"),
        ({"datasets": {"omniglot": {**GENERATED, "stands_for": "omniglot"}}}, r"datasets\.omniglot: generated images cannot bear the name .*; call them synthetic_omniglot"),
        ({"datasets": {"cifar_fs": {"pth": "x"}}}, r"datasets\.cifar_fs: unknown key 'pth'; did you mean 'path'\?"),
        ({"datasets": {"cifar_fs": {"source": "cifar"}}}, r"datasets\.cifar_fs\.source: did you mean 'cifar_fs'\?"),
        ({"evaluation": {"n_way": 21}}, r"evaluation\.n_way: 21 is more than the 20 novel classes"),
        ({"evaluation": {"n_query": 60}}, r"evaluation: 1 shots \+ 60 queries = 61 images of a class"),
        ({"heads": {"svn": {}}}, r"heads: unknown key 'svn'"),
        ({"evaluation": {"n_shots": []}}, r"evaluation\.n_shots: .*at least 1"),
        ({"evaluation": {"n_shots": [1, 5, 1]}}, r"evaluation\.n_shots: a shot stands twice"),
        (training(momentum=2), r"runs\.r2d2_ridge\.training\.momentum: .*less than 1.*value: 2"),
        (training(label_smoothing=0.9), r"runs\.r2d2_ridge\.training\.label_smoothing: 0\.9 would give the true one of 5 classes less than the others; allowed: up to 0\.8"),
        (run("maml_1shot", training={"validation_episodes": 1}), r"validation_episodes: .*greater than or equal to 2.*value: 1"),
        (run("weight_clustering", training={"meta_batch": 1}), r"a coefficient needs order: lock_step and a meta_batch of 2 or more"),
        (run("resnet12_svm", backbone={"block_size": 3}), r"runs\.resnet12_svm\.backbone\.block_size: 3 does not fit into the last feature map of synthetic_cifar_fs, 2 x 2"),
        ({"scale": "small", **run("resnet12_svm", datasets={"mini_imagenet": {"training": {"n_shoot": 5}}})}, r"runs\.resnet12_svm\.datasets\.mini_imagenet\.training: unknown key 'n_shoot'; did you mean 'n_shot'\?"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_refused_by_name(overrides, message):
    with pytest.raises(UserError, match=message):
        config_files.load(overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: demo\nscale: small\n", "key 'scale' stands twice.*line 2"),
        ("scale: [demo\n", "is not valid YAML"),
        ("- scale\n", "a mapping of keys to values is needed"),
        ("x: !!python/object/apply:os.system ['true']\n", "is not valid YAML"),
        ("? [scale]\n: demo\n", "is not valid YAML.*unhashable key.*line 1"),
        ("scale: 2026-13-45\n", "is not valid YAML: month must be in 1..12"),
    ],
)
def test_bad_yaml_is_refused_with_its_file(text, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"(?s)config.yaml.*{message}"):
        config_files.read_yaml(path)


def test_a_file_that_is_not_utf_8_is_refused_by_name(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes("scale: dém".encode("latin-1"))
    with pytest.raises(UserError, match=r"config.yaml is not valid YAML: 'utf-8' codec"):
        config_files.read_yaml(path)


def test_what_is_as_much_as_there_is_can_be_drawn():
    experiment = config_files.load(
        {"projection": {"n_classes": 20, "n_images": 56}, "measurement": {"n_folds": 300}}
    )
    assert experiment.projection.n_images == 56
    # And what nobody draws is not asked for.
    experiment = config_files.load({"projection": {"n_images": 500, "runs": []}})
    assert experiment.projection.n_images == 500


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*config.yaml"):
        config_files.read_yaml(tmp_path / "config.yaml")


def test_budgets_come_from_the_scale_and_the_user_has_the_last_word():
    demo = config_files.load().runs["r2d2_classical"].training.steps
    small = config_files.load({"scale": "small"}).runs["r2d2_classical"].training.steps
    assert demo < small
    own = {"scale": "small", **run("r2d2_classical", training={"steps": 7})}
    assert config_files.load(own).runs["r2d2_classical"].training.steps == 7
    assert config_files.load({"scale": "small", "seeds": 4}).seeds == 4


def test_what_the_command_line_hands_down_as_text_is_read_as_what_it_says():
    """Snakemake makes texts of all numbers inside of a mapping."""
    texts = {"steps": "7", "lr": "1e-3", "augment": "false", "regularizer": "null"}
    values = {"steps": 7, "lr": 1e-3, "augment": False, "regularizer": None}
    assert config_files.load(run("r2d2_classical_fc", training=texts)) == config_files.load(
        run("r2d2_classical_fc", training=values)
    )
    for path in ("/data/null.zip", "nan", "inf", "-Infinity", "1e999"):
        kept = config_files.load({"datasets": {"cifar_fs": {"path": path}}})
        assert kept.datasets["cifar_fs"].path == path


def test_budgets_of_backbones_and_of_adaptations_come_from_the_scale():
    """Of each by its name; what a run says itself, and then the user, wins."""
    budget = config_files.read_yaml(ROOT / "scales/small.yaml")
    own = merged(
        run("maml_classical", backbone={"width": 0.5}),
        {"adaptations": {"maml": {"n_episodes": 7}}},
    )
    experiment = config_files.load({"scale": "small", **own})
    backbones = {name: one.backbone for name, one in experiment.runs.items()}
    resnet12 = backbones["resnet12_classical_hv"]
    assert {"width": resnet12.width, "ramp_passes": resnet12.ramp_passes} == budget["backbones"][
        "resnet12"
    ]
    assert backbones["r2d2_ridge"].width == budget["backbones"]["r2d2"]["width"] < 1
    assert (backbones["reptile"].width, backbones["maml_classical"].width) == (1, 0.5)
    adaptations = {name: one.n_episodes for name, one in experiment.adaptations.items()}
    assert adaptations == {
        **{name: one["n_episodes"] for name, one in budget["adaptations"].items()},
        "maml": 7,
    }
    # A budget takes nothing away.
    assert experiment.adaptations["reptile"].steps == 50


def given_runs():
    return config_files.read_yaml(ROOT / "config.yaml")["runs"]


def test_paper_scale_is_the_paper_s_budget():
    """Each run is what config.yaml says, and for the rest its models' defaults."""
    experiment = config_files.load({"scale": "paper"})
    for name in experiment.runs:
        chain, above = [], name
        while above:
            chain.insert(0, given_runs()[above])
            above = chain[0].pop("like", None)
        whole = {}
        for part in chain:
            whole = merged(whole, part) | {"datasets": part.get("datasets", whole.get("datasets"))}
        assert experiment.runs[name] == Run.model_validate(whole), (
            "a scale named paper changes a default"
        )
        assert experiment.runs[name].backbone.width == 1
    given = config_files.read_yaml(ROOT / "config.yaml")["adaptations"]
    assert experiment.adaptations == {name: Adaptation(**one) for name, one in given.items()}


# Runs that are like others, and that differ on a data set


def test_a_run_like_another_differs_in_what_it_says():
    """Deeply: a key of training leaves the others; a list is replaced as a whole."""
    runs = config_files.load(
        run("maml_5shot", training={"inner_steps": 2}, fine_tuners=["maml"])
    ).runs
    model, one = runs["maml_1shot"], runs["maml_5shot"]
    assert one.fine_tuners == ("maml",)
    assert one.training == model.training.model_copy(
        update={"n_shot": 5, "validation_shots": (5,), "inner_steps": 2}
    )
    assert one.backbone == model.backbone
    assert (list(one.datasets), list(model.datasets)) == (
        ["mini_imagenet"],
        ["cifar_fs", "mini_imagenet"],
    )


def test_a_run_like_another_is_on_the_data_sets_that_it_names():
    runs = config_files.load().runs
    assert list(runs["resnet12_svm"].datasets) == ["cifar_fs", "mini_imagenet"]
    assert list(runs["resnet12_svm_drop_block"].datasets) == ["mini_imagenet"]


def test_a_run_may_be_like_one_that_is_like_another():
    runs = config_files.load().runs
    assert given_runs()["weight_clustering_50"]["like"] == "weight_clustering_5em6"
    chain = [
        runs[name]
        for name in (
            "reptile",
            "weight_clustering",
            "weight_clustering_0",
            "weight_clustering_5em6",
            "weight_clustering_50",
        )
    ]
    assert [one.training.order for one in chain] == ["one_by_one", *4 * ["lock_step"]]
    assert [one.training.coefficient for one in chain] == [0, 5e-5, 0, 5e-6, 50]
    assert [list(one.datasets) for one in chain] == [
        *3 * [["cifar_fs", "mini_imagenet"]],
        *2 * [["mini_imagenet"]],
    ]
    assert [one.fine_tuners for one in chain[2:]] == 3 * [("reptile",)]
    assert len({one.backbone.model_dump_json() for one in chain}) == 1


def test_what_changes_in_a_run_changes_in_those_like_it():
    changed = config_files.load(run("reptile", training={"inner_steps": 3})).runs
    assert {name for name, one in changed.items() if one != config_files.load().runs[name]} == {
        name for name in changed if name == "reptile" or name.startswith("weight_clustering")
    }


def test_a_run_like_another_has_the_budget_of_its_own_algorithm_and_backbone():
    """A budget is given once a run is whole, so it is none of the run that it is like."""
    other = {"name": "conv4", "filters": 32}
    one = config_files.load(
        {"runs": {"own": {"like": "r2d2_classical", "backbone": other, "datasets": ["cifar_fs"]}}}
    ).runs["own"]
    demo = config_files.read_yaml(ROOT / "scales/demo.yaml")
    assert one.backbone.width == demo["backbones"]["conv4"]["width"]
    assert one.training.steps == demo["algorithms"]["classical"]["steps"]


def test_a_run_may_differ_on_a_data_set():
    experiment = config_files.load(
        {
            "scale": "paper",
            "roles": {"mini_imagenet": "synthetic_mini_imagenet"},
            "projection": {"runs": []},
        }
    )
    both = experiment.runs["resnet12_svm"]
    real = experiment.run_on("resnet12_svm", "cifar_fs")
    stand_in = experiment.run_on("resnet12_svm", "synthetic_mini_imagenet")
    assert real.training == both.training.model_copy(update={"n_shot": 5})
    assert stand_in.training == both.training.model_copy(update={"label_smoothing": 0.1})
    assert real.backbone == both.backbone
    assert stand_in.backbone == both.backbone.model_copy(update={"drop_block": False})
    assert real.fine_tuners == stand_in.fine_tuners == both.fine_tuners


def test_a_difference_reaches_the_jobs_of_its_data_set_alone():
    differences = {
        "cifar_fs": {"backbone": {"width": 0.125}, "training": {"normalise": False}},
        "mini_imagenet": {},
    }
    experiment = config_files.load(run("r2d2_ridge", datasets=differences))
    names = {"run": "r2d2_ridge", "seed": 0}
    for verb in ("train", "embed", "adapt"):
        here, there = (
            jobs.settings(experiment, verb, dataset=dataset, **names)
            for dataset in ("synthetic_cifar_fs", "synthetic_mini_imagenet")
        )
        assert (here["backbone"]["width"], there["backbone"]["width"]) == (0.125, 0.25)
        normalise = [one.get("algorithm", one)["normalise"] for one in (here, there)]
        assert normalise == [False, True]


def test_a_difference_wins_over_the_budget_of_the_scale():
    experiment = config_files.load(
        run("resnet12_svm", datasets={"cifar_fs": {"training": {"steps": 3}}})
    )
    budget = config_files.read_yaml(ROOT / "scales/demo.yaml")["algorithms"]["episodic"]
    assert experiment.runs["resnet12_svm"].training.steps == budget["steps"] != 3
    assert experiment.run_on("resnet12_svm", "synthetic_cifar_fs").training.steps == 3


def test_what_the_user_sets_for_a_run_holds_on_every_data_set():
    """Unless the user says what differs there."""
    experiment = config_files.load(run("resnet12_svm", training={"n_shot": 2}))
    for dataset in experiment.roles.values():
        assert experiment.run_on("resnet12_svm", dataset).training.n_shot == 2
    stand_in = experiment.run_on("resnet12_svm", "synthetic_mini_imagenet")
    assert stand_in.training.label_smoothing == 0.1
    own = {"cifar_fs": {"training": {"n_shot": 3}}}
    experiment = config_files.load(run("resnet12_svm", training={"n_shot": 2}, datasets=own))
    here, there = (
        experiment.run_on("resnet12_svm", dataset).training.n_shot
        for dataset in ("synthetic_cifar_fs", "synthetic_mini_imagenet")
    )
    assert (here, there) == (3, 2)


def drop_block(overrides, name):
    """Of a run, by the data sets that it is on."""
    experiment = config_files.load({"scale": "paper", **overrides})
    return {
        dataset: experiment.run_on(name, dataset).backbone.drop_block
        for dataset in experiment.runs[name].datasets
    }


BOTH, ONE = {"cifar_fs": True, "mini_imagenet": True}, {"cifar_fs": True, "mini_imagenet": False}
ON, OFF = {"backbone": {"drop_block": True}}, {"backbone": {"drop_block": False}}


@pytest.mark.parametrize(
    ("runs", "name", "expected"),
    [
        # As config.yaml has it; the parent differs on mini-ImageNet.
        ({}, "resnet12_classical_fc", ONE),
        # What is set for a run that is like another, or for the other.
        ({"resnet12_classical_fc": ON}, "resnet12_classical_fc", BOTH),
        ({"resnet12_classical_fc": ON}, "resnet12_classical", ONE),
        ({"resnet12_classical_fc": ON}, "resnet12_classical_hv", ONE),
        ({"resnet12_classical": ON}, "resnet12_classical_fc", BOTH),
        ({"resnet12_classical": OFF, "resnet12_classical_fc": ON}, "resnet12_classical_fc", BOTH),
        # What a run says of a data set stands above what the user sets for one that it is like.
        ({"resnet12_svm": OFF}, "resnet12_svm_drop_block", {"mini_imagenet": True}),
        # Of chains, and of a run that the user adds.
        ({"own": {"like": "resnet12_classical_fc"}, "resnet12_classical_fc": ON}, "own", BOTH),
        ({"own": {"like": "resnet12_classical_fc", **ON}}, "own", BOTH),
        ({"own": {"like": "resnet12_classical_fc"}, "resnet12_classical": ON}, "own", BOTH),
        # Data sets by the user: a mapping adds to what a run is on, a list chooses.
        ({"resnet12_classical_fc": {"datasets": {"mini_imagenet": ON}}}, "resnet12_classical_fc", BOTH),
        ({"resnet12_classical": {"datasets": {"mini_imagenet": ON}}}, "resnet12_classical_fc", BOTH),
        ({"resnet12_classical": {"datasets": {"mini_imagenet": OFF}, **ON}}, "resnet12_classical_fc", ONE),
        ({"resnet12_classical": {"datasets": ["mini_imagenet"]}}, "resnet12_classical", {"mini_imagenet": False}),
        ({"resnet12_classical_fc": {"datasets": ["mini_imagenet"]}}, "resnet12_classical_fc", {"mini_imagenet": False}),
        ({"own": {"like": "resnet12_svm", "datasets": {"mini_imagenet": {}}}}, "own", {"mini_imagenet": True}),
    ],
)  # fmt: skip
def test_the_nearer_of_two_that_set_one_value_wins(runs, name, expected):
    assert drop_block({"runs": runs}, name) == expected


def test_a_mapping_of_the_user_adds_to_a_list_of_data_sets():
    experiment = config_files.load(
        run("r2d2_ridge", datasets={"mini_imagenet": {"training": {"lr": 0.5}}})
    )
    datasets = experiment.runs["r2d2_ridge"].datasets
    lr = {name: experiment.run_on("r2d2_ridge", name).training.lr for name in datasets}
    assert lr == {"cifar_fs": 0.1, "mini_imagenet": 0.5}


def test_fine_tuners_are_heads_and_adaptations():
    experiment = config_files.load()
    assert experiment.heads_of("maml_1shot") == ["ridge", "svm", "prototypes"]
    assert experiment.adaptations_of("maml_1shot") == ["maml_fresh", "maml", "maml_inductive"]
    # A run without heads is neither evaluated nor measured.
    assert experiment.heads_of("weight_clustering_5") == []
    assert experiment.adaptations_of("weight_clustering_5") == ["reptile"]
    for kind in ("evaluation", "measurement", "adaptation"):
        runs = shown.subjects(experiment, kind)["synthetic_mini_imagenet"]
        assert "maml_1shot" in runs
        assert ("weight_clustering_5" in runs) == (kind == "adaptation")


def test_merging_is_deep_and_leaves_its_arguments_alone():
    below, above = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2], "e": None}
    assert merged(below, above) == {"a": {"b": 3, "c": 2}, "d": [2], "e": None}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algorithms": {"classical": {"lr": 0.3}}}, "algorithms.classical: unknown key 'lr'"),
        ({"backbones": {"r2d2": {"form": "original"}}}, "backbones.r2d2: unknown key 'form'; Allowed: width"),
        ({"backbones": {"conv4": {"ramp_passes": 5}}}, "backbones.conv4: unknown key 'ramp_passes'; Allowed: width"),
        ({"backbones": {"r2d3": {"width": 1}}}, r"backbones: unknown key 'r2d3'; did you mean 'r2d2'\?"),
        ({"adaptations": {"maml": {"lr": 0.1}}}, "adaptations.maml: unknown key 'lr'"),
        ({"heads": {"ridge": {"regularization": 1}}}, "unknown key 'heads'"),
    ],
)  # fmt: skip
def test_a_scale_changes_budgets_only(change, message, tmp_path):
    (tmp_path / "scales").mkdir()
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    demo = config_files.read_yaml(ROOT / "scales/demo.yaml")
    (tmp_path / "scales/demo.yaml").write_text(yaml.safe_dump(merged(demo, change)))
    with pytest.raises(UserError, match=rf"scales/demo.yaml is not valid:\n  {message}"):
        config_files.load(root=tmp_path)


def test_the_schemas_for_editors_are_in_step():
    for path, schema in config_files.schemas().items():
        assert json.loads(path.read_text()) == schema, "run: python -m pipeline schema"


@pytest.mark.parametrize(
    ("file", "schema"),
    [("config.yaml", "schema.json"), *((f"scales/{name}.yaml", "scales.json") for name in SCALES)],
)
def test_editors_find_nothing_wrong_with_what_is_there(file, schema):
    content = json.loads(json.dumps(config_files.read_yaml(ROOT / file)))
    jsonschema.validate(content, json.loads((ROOT / schema).read_text()))


@pytest.mark.parametrize(
    "change", [{"lik": "reptile"}, {"training": {"inner_stepz": 3}}, {"backbone": {"widht": 1}}]
)
def test_editors_find_a_wrong_key_of_a_run(change):
    content = config_files.read_yaml(ROOT / "config.yaml")
    content["runs"]["reptile"] |= change
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, json.loads((ROOT / "schema.json").read_text()))


def test_schedules_are_exact_fractions():
    factors = config_files.load().runs["r2d2_classical"].training.lr_factors
    assert Fraction(1, 3) in factors


@pytest.mark.parametrize("name", ["r2d2_ridge", "r2d2_classical", "maml_1shot", "reptile"])
@pytest.mark.parametrize("given", ["linear", {"0": 1, "1/3": 0.5}])
def test_any_algorithm_may_have_a_schedule_in_a_line_or_in_steps(given, name):
    experiment = config_files.load(run(name, training={"lr_factors": given}))
    expected = given if given == "linear" else {Fraction(0): 1, Fraction(1, 3): 0.5}
    assert experiment.runs[name].training.lr_factors == expected
    names = {"dataset": "synthetic_mini_imagenet", "run": name, "seed": 0}
    settings = json.loads(jobs.dumps(jobs.settings(experiment, "train", **names)))
    (model,) = {type(experiment.runs[name].training)}
    algorithm = settings["algorithm"]
    if "head" in algorithm:
        algorithm["head"] = algorithm["head"]["name"]
    assert model.model_validate(algorithm).lr_factors == expected
