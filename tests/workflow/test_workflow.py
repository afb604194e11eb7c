"""The whole workflow, run for real at a scale of its own: twenty jobs on tiny images."""

import json
import os
import re
import signal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline import records

DATASET = "tiny_images"
RUNS = ["r2d2_ridge", "r2d2_classical", "r2d2_classical_fc", "r2d2_classical_hv"]
MODELS = [f"{DATASET}/{run}/seed0" for run in RUNS]
TABLES = ["table2", "table3", "regularizers"]
TINY = f"""
roles: {{cifar_fs: {DATASET}}}
seeds: 1
width: {{r2d2: 0.05}}
algorithms:
  classical: {{steps: 12, validations: 2}}
  episodic: {{steps: 6, validations: 2, meta_batch: 2, n_shot: 5, validation_episodes: 20}}
evaluation: {{n_episodes: 50}}
measurement: {{n_pairs: 50, base_images_per_class: 4}}
"""
RESULTS = "results/tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, checkout):
    """The project with one more scale, before any job."""
    project = checkout(tmp_path_factory.mktemp("workflow") / "a workflow")
    images = {"source": "synthetic", "stands_for": "cifar_fs", "image_size": 16}
    images["images_per_class"] = 20
    project.configure({"scale": "tiny", f"datasets.{DATASET}": images})
    (project / "scales/tiny.yaml").write_text(TINY)
    return project


@pytest.fixture(scope="module")
def finished(tiny):
    tiny.snakemake("--cores", "2")
    return tiny


@pytest.fixture(scope="module")
def table_3(finished):
    return pd.read_csv(finished / f"{RESULTS}/tables/table3.csv")


def test_a_training_killed_and_interrupted_ends_with_the_same_weights(tiny, tmp_path, wait_until):
    weights = f"{RESULTS}/runs/{DATASET}/r2d2_ridge/seed0/weights.safetensors"
    train = ["--cores", "1", weights]
    calm = tiny.copy(tmp_path / "left alone")
    calm.configure({"algorithms.episodic.steps": 150}, "scales/tiny.yaml")
    loop = calm / "pipeline/training/loop.py"
    often, count = re.subn(r"CHECKPOINT_S = [\d.]+", "CHECKPOINT_S = 0.1", loop.read_text())
    assert count == 1
    loop.write_text(often)
    calm.snakemake("--cores", "1", f"resources/packed/{DATASET}/passport.json")
    troubled = calm.copy(tmp_path / "never left alone")
    calm.snakemake(*train)

    state = troubled / f"{RESULTS}/state/{DATASET}/r2d2_ridge/seed0/state.safetensors"
    log = troubled / f"logs/tiny/train/{DATASET}/r2d2_ridge/seed0.log"
    with troubled.started(*train) as process:
        wait_until(state.exists)
        os.killpg(process.pid, signal.SIGKILL)
    troubled.snakemake("--unlock")

    with troubled.started(*train) as process:
        wait_until(lambda: log.exists() and re.search("going on at step .*\n.* loss", log.read_text()))
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 1
    assert "state is saved; run the same command to go on" in log.read_text()
    assert not (troubled / weights).exists()

    troubled.snakemake(*train)
    assert re.search("^going on at step [1-9]", log.read_text())
    assert (troubled / weights).read_bytes() == (calm / weights).read_bytes()
    assert not state.exists()
