"""A record comes back as it was written; what is no record is refused by its file's name."""

import json
import platform
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from pipeline import records
from pipeline.errors import UserError

IDENTITY = {
    "scale": "demo",
    "dataset": "shapes",
    "stands_for": "cifar_fs",
    "run": "r2d2_ridge",
    "seed": 2,
}
SETTINGS = {**IDENTITY, "episodes": {"n_way": 5, "n_shots": [1, 5]}}
SOURCES = {"images": "f00d", "weights": "cafe"}
VALUES = {"n_queries": 75, "correct": {"1": {"ridge": [41, 38, 50]}}, "ratio": 1.25}


def write(path: Path, **changes: Any) -> None:
    given: dict[str, Any] = {
        "code": "digest",
        "sources": SOURCES,
        "device": "cpu",
        "wall_s": 1.23456,
        "values": VALUES,
    }
    records.write(path, "evaluation", SETTINGS, **(given | changes))


AGAIN = "delete it and run snakemake again"


def refused(path: Path, message: str) -> None:
    """In one line that leads to no other place."""
    with pytest.raises(UserError, match=message) as raised:
        records.read(path, "evaluation")
    assert not {"\n", "http"} & set(re.findall(r"\n|http", str(raised.value)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a valid record of an evaluation."""
    path = tmp_path / "seed2.json"
    write(path)
    return path


def test_a_record_comes_back(path: Path) -> None:
    record = records.read(path, "evaluation")
    assert record.kind == "evaluation"
    assert {name: getattr(record, name) for name in IDENTITY} == IDENTITY
    assert record.settings == SETTINGS
    assert record.code == "digest"
    assert record.sources == SOURCES
    assert record.device == "cpu"
    assert record.wall_s == 1.235
    assert record.values == VALUES


@pytest.mark.parametrize("kind", get_args(records.Kind))
def test_a_record_of_any_kind_comes_back_as_that_kind(kind: records.Kind, path: Path) -> None:
    content = json.loads(path.read_text()) | {"kind": kind}
    path.write_text(json.dumps(records.sealed(content)))
    assert records.read(path, kind).kind == kind
    others = [one for one in get_args(records.Kind) if one != kind]
    with pytest.raises(UserError, match=f"is a record of {kind}, needed is one of {others[0]}"):
        records.read(path, *others)


def test_a_record_of_real_images_stands_for_nothing(tmp_path: Path) -> None:
    settings = {**SETTINGS, "dataset": "cifar_fs", "stands_for": None}
    records.write(
        tmp_path / "record.json",
        "training",
        settings,
        code="digest",
        sources=SOURCES,
        device="cpu",
        wall_s=0.0,
        values={},
    )
    assert records.read(tmp_path / "record.json", "training").stands_for is None


def test_a_record_says_which_versions_made_it(path: Path) -> None:
    versions = records.read(path, "evaluation").versions
    assert versions.keys() == {"python", "numpy", "scipy", "torch"}
    assert versions["python"] == platform.python_version()
    assert versions["numpy"] == np.__version__


def test_a_library_that_is_not_there_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(library: str) -> str:
        raise PackageNotFoundError(library)

    monkeypatch.setattr(records, "version", version)
    assert records.versions()["torch"] == "absent"


def test_a_record_cannot_be_changed(path: Path) -> None:
    record = records.read(path, "evaluation")
    with pytest.raises(ValueError, match="frozen"):
        record.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_not_written(value: float, path: Path) -> None:
    earlier = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write(path, values={"ratio": value})
    assert path.read_bytes() == earlier


def test_one_of_several_kinds_is_enough(path: Path) -> None:
    assert records.read(path, "measurement", "evaluation").kind == "evaluation"


def test_a_record_of_another_kind_is_refused(path: Path) -> None:
    message = "seed2.json is a record of evaluation, needed is one of training, features; correct"
    with pytest.raises(UserError, match=message):
        records.read(path, "training", "features")


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    refused(
        tmp_path / "seed2.json",
        "cannot read the record .*seed2.json: No such file.*; correct the path, or let snakemake",
    )


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_a_torn_record_is_refused(part: float, path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    refused(path, f"seed2.json is not a whole record.*; {AGAIN}")


@pytest.mark.parametrize(
    "content", [b"accuracy: 0.5", b"[]", b'"demo"', b"null", b"\xff\xfe{}", b"PK\x03\x04"]
)
def test_a_foreign_file_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    refused(path, f"seed2.json is not a whole record.*; {AGAIN}")


@pytest.mark.parametrize(
    ("written", "found"), [("1.25", "1.35"), ("38", "39"), ("cafe", "cafd"), ("seed", "sead")]
)
def test_a_record_that_changed_on_disk_is_refused(written: str, found: str, path: Path) -> None:
    """Where it still is valid JSON of the same form, and where it is not."""
    path.write_text(path.read_text().replace(written, found, 1))
    refused(path, f"seed2.json is not a whole record.*; {AGAIN}")


def test_a_record_without_its_checksum_is_refused(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    refused(path, f"seed2.json is not a whole record.*its checksum.*; {AGAIN}")


def test_the_layout_of_a_record_is_no_part_of_its_checksum(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text())))
    assert records.read(path, "evaluation").values == VALUES


def test_what_settings_hold_as_a_tuple_reads_back(tmp_path: Path) -> None:
    write(tmp_path / "one.json", values={"shape": (2, 3)})
    assert records.read(tmp_path / "one.json", "evaluation").values == {"shape": [2, 3]}


@pytest.mark.parametrize("name", ["scale", "dataset", "run", "seed"])
def test_what_is_of_another_model_is_refused(name: str, path: Path) -> None:
    record = records.read(path, "evaluation")
    records.require_same(path, record, SETTINGS)
    message = f"seed2.json is of {name} {IDENTITY[name]}, not 7; correct the path"
    with pytest.raises(UserError, match=message):
        records.require_same(path, record, {**SETTINGS, name: 7})


FIELDS = sorted(records.Record.model_fields.keys() - {"schema_version"})


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content.pop(name)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        *((without(name), name) for name in FIELDS),
        (lambda content: content.update(acuracy=0.5), "acuracy"),
        (lambda content: content.update(kind="guess"), "kind"),
        (lambda content: content.update(seed="first"), "seed"),
        (lambda content: content.update(seed=0.5), "seed"),
        (lambda content: content.update(sources={"images": 1}), "sources: images"),
        (lambda content: content.update(values=[1]), "values"),
    ],
)
def test_a_record_of_another_form_is_refused_by_the_field(
    change: Callable[[dict[str, Any]], Any], named: str, path: Path
) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    refused(path, rf"seed2.json is not a whole record.*\b{re.escape(named)}\b.*; {AGAIN}")


@pytest.mark.parametrize("version", [0, 2, "3", None])
def test_another_schema_is_refused(version: object, path: Path) -> None:
    content = json.loads(path.read_text())
    content["schema_version"] = version
    path.write_text(json.dumps(content))
    refused(path, f"seed2.json has record schema {version}, this version reads 3; {AGAIN}")


def test_a_record_without_a_schema_is_refused(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["schema_version"]
    path.write_text(json.dumps(content))
    refused(path, f"seed2.json has record schema None, this version reads 3; {AGAIN}")


# What is of no data set, run or seed


def test_a_simulation_is_of_no_data(tmp_path: Path) -> None:
    """It read nothing, either."""
    settings = {"scale": "demo", "simulation": "theorem1", "options": {"n_draws": 10}}
    made: dict[str, Any] = {"code": "digest", "sources": {}, "device": "cpu", "wall_s": 0.1}
    records.write(tmp_path / "theorem1.json", "simulation", settings, values={"rows": []}, **made)
    record = records.read(tmp_path / "theorem1.json", "simulation")
    assert (record.dataset, record.stands_for, record.run, record.seed) == (None,) * 4
    assert (record.scale, record.settings, record.sources) == ("demo", settings, {})


def test_a_similarity_is_of_several_seeds(tmp_path: Path) -> None:
    settings = {**SETTINGS, "seed": None, "twins": ["r2d2_classical"]}
    made: dict[str, Any] = {"code": "digest", "sources": SOURCES, "device": "cpu", "wall_s": 0.1}
    records.write(tmp_path / "r2d2_ridge.json", "similarity", settings, values={}, **made)
    record = records.read(tmp_path / "r2d2_ridge.json", "similarity")
    assert (record.dataset, record.run, record.seed) == ("shapes", "r2d2_ridge", None)


# Places


def test_every_kind_has_a_place() -> None:
    assert set(records.PLACES) == set(get_args(records.Kind))


SUBJECTS = {"shapes": ["reptile", "maml"], "forms": ["maml"]}


@pytest.mark.parametrize(
    ("kind", "folder", "file"),
    [
        ("training", "runs", "/record.json"),
        ("features", "features", "/record.json"),
        ("evaluation", "evals", ".json"),
        ("adaptation", "adaptations", ".json"),
        ("measurement", "measures", ".json"),
        ("projection", "projections", ".json"),
    ],
)
def test_a_record_of_a_model_lies_below_its_data_set_and_run(
    kind: records.Kind, folder: str, file: str
) -> None:
    assert records.places(kind, SUBJECTS, 2) == [
        f"{folder}/{dataset}/{run}/seed{seed}{file}"
        for dataset, run in (("shapes", "reptile"), ("shapes", "maml"), ("forms", "maml"))
        for seed in (0, 1)
    ]
    assert records.places(kind, {}, 2) == records.places(kind, SUBJECTS, 0) == []


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_is_about_all_seeds_is_one_record(seeds: int) -> None:
    assert records.places("similarity", {"shapes": ["r2d2_ridge", "resnet12_svm"]}, seeds) == [
        "similarities/shapes/r2d2_ridge.json",
        "similarities/shapes/resnet12_svm.json",
    ]
    assert records.places("simulation", {"": ["theorem1", "boundaries"]}, seeds) == [
        "simulations/theorem1.json",
        "simulations/boundaries.json",
    ]
