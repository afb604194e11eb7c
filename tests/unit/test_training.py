"""Training: learns, gives the same bits twice, and goes on exactly where it was."""

import json
import os
import signal
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline import config_files, jobs, records
from pipeline.config import Classical
from pipeline.data.packed import Packed
from pipeline.errors import UserError
from pipeline.machine import prepare
from pipeline.plugins import find
from pipeline.training import loop
from pipeline.training.classical import PairBatches
from pipeline.training.descent import learning_rate

RUNS = sorted(config_files.load().runs)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    prepare("cpu", 1)


def find_training(run):
    return find("training", config_files.load().runs[run].training.algorithm, "Training")


def train(settings, packed, folder):
    loop.train(settings, "digest", packed, folder / "out", folder / "state", CPU)
    return (folder / "out" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("run", RUNS)
def test_the_same_run_gives_the_same_bits(run, tiny_settings, packed, tmp_path):
    first = train(tiny_settings(run), packed, tmp_path / "first")
    second = train(tiny_settings(run), packed, tmp_path / "second")
    assert first == second


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("after", [1, 7, 12])
def test_a_stopped_run_ends_with_the_same_bits(
    run, after, tiny_settings, packed, tmp_path, monkeypatch
):
    undisturbed = train(tiny_settings(run), packed, tmp_path / "undisturbed")

    algorithm = find_training(run)
    step = algorithm.step

    def step_and_stop(self, index):
        if index == after - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, index)

    monkeypatch.setattr(algorithm, "step", step_and_stop)
    with pytest.raises(loop.Interrupted):
        train(tiny_settings(run), packed, tmp_path / "stopped")
    monkeypatch.undo()
    assert train(tiny_settings(run), packed, tmp_path / "stopped") == undisturbed
    assert not list((tmp_path / "stopped" / "state").iterdir())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("run", ["r2d2_classical_fc", "r2d2_ridge"])
def test_kill_9_at_any_moment(run, tiny_settings, packed, tmp_path, monkeypatch):
    """A process killed without warning, five times, ends with the same bits."""
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    settings = tiny_settings(run, steps=40)
    undisturbed = train(settings, packed, tmp_path / "undisturbed")
    folder = tmp_path / "killed"
    kills = 0
    for delay in np.random.default_rng(0).uniform(0.02, 0.25, 5):
        child = os.fork()
        if child == 0:
            train(settings, packed, folder)
            os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        kills += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert kills
    assert train(settings, packed, folder) == undisturbed


@pytest.mark.parametrize("change", ["settings", "code"])
def test_state_of_another_run_is_not_continued(
    change, tiny_settings, packed, tmp_path, monkeypatch, capsys
):
    settings = tiny_settings("r2d2_classical")
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    monkeypatch.setattr(loop.StateFile, "remove", lambda self: None)
    train(settings, packed, tmp_path)
    if change == "settings":
        settings = tiny_settings("r2d2_classical", lr=0.02)
    code = "other" if change == "code" else "digest"
    loop.train(settings, code, packed, tmp_path / "out", tmp_path / "state", CPU)
    assert (
        "belongs to another configuration, code, data, device or torch" in capsys.readouterr().out
    )


def test_a_damaged_state_file_is_said_and_training_starts_over(
    tiny_settings, packed, tmp_path, capsys
):
    undisturbed = train(tiny_settings("r2d2_classical"), packed, tmp_path / "undisturbed")
    state = tmp_path / "torn" / "state" / "state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"\x10\x00\x00")
    assert train(tiny_settings("r2d2_classical"), packed, tmp_path / "torn") == undisturbed
    assert "is damaged" in capsys.readouterr().out


@pytest.mark.parametrize("run", RUNS)
def test_every_run_overfits_one_batch(run, tiny_settings, packed):
    settings = tiny_settings(run, augment=False)
    settings["backbone"]["width"] = 0.25
    algorithm = loop.start(settings, Packed.open(packed), CPU)
    algorithm.modules.train()
    losses = [float(algorithm.step(0)["loss"].detach()) for _ in range(40)]
    assert losses[-1] < 0.4 * losses[0]


def test_the_record_says_what_was_run(tiny_settings, packed, tmp_path):
    settings = tiny_settings("r2d2_ridge")
    train(settings, packed, tmp_path)
    record = records.read(tmp_path / "out" / "record.json", "training")
    assert record.settings == settings
    assert record.sources == {"images": Packed.open(packed).passport.fingerprint}
    assert record.dataset == "tiny"
    assert record.stands_for == "cifar_fs"
    assert record.values["steps"] == 12
    assert len(record.values["validation"]) == 3
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert "scale.factor" in weights
    assert any(name.startswith("backbone.") for name in weights)


def test_the_best_validated_weights_are_kept(tiny_settings, packed, tmp_path, monkeypatch):
    scores = iter([0.3, 0.9, 0.1])
    kept = []

    def validate(self):
        kept.append({name: value.clone() for name, value in self.modules.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(find_training("r2d2_ridge"), "validate", validate)
    train(tiny_settings("r2d2_ridge"), packed, tmp_path)
    weights = load_file(tmp_path / "out" / "weights.safetensors")
    assert all(torch.equal(weights[name], kept[1][name]) for name in weights)
    assert not all(torch.equal(weights[name], kept[2][name]) for name in weights)


def test_a_diverged_run_is_an_error(tiny_settings, packed, tmp_path):
    settings = tiny_settings("r2d2_classical", lr=1e30)
    with pytest.raises(UserError, match=r"r2d2_classical seed 0: .*not finite.*lr"):
        train(settings, packed, tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_state_that_is_not_finite_is_never_saved(tiny_settings, packed, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "LOGGED", 1)
    monkeypatch.setattr(loop, "CHECKPOINT_S", 0.0)
    saved = []
    monkeypatch.setattr(loop.StateFile, "save", lambda self, tensors, _: saved.append(tensors))
    with pytest.raises(UserError, match="not finite"):
        train(tiny_settings("r2d2_classical", lr=1e30), packed, tmp_path)
    # The weights of the first step may be huge, but the loss that they came from was a number.
    assert len(saved) <= 1


GOLDEN = {
    "r2d2_classical": [4.47141, 4.14072, 4.55803, 4.47517],
    "r2d2_classical_fc": [8.35361, 8.08083, 8.9826, 9.26519],
    "r2d2_classical_hv": [6.52979, 6.13398, 6.56125, 6.45322],
    "r2d2_ridge": [1.58842, 1.57233, 1.56349, 1.57004],
}


@pytest.mark.parametrize("run", RUNS)
def test_the_losses_of_20_steps_are_those_they_always_were(run, tiny_settings, packed, tmp_path):
    """A refactoring changes no training; the tolerance is for other processors and builds."""
    train(tiny_settings(run, steps=20, validations=1), packed, tmp_path)
    log = (tmp_path / "out" / "log.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, log) if "loss" in entry]
    assert losses[4::5] == pytest.approx(GOLDEN[run], rel=1e-3)


def test_learning_rate_schedules_are_those_of_the_sources():
    training = config_files.load({"scale": "paper"}).runs
    ridge, classical = training["r2d2_ridge"].training, training["r2d2_classical"].training
    # MetaOptNet: 60 epochs of 1000 steps, drops at the start of epochs 21, 41 and 51.
    by_epoch = {
        epoch: learning_rate(ridge, (epoch - 1) * 1000) for epoch in (1, 20, 21, 40, 41, 50, 51, 60)
    }
    assert by_epoch == pytest.approx(
        {1: 0.1, 20: 0.1, 21: 0.006, 40: 0.006, 41: 0.0012, 50: 0.0012, 51: 0.00024, 60: 0.00024}
    )
    assert learning_rate(ridge, 19_999) == pytest.approx(0.1)
    # The released script: 300 epochs of 600 steps, a tenth at epochs 100, 150, 200 and 250.
    rates = [learning_rate(classical, epoch * 600) for epoch in (0, 99, 100, 150, 200, 250, 299)]
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6])


def test_an_epoch_of_pairs_has_every_image_once():
    labels = np.repeat(np.arange(64), 600)
    batches = PairBatches(labels, 64, seed=3)
    assert batches.batches_per_epoch == 600
    epoch = np.stack([batches[index] for index in range(600)])
    assert sorted(epoch.ravel()) == list(range(38_400))
    assert (labels[epoch[:, ::2]] == labels[epoch[:, 1::2]]).all()
    classes = [len(set(labels[batch])) for batch in epoch]
    assert 25 < np.mean(classes) < 26.5
    assert (batches[600] != epoch[0]).any()
    assert (PairBatches(labels, 64, seed=3)[17] == epoch[17]).all()


def test_settings_name_every_default():
    """A job reads nothing but its settings: a new default shows in them, and so in staleness."""
    settings = jobs.settings(
        config_files.load(), "train", dataset="synthetic_cifar_fs", run="r2d2_classical", seed=0
    )
    assert set(settings["algorithm"]) == set(Classical.model_fields)
