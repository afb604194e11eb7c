"""The configuration: what is valid, what is refused, and how the refusal reads."""

import json
from fractions import Fraction

import pytest
from conftest import ROOT

from pipeline import config_files, jobs
from pipeline.errors import UserError


@pytest.mark.parametrize("scale", ["demo", "small", "paper"])
def test_every_scale_is_valid_and_has_trainings(scale):
    experiment = config_files.load({"scale": scale})
    assert experiment.scale == scale
    assert experiment.trainings()


GENERATED = {"source": "synthetic", "stands_for": "mini_imagenet", "image_size": 16, "images_per_class": 20}  # fmt: skip


def training(**changes):
    return {"runs": {"r2d2_ridge": {"training": changes}}}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"scale": "smal"}, r"scale: unknown scale 'smal'; did you mean 'small'\? Allowed: demo, paper"),
        ({"sceeds": 3}, r"unknown key 'sceeds'; did you mean 'seeds'\? Allowed: datasets"),
        ({"seeds": 0}, r"seeds: .*greater than 0.*value: 0"),
        ({"seeds": True}, r"seeds: .*valid integer.*value: True"),
        ({"seeds": "3"}, r"seeds: .*valid integer.*value: '3'"),
        (training(n_wai=3), r"runs\.r2d2_ridge\.training: unknown key 'n_wai'; did you mean 'n_way'\?"),
        (training(lr="fast"), r"runs\.r2d2_ridge\.training\.lr: .*number.*value: 'fast'"),
        (training(lr=False), r"runs\.r2d2_ridge\.training\.lr: a number is needed.*value: False"),
        (training(lr=float("nan")), r"runs\.r2d2_ridge\.training\.lr: .*value: nan"),
        (training(lr=-1), r"runs\.r2d2_ridge\.training\.lr: .*greater than 0.*value: -1"),
        (training(algorithm="episodi"), r"training\.algorithm: did you mean 'episodic'\? Allowed: classical, episodic"),
        (training(n_way=65), r"runs\.r2d2_ridge\.training\.n_way: 65 is more than the 64 base classes of synthetic_cifar_fs"),
        (training(n_shot=190, n_query=11), r"190 shots \+ 11 queries = 201 images of a class, but synthetic_cifar_fs has 200"),
        (training(lr_factors={"0": 1, "1": 0.1}), r"runs\.r2d2_ridge\.training: lr_factors needs an entry at 0"),
        ({"runs": {"r2d2_classical": {"training": {"batch_size": 12804}}}}, r"runs\.r2d2_classical\.training\.batch_size: 12804 is more than the 12800 base images of synthetic_cifar_fs"),
        ({"runs": {"r2d2_ridge": {"backbone": "r2d3"}}}, r"runs\.r2d2_ridge\.backbone: unknown; did you mean 'r2d2'\?"),
        ({"runs": {"r2d2_ridge": {"datasets": ["cifarfs"]}}}, r"runs\.r2d2_ridge\.datasets: unknown data set 'cifarfs'; did you mean 'cifar_fs'\?"),
        ({"runs": {"../up": {}}}, r"runs\.\.\./up: String should match pattern"),
        ({"roles": {"cifar_fs": "synthetic_cifar"}}, r"roles\.cifar_fs: unknown data set 'synthetic_cifar'; did you mean 'synthetic_cifar_fs'\?"),
        ({"roles": {"cifar_fs": "synthetic_mini_imagenet"}}, r"roles\.cifar_fs: 'synthetic_mini_imagenet' does not stand for 'cifar_fs'"),
        ({"datasets": {"mini_imagenet": GENERATED}}, r"datasets\.mini_imagenet: generated images cannot bear the name .*; call them synthetic_mini_imagenet"),
        ({"datasets": {"cifar_fs": {"pth": "x"}}}, r"datasets\.cifar_fs: unknown key 'pth'; did you mean 'path'\?"),
        ({"datasets": {"cifar_fs": {"source": "cifar"}}}, r"datasets\.cifar_fs\.source: did you mean 'cifar_fs'\?"),
        ({"evaluation": {"n_way": 21}}, r"evaluation\.n_way: 21 is more than the 20 novel classes"),
        ({"evaluation": {"n_query": 60}}, r"evaluation: 1 shots \+ 60 queries = 61 images of a class"),
        ({"heads": {"svn": {}}}, r"heads: unknown key 'svn'"),
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
    ],
)
def test_bad_yaml_is_refused_with_its_file(text, message, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=f"(?s)config.yaml.*{message}"):
        config_files.read_yaml(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*config.yaml"):
        config_files.read_yaml(tmp_path / "config.yaml")


def test_budgets_come_from_the_scale_and_the_user_has_the_last_word():
    demo = config_files.load().runs["r2d2_classical"].training.steps
    small = config_files.load({"scale": "small"}).runs["r2d2_classical"].training.steps
    assert demo < small
    own = {"scale": "small", "runs": {"r2d2_classical": {"training": {"steps": 7}}}}
    assert config_files.load(own).runs["r2d2_classical"].training.steps == 7
    assert config_files.load({"scale": "small", "seeds": 4}).seeds == 4


def test_paper_scale_is_the_paper_s_budget():
    experiment = config_files.load({"scale": "paper"})
    assert experiment.width == {"r2d2": 1}
    for name, run in experiment.runs.items():
        given = config_files.read_yaml(ROOT / "config.yaml")["runs"][name]["training"]
        assert run.training == type(run.training)(**given), "a scale named paper changes a default"


def test_merging_is_deep_and_leaves_its_arguments_alone():
    below, above = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": [2], "e": None}
    assert config_files.merged(below, above) == {"a": {"b": 3, "c": 2}, "d": [2], "e": None}
    assert below == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_scale_changes_budgets_only(tmp_path):
    (tmp_path / "scales").mkdir()
    (tmp_path / "config.yaml").write_text((ROOT / "config.yaml").read_text())
    demo = (ROOT / "scales" / "demo.yaml").read_text()
    (tmp_path / "scales" / "demo.yaml").write_text(demo.replace("    steps: 300", "    lr: 0.3"))
    message = r"scales/demo.yaml is not valid:\n  algorithms.classical: unknown key 'lr'"
    with pytest.raises(UserError, match=message):
        config_files.load(root=tmp_path)


def test_the_schemas_for_editors_are_in_step():
    for path, schema in config_files.schemas().items():
        assert json.loads(path.read_text()) == schema, "run: python -m pipeline schema"


def test_settings_are_json_and_name_no_place_of_this_machine(tmp_path):
    experiment = config_files.load(
        {"scale": "small", "datasets": {"cifar_fs": {"path": str(tmp_path)}}}
    )
    names = {"dataset": "cifar_fs", "run": "r2d2_ridge", "seed": 0}
    for verb in jobs.VERBS:
        wanted = {"pack": {"dataset": "cifar_fs"}, "table": {"table": "table3"}}.get(verb, names)
        settings = jobs.settings(experiment, verb, **wanted)
        text = jobs.dumps(settings)
        assert json.loads(text) == settings
        assert str(tmp_path) not in text


def test_schedules_are_exact_fractions():
    factors = config_files.load().runs["r2d2_classical"].training.lr_factors
    assert Fraction(1, 3) in factors
