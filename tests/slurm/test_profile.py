"""The SLURM profile and the rules agree; without a SLURM."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILE = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
RULES: dict[str, str] = {}
LOCAL: set[str] = set()
for file in sorted((ROOT / "rules").glob("*.smk")):
    for kind, name, body in re.findall(
        r"^(rule|localrules) ?(\w*):\n((?:(?: .*)?\n)*)", file.read_text(), re.MULTILINE
    ):
        if kind == "rule":
            RULES[name] = body
        else:
            LOCAL |= set(re.findall(r"\w+", body))
SUBMITTED = sorted(RULES.keys() - LOCAL)


def test_local_rules_are_those_of_seconds_and_the_download():
    assert {"fetch", "contact_sheets", "simulate", "table", "figure", "claims", "page"} == LOCAL


@pytest.mark.parametrize("rule", SUBMITTED)
def test_a_rule_that_is_submitted_says_what_it_needs(rule):
    assert re.search(r"^        mem_mb=\d+,$", RULES[rule], re.MULTILINE)
    assert re.search(r"^        runtime=\d+,$", RULES[rule], re.MULTILINE)
    # Whatever finds a GPU uses it, and so must ask for it.
    assert ("--threads {threads}" in RULES[rule]) == ("        gpu=1,\n" in RULES[rule])


def test_jobs_are_retried_by_the_profile_alone():
    """A rule's own retries are made by the job as well, within each of the profile's."""
    assert PROFILE["retries"] > 0
    assert not [rule for rule, body in RULES.items() if "retries:" in body]


def test_no_job_asks_for_tasks():
    """With them, a group would ask for as many GPUs, or run several times."""
    assert not [rule for rule, body in RULES.items() if "tasks" in body]
    assert "tasks" not in str(PROFILE.get("default-resources"))


def test_groups_are_of_submitted_rules_and_share_a_gpu():
    assert set(PROFILE["groups"]) <= set(SUBMITTED)
    # Fine-tuning takes hours, and training must not be lost with what follows.
    assert not {"train", "adapt"} & set(PROFILE["groups"])
    assert (PROFILE["resources"], PROFILE["set-resource-scopes"]) == ({"gpu": 1}, {"gpu": "local"})


def test_snakemake_takes_the_profile(tmp_path, checkout):
    project = checkout(tmp_path / "a project")
    assert "dry-run" in project.snakemake("--dry-run", "--profile", "profiles/slurm")
