"""The three lists of dependencies say the same."""

import re
import tomllib

import yaml

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What jobs do without: the workflow itself, what only tests use, and an optional solver.
NOT_IN_JOBS = {"snakemake", "torchvision", "qpth"}


def test_conda_has_the_bounds_of_the_project():
    conda = yaml.safe_load((ROOT / "environment.yaml").read_text())["dependencies"]
    expected = [f"python{PROJECT['requires-python']}"]
    for dependency in PROJECT["dependencies"]:
        if re.split("[<>=]", dependency)[0] not in NOT_IN_JOBS:
            expected.append(
                dependency.replace("torch>", "pytorch>").replace("matplotlib", "matplotlib-base")
            )
    assert sorted(line.replace(" ", "") for line in conda) == sorted(expected)


def test_the_lock_has_every_dependency_with_hashes_and_no_host():
    lock = (ROOT / "requirements.lock").read_text()
    extras = PROJECT["optional-dependencies"]["dev"]
    for dependency in [*PROJECT["dependencies"], *extras]:
        name = re.split("[<>=]", dependency)[0]
        assert re.search(rf"^{name}==[^\n]*\\\n    --hash=sha256:", lock, re.MULTILINE), name
    assert "://" not in lock
    assert "index-url" not in lock
