"""From weights to numbers: features, few-shot accuracy and clustering of one tiny model."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline import config_files, jobs, records, tensor_files
from pipeline.analysis import adaptation, evaluation
from pipeline.analysis.adaptation import adapt, fine_tune
from pipeline.analysis.clustering import class_pairs, measure, moments, population, printed_r_fc
from pipeline.analysis.embedding import embed
from pipeline.analysis.evaluation import evaluate
from pipeline.analysis.features import Features
from pipeline.analysis.model import Weights
from pipeline.config.evaluation import Adaptation
from pipeline.config_files import merged
from pipeline.data.augmentation import Normalisation
from pipeline.data.episodes import Episodes, sample
from pipeline.data.packed import Packed
from pipeline.data.packing import pack
from pipeline.data.synthetic import Synthetic
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.machine import describe, prepare
from pipeline.models import conv4, r2d2
from pipeline.models.embedding import build
from pipeline.training import loop
from pipeline.training.adaptation import Initial
from pipeline.training.inner import SecondMoments
from tests.conftest import ALGORITHMS, BACKBONES, TINY

CPU = torch.device("cpu")
N_PAIRS = 40
WIDTH = BACKBONES["r2d2"]["width"]
CHANGES: dict[str, Any] = {
    "runs": {
        name: {
            "datasets": ["cifar_fs"],
            "backbone": BACKBONES[backbone],
            "training": {**ALGORITHMS[algorithm], "steps": 2, "validations": 1, **own},
        }
        for name, backbone, algorithm, own in [
            ("r2d2_classical", "r2d2", "classical", {}),
            ("r2d2_classical_hv", "r2d2", "classical", {"normalise": False}),
            ("maml_1shot", "conv4", "maml", {}),
            ("reptile", "conv4", "reptile", {}),
        ]
    },
    "adaptations": {
        "maml_fresh": {"n_episodes": 6, "n_query": 4, "steps": 2},
        "maml": {"n_episodes": 5, "n_query": 3, "steps": 2},
        "maml_inductive": {"n_episodes": 2, "n_query": 3, "steps": 2},
        "reptile": {"n_episodes": 4, "steps": 3},
        "reptile_inductive": {"n_episodes": 4, "steps": 3},
    },
    "evaluation": {"n_episodes": 30, "n_query": 4},
    "measurement": {"n_pairs": N_PAIRS, "base_images_per_class": 3},
}


def save_weights(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """As a run leaves them, of no run in particular."""
    path.write_bytes(tensor_files.dump(tensors, {}))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    prepare("cpu", 1)


def settings(verb: str, run: str = "r2d2_classical", **changes: Any) -> dict[str, Any]:
    experiment = config_files.load(merged(merged(TINY, CHANGES), changes))
    return jobs.settings(experiment, verb, dataset="tiny", run=run, seed=0)


@dataclass(frozen=True)
class Model:
    """A trained model and the place of its features."""

    run: str
    weights: Path
    features: Path


@pytest.fixture(scope="module")
def model(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Model]:
    """Trains each run once, two steps long, and embeds with it if it is classical."""
    made: dict[str, Model] = {}

    def trained(run: str) -> Model:
        if run not in made:
            folder = tmp_path_factory.mktemp(run)
            loop.train(settings("train", run), "digest", packed, folder, folder / "state", CPU)
            made[run] = Model(run, folder / "weights.safetensors", folder / "features")
            if "classical" in run:
                embed(
                    settings("embed", run),
                    "digest",
                    made[run].weights,
                    packed,
                    made[run].features,
                    CPU,
                )
        return made[run]

    return trained


def read(folder: Path, split: str) -> tuple[torch.Tensor, NDArray[np.int64]]:
    features, labels = Features(folder).split(split)
    return torch.from_numpy(np.array(features)), labels


def first_indices(packed: Packed, split: str, n: int) -> NDArray[np.int64]:
    """Where the first images of each class are; they stand together, classes in order."""
    each = packed.passport.images_per_class
    starts = each * np.arange(len(packed.passport.classes[split]))
    return (starts[:, None] + np.arange(n)).ravel()


# Embedding


@pytest.mark.parametrize("run", ["r2d2_classical", "r2d2_classical_hv"])
@pytest.mark.parametrize(("split", "n"), [("novel", 20), ("base", 3)])
def test_features_are_the_backbones_one_image_at_a_time(
    split: str, n: int, run: str, model: Callable[[str], Model], packed: Path
) -> None:
    """Of normalised images where the run says so, of pixels in [0, 1] otherwise."""
    images = Packed.open(packed)
    chosen = first_indices(images, split, n)
    features, labels = read(model(run).features, split)
    assert features.dtype == torch.float32
    assert labels.tolist() == images.labels(split)[chosen].tolist()
    assert len(features) == len(chosen)

    backbone = r2d2.build(16, width=WIDTH).eval()
    weights = load_file(model(run).weights)
    backbone.load_state_dict({name: weights[f"backbone.{name}"] for name in backbone.state_dict()})
    mean = std = None
    if run == "r2d2_classical":
        mean, std = images.passport.channel_mean, images.passport.channel_std
    for place in range(0, len(chosen), 7):
        pixels = images.images(split)[chosen[place]] / 255
        if mean is not None:
            pixels = (pixels - mean) / std
        alone = torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float()
        with torch.no_grad():
            torch.testing.assert_close(features[place], backbone(alone)[0], rtol=1e-4, atol=1e-5)


def test_runs_have_features_of_their_own(model: Callable[[str], Model]) -> None:
    one, other = (
        read(model(run).features, "novel")[0] for run in ("r2d2_classical", "r2d2_classical_hv")
    )
    assert one.shape == other.shape
    assert not torch.allclose(one, other)


def test_all_images_are_embedded_where_no_number_is_given(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    every = settings("embed", measurement={"base_images_per_class": None})
    trained = model("r2d2_classical")
    embed(every, "digest", trained.weights, packed, tmp_path, CPU)
    images = Packed.open(packed)
    features, labels = read(tmp_path, "base")
    assert labels.tolist() == images.labels("base").tolist()
    few = read(trained.features, "base")[0]
    torch.testing.assert_close(features[first_indices(images, "base", 3)], few)


def test_embedding_again_gives_the_same_bytes(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    trained = model("r2d2_classical")
    embed(settings("embed"), "digest", trained.weights, packed, tmp_path, CPU)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {
        "record.json", "base.npy", "base_labels.npy", "novel.npy", "novel_labels.npy"
    }  # fmt: skip
    for name in names - {"record.json"}:
        assert (tmp_path / name).read_bytes() == (trained.features / name).read_bytes()


def test_every_record_says_which_images_and_weights_it_is_of(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    trained = model("r2d2_classical")
    evaluate(settings("evaluate"), "digest", trained.features, tmp_path / "evaluation.json", CPU)
    measure(settings("measure"), "digest", trained.features, tmp_path / "measurement.json", CPU)
    adapt(settings("adapt"), "digest", trained.weights, packed, tmp_path / "adaptation.json", CPU)
    made: dict[str, tuple[records.Kind, Path]] = {
        "adapt": ("adaptation", tmp_path / "adaptation.json"),
        "embed": ("features", trained.features / "record.json"),
        "evaluate": ("evaluation", tmp_path / "evaluation.json"),
        "measure": ("measurement", tmp_path / "measurement.json"),
    }
    for verb, (kind, path) in made.items():
        record = records.read(path, kind)
        assert record.sources == {
            "images": Packed.open(packed).passport.fingerprint,
            "weights": hashlib.sha256(trained.weights.read_bytes()).hexdigest(),
        }
        assert record.settings == settings(verb)
        assert (record.dataset, record.stands_for) == ("tiny", "cifar_fs")
        assert (record.run, record.seed) == ("r2d2_classical", 0)
        assert (record.code, record.device) == ("digest", describe(CPU))
        assert record.wall_s > 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(
    value: float, model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    weights = load_file(model("r2d2_classical").weights)
    weights["backbone.block1.0.bias"][0] = value
    save_weights(weights, tmp_path / "diverged.safetensors")
    with pytest.raises(
        UserError, match=r"diverged.safetensors: features of novel images are not finite"
    ):
        embed(
            settings("embed"),
            "digest",
            tmp_path / "diverged.safetensors",
            packed,
            tmp_path / "out",
            CPU,
        )
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [None, b"", b"torn", "of a wider backbone"])
def test_weights_that_cannot_be_used_are_refused(
    content: bytes | str | None, packed: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    if isinstance(content, bytes):
        weights.write_bytes(content)
    elif content:
        wider = r2d2.build(16, width=2 * WIDTH).state_dict()
        save_weights({f"backbone.{name}": tensor for name, tensor in wider.items()}, weights)
    with pytest.raises(UserError, match=rf"(?s)cannot use the weights {weights}: .*run snakemake"):
        embed(settings("embed"), "digest", weights, packed, tmp_path / "out", CPU)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_said(
    model: Callable[[str], Model], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write goes to /dev/full."""

    def mkstemp(dir: Path, prefix: str, suffix: str) -> tuple[int, str]:
        path = dir / f"{prefix}full{suffix}"
        path.symlink_to("/dev/full")
        return os.open(path, os.O_WRONLY), str(path)

    weights = model("r2d2_classical").weights
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}/novel.npy: No space left"):
        embed(settings("embed"), "digest", weights, packed, tmp_path, CPU)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copied(model: Callable[[str], Model], tmp_path: Path) -> Path:
    """A copy of a model's features, to be damaged."""
    for file in model("r2d2_classical").features.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def forget_checksums(features: Path) -> None:
    """Let the record say nothing of its files, which are about to be of another content."""
    content = json.loads((features / "record.json").read_text())
    content["values"] = {}
    write_json(features / "record.json", records.sealed(content))


@pytest.mark.parametrize("forgets", [True, False])
@pytest.mark.parametrize("size", [0, 3, 60, 128, 500])
@pytest.mark.parametrize("name", ["novel", "novel_labels"])
def test_a_torn_feature_file_is_refused(name: str, size: int, forgets: bool, copied: Path) -> None:
    """Empty, or cut in its first word, in its header, just after it, and in its numbers."""
    if forgets:
        forget_checksums(copied)
    path = copied / f"{name}.npy"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        UserError, match=f"cannot read the features of novel in {copied}: .*run snakemake again"
    ):
        evaluate(settings("evaluate"), "digest", copied, copied / "out.json", CPU)
    assert not (copied / "out.json").exists()


@pytest.mark.parametrize("name", ["novel", "novel_labels", "base", "base_labels"])
@pytest.mark.parametrize("place", [-1, -500, 200])
def test_a_feature_file_with_a_flipped_bit_is_refused(name: str, place: int, copied: Path) -> None:
    path = copied / f"{name}.npy"
    content = bytearray(path.read_bytes())
    content[place] ^= 16
    path.write_bytes(content)
    message = rf"cannot read the features of {name.split('_')[0]} in .*: {name}.npy is not the file"
    with pytest.raises(UserError, match=message):
        measure(settings("measure"), "digest", copied, copied / "out.json", CPU)
    assert not (copied / "out.json").exists()


@pytest.mark.parametrize("verb", ["evaluate", "measure"])
def test_features_of_another_run_are_refused(verb: str, copied: Path) -> None:
    work = {"evaluate": evaluate, "measure": measure}[verb]
    other = settings(verb, "r2d2_classical_hv")
    with pytest.raises(
        UserError, match=f"{copied} is of run r2d2_classical, not r2d2_classical_hv"
    ):
        work(other, "digest", copied, copied / "out.json", CPU)


@pytest.mark.parametrize("verb", ["embed", "adapt"])
def test_weights_of_another_run_are_refused(
    verb: str, model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    work = {"embed": embed, "adapt": adapt}[verb]
    weights = model("r2d2_classical").weights
    other = settings(verb, "r2d2_classical_hv")
    message = (
        f"cannot use the weights {weights}: they are of run r2d2_classical, not r2d2_classical_hv"
    )
    with pytest.raises(UserError, match=message):
        work(other, "digest", weights, packed, tmp_path / "out", CPU)


def test_a_missing_feature_file_is_refused(copied: Path) -> None:
    (copied / "base.npy").unlink()
    with pytest.raises(UserError, match=f"cannot read the features of base in {copied}"):
        measure(settings("measure"), "digest", copied, copied / "out.json", CPU)


def test_a_pickle_is_not_read_as_features(copied: Path) -> None:
    np.save(copied / "novel.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="cannot read the features of novel"):
        Features(copied).split("novel")


def test_features_without_their_record_are_refused(copied: Path) -> None:
    (copied / "record.json").unlink()
    with pytest.raises(UserError, match=r"cannot read the record .*record.json"):
        evaluate(settings("evaluate"), "digest", copied, copied / "out.json", CPU)


# Evaluation


def evaluated(trained: Model, folder: Path, **changes: Any) -> records.Record:
    out = folder / f"{trained.run}.json"
    evaluate(settings("evaluate", trained.run, **changes), "digest", trained.features, out, CPU)
    return records.read(out, "evaluation")


def svm_by_descent(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """W of Crammer & Singer's dual with C = 0.1 and a jitter of 1, by projected gradients.

    Of x (episode, support, feature) and one-hot y: (episode, feature, way). Rows of alpha sum to
    zero and are at most C y.
    """
    kernel = x @ x.transpose(0, 2, 1) + np.eye(x.shape[1])
    step = 1 / np.linalg.eigvalsh(kernel).max(1)[:, None, None]
    alpha = ahead = np.zeros((*x.shape[:2], y.shape[1]))
    for index in range(1, 800):
        aim, before = ahead - step * (kernel @ ahead - y), alpha
        low, high = aim.min(-1, keepdims=True) - 1, aim.max(-1, keepdims=True) + 1
        for _ in range(30):
            shift = (low + high) / 2
            above = np.minimum(aim - shift, 0.1 * y).sum(-1, keepdims=True) > 0
            low, high = np.where(above, shift, low), np.where(above, high, shift)
        alpha = np.minimum(aim - high, 0.1 * y)
        ahead = alpha + index / (index + 3) * (alpha - before)
    return x.transpose(0, 2, 1) @ alpha


def test_accuracies_are_those_of_the_heads_by_their_definition(
    model: Callable[[str], Model], tmp_path: Path
) -> None:
    """Ridge regression by the normal equations, the SVM by descent, prototypes by distances."""
    trained = model("r2d2_classical")
    values = evaluated(trained, tmp_path).values
    features, labels = read(trained.features, "novel")
    inputs = features.double().numpy()
    assert values["n_queries"] == 5 * 4
    assert values["correct"].keys() == {"1", "5"}
    for n_shot in (1, 5):
        episodes = sample(
            labels, n_way=5, n_shot=n_shot, n_query=4, n_episodes=30, seed=0,
            stream=f"tiny novel 5 way {n_shot} shot",
        )  # fmt: skip
        expected: dict[str, list[int]] = {"ridge": [], "svm": [], "prototypes": []}
        y = np.eye(5).repeat(n_shot, 0)
        svms = svm_by_descent(inputs[episodes.support].reshape(30, 5 * n_shot, -1), y)
        for support, query, svm in zip(
            inputs[episodes.support], inputs[episodes.query], svms, strict=True
        ):
            x = support.reshape(5 * n_shot, -1)
            w = np.linalg.solve(x.T @ x + 50 * np.eye(x.shape[1]), x.T @ y)
            distances = ((query[:, :, None] - support.mean(1)) ** 2).sum(-1)
            for name, chosen in {
                "ridge": (query @ w).argmax(-1),
                "svm": (query @ svm).argmax(-1),
                "prototypes": distances.argmin(-1),
            }.items():
                expected[name].append(int((chosen == np.arange(5)[:, None]).sum()))
        for name, counts in values["correct"][str(n_shot)].items():
            # In single precision a query between two classes may fall to either.
            assert np.abs(np.subtract(counts, expected.pop(name))).sum() <= 1
        assert not expected


def test_evaluating_again_gives_the_same_counts(
    model: Callable[[str], Model], tmp_path: Path
) -> None:
    trained = model("r2d2_classical")
    first = evaluated(trained, tmp_path).values
    assert evaluated(trained, tmp_path).values == first
    assert evaluated(trained, tmp_path, evaluation={"seed": 1}).values != first
    more = evaluated(trained, tmp_path, evaluation={"n_episodes": 40}).values
    for n_shot, counts in first["correct"].items():
        assert {head: part[:30] for head, part in more["correct"][n_shot].items()} == counts


def test_all_models_meet_the_same_episodes(
    model: Callable[[str], Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Episodes] = []

    def sample_and_keep(labels: NDArray[np.int64], **arguments: Any) -> Episodes:
        drawn.append(sample(labels, **arguments))
        return drawn[-1]

    monkeypatch.setattr(evaluation, "sample", sample_and_keep)
    values = [
        evaluated(model(run), tmp_path).values for run in ("r2d2_classical", "r2d2_classical_hv")
    ]
    assert values[0] != values[1]
    assert [len(one.support[0, 0]) for one in drawn] == [1, 5, 1, 5]
    for one, other in zip(drawn[:2], drawn[2:], strict=True):
        np.testing.assert_array_equal(one.support, other.support)
        np.testing.assert_array_equal(one.query, other.query)


# Measures


def measured(trained: Model, folder: Path) -> dict[str, Any]:
    out = folder / f"{trained.run}.json"
    measure(settings("measure", trained.run), "digest", trained.features, out, CPU)
    return records.read(out, "measurement").values


def test_measures_are_kept_for_every_pair(model: Callable[[str], Model], tmp_path: Path) -> None:
    values = measured(model("r2d2_classical"), tmp_path)
    assert values.keys() == {"base", "novel"}
    for split, n_classes, n_images in (("base", 64, 3), ("novel", 20, 20)):
        part = values[split]
        assert part.keys() == {
            "n_classes", "images_per_class", "r_fc_printed", "population", "pairs"
        }  # fmt: skip
        assert (part["n_classes"], part["images_per_class"]) == (n_classes, n_images)
        assert part["pairs"].keys() == {"r_fc_released", "r_hv_released", "r_hv_printed"}
        for samples in part["pairs"].values():
            assert len(samples) == N_PAIRS
            assert np.isfinite(samples).all()
            assert min(samples) >= 0
        assert max(part["pairs"]["r_hv_printed"]) <= 1
        assert max(part["pairs"]["r_hv_released"]) <= 4
        assert 0 < part["r_fc_printed"] < np.inf
        assert part["population"].keys() == {"r_fc", "r_hv", "within", "between"}


def test_measures_are_those_of_the_papers_formulas(
    model: Callable[[str], Model], tmp_path: Path
) -> None:
    trained = model("r2d2_classical")
    values = measured(trained, tmp_path)
    for split in ("base", "novel"):
        features, labels = read(trained.features, split)
        inputs = features.double().numpy()
        pairs = values[split]["pairs"]
        for place, ((x1, x2), (y1, y2)) in enumerate(
            inputs[class_pairs(labels, N_PAIRS, seed=0, split=split)]
        ):
            x, y = (x1 + x2) / 2, (y1 + y2) / 2
            within = sum(((a - b) ** 2).sum() for a, b in ((x1, x), (x2, x), (y1, y), (y2, y)))
            between = ((x - (x + y) / 2) ** 2).sum() + ((y - (x + y) / 2) ** 2).sum()
            change = np.linalg.norm((x1 - y1) - (x2 - y2))
            total = np.linalg.norm(x1 - y1) + np.linalg.norm(x2 - y2)
            found = {name: samples[place] for name, samples in pairs.items()}
            assert found == pytest.approx(
                {
                    "r_fc_released": within / (between + 1e-6),
                    "r_hv_released": (change / (total / 2 + 1e-4)) ** 2,
                    "r_hv_printed": change / total,
                },
                rel=1e-4,
            )
        found = moments(features, labels, CPU)
        assert values[split]["r_fc_printed"] == pytest.approx(float(printed_r_fc(found)))
        assert values[split]["population"] == pytest.approx(
            {name: float(value) for name, value in population(found).items()}
        )


def test_classes_may_have_unequally_many_images(copied: Path) -> None:
    """The printed R_FC is of the first images of each, the population's of all."""
    features, labels = (np.load(copied / f"{name}.npy") for name in ("novel", "novel_labels"))
    kept = np.flatnonzero(np.arange(len(labels)) != np.flatnonzero(labels == 7)[-1])
    np.save(copied / "novel.npy", features[kept])
    np.save(copied / "novel_labels.npy", labels[kept])
    forget_checksums(copied)
    measure(settings("measure"), "digest", copied, copied / "out.json", CPU)
    part = records.read(copied / "out.json", "measurement").values["novel"]
    assert part["images_per_class"] == 19
    rest = torch.from_numpy(features[kept])
    every, first = (moments(rest, labels[kept], CPU, n) for n in (None, 19))
    assert part["r_fc_printed"] == pytest.approx(float(printed_r_fc(first)))
    assert part["population"]["within"] == pytest.approx(float(every.spreads.mean()))
    assert part["population"]["within"] != pytest.approx(float(first.spreads.mean()))


@pytest.mark.parametrize("value", [1.0, 1e30])
def test_measures_that_are_not_finite_are_refused(value: float, copied: Path) -> None:
    """Of features that are all alike, and of such as are too large to be squared."""
    features = np.load(copied / "base.npy")
    features[:] = value
    features[0, 0] = value if value == 1.0 else -value
    np.save(copied / "base.npy", features)
    forget_checksums(copied)
    with pytest.raises(UserError, match=f"{copied}: R_FC or R_HV of base classes is not finite"):
        measure(settings("measure"), "digest", copied, copied / "out.json", CPU)
    assert not (copied / "out.json").exists()


def test_a_record_of_measures_is_json_that_all_can_read(
    model: Callable[[str], Model], tmp_path: Path
) -> None:
    measured(model("r2d2_classical"), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / "r2d2_classical.json").read_text(), parse_constant=refuse)


# Gradient steps

FIELDS = {"correct", "distance", "distance_with_head", "length", "loss_before", "loss_after"}


def adapted(run: str, trained: Model, packed: Path, folder: Path, **changes: Any) -> records.Record:
    out = folder / f"{run} adapted.json"
    adapt(settings("adapt", run, **changes), "digest", trained.weights, packed, out, CPU)
    return records.read(out, "adaptation")


def initial(run: str, weights: Path, *, head: bool = True, moments: bool = True) -> Initial:
    """What a run of ``conv4`` or ``r2d2`` left, put together by hand."""
    tensors = load_file(weights)

    def part(name: str) -> dict[str, torch.Tensor]:
        start = f"{name}."
        return {key[len(start) :]: one for key, one in tensors.items() if key.startswith(start)}

    backbone = build(settings("adapt", run)["backbone"], 16)
    backbone.load_state_dict(part("backbone"))
    n_features = backbone.eval()(torch.zeros(1, 3, 16, 16)).shape[1]
    layer = remembered = None
    if head:
        layer = torch.nn.Linear(n_features, 64 if "classical" in run else 5)
        layer.load_state_dict(part("head"))
        if moments:
            remembered = SecondMoments(part("moments")["squares"])
            remembered.load_state_dict(part("moments"))
    return Initial(backbone, n_features, layer, remembered)


@pytest.mark.parametrize("run", ["r2d2_classical", "maml_1shot", "reptile"])
def test_a_record_is_of_fine_tuning_what_the_run_left(
    run: str, model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    trained, images = model(run), Packed.open(packed)
    wanted = settings("adapt", run)
    values = adapted(run, trained, packed, tmp_path).values
    start = initial(run, trained.weights, head=run != "r2d2_classical", moments=run == "reptile")
    assert values.keys() == wanted["adaptations"].keys() >= {"maml_fresh"}
    for name, options in wanted["adaptations"].items():
        one = Adaptation.model_validate(options)
        assert values[name]["n_queries"] == 5 * one.n_query
        for shot in ("1", "5"):
            episodes = sample(
                images.labels("novel"), n_way=5, n_shot=int(shot), n_query=one.n_query,
                n_episodes=one.n_episodes, seed=0, stream=f"tiny novel 5 way {shot} shot",
            )  # fmt: skip
            passport = images.passport
            normalised = Normalisation(passport.channel_mean, passport.channel_std)
            expected = fine_tune(
                start,
                one,
                torch.from_numpy(np.array(images.images("novel"))),
                normalised if run == "r2d2_classical" else Normalisation(),
                episodes,
                0,
            )
            found = {field: part[shot] for field, part in values[name].items() if field in FIELDS}
            assert found.keys() == FIELDS
            for field, samples in found.items():
                assert samples == pytest.approx(getattr(expected, field).tolist(), rel=1e-6)
                assert len(samples) == one.n_episodes
            assert found["correct"] == expected.correct.tolist()
        assert values[name].keys() == {"n_queries", *FIELDS}
        assert all(values[name][field].keys() == {"1", "5"} for field in FIELDS)


def test_a_head_that_starts_at_zero_has_no_distance_in_the_record(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    zero = {"maml_fresh": {"new_head": "zero"}}
    record = adapted("r2d2_classical", model("r2d2_classical"), packed, tmp_path, adaptations=zero)
    assert record.values["maml_fresh"].keys() == {"n_queries", *FIELDS} - {"distance_with_head"}


def test_adapting_again_gives_the_same_counts(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    """Of another seed other counts; with more episodes the first are the same."""
    trained = model("reptile")
    first = adapted("reptile", trained, packed, tmp_path).values
    assert adapted("reptile", trained, packed, tmp_path).values == first
    assert adapted("reptile", trained, packed, tmp_path, evaluation={"seed": 1}).values != first
    more = {"maml_fresh": {"n_episodes": 9}}
    second = adapted("reptile", trained, packed, tmp_path, adaptations=more).values
    for shot, counts in first["maml_fresh"]["correct"].items():
        assert second["maml_fresh"]["correct"][shot][:6] == counts
    assert {**second, "maml_fresh": None} == {**first, "maml_fresh": None}


def test_heads_and_gradient_steps_meet_the_same_episodes(
    model: Callable[[str], Model], packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where both have as many queries per class, as many episodes as the shorter has."""
    drawn: list[Episodes] = []

    def sample_and_keep(labels: NDArray[np.int64], **arguments: Any) -> Episodes:
        drawn.append(sample(labels, **arguments))
        return drawn[-1]

    monkeypatch.setattr(evaluation, "sample", sample_and_keep)
    monkeypatch.setattr(adaptation, "sample", sample_and_keep)
    trained = model("r2d2_classical")
    evaluated(trained, tmp_path)
    adapted("r2d2_classical", trained, packed, tmp_path)
    assert [one.query.shape for one in drawn] == [*2 * [(30, 5, 4)], *2 * [(6, 5, 4)]]
    for one, other in zip(drawn[:2], drawn[2:], strict=True):
        np.testing.assert_array_equal(one.support[:6], other.support)
        np.testing.assert_array_equal(one.query[:6], other.query)


def test_weights_are_read_by_part(model: Callable[[str], Model]) -> None:
    """Each algorithm leaves what fine-tuning can start from."""
    parts = {
        run: {
            name
            for name in ("backbone", "head", "moments")
            if Weights(model(run).weights, {}).part(name)
        }
        for run in ("r2d2_classical", "maml_1shot", "reptile")
    }
    assert parts == {
        "r2d2_classical": {"backbone"},
        "maml_1shot": {"backbone", "head"},
        "reptile": {"backbone", "head", "moments"},
    }
    weights = Weights(model("reptile").weights, {})
    assert weights.sha256 == hashlib.sha256(model("reptile").weights.read_bytes()).hexdigest()
    tensors = load_file(model("reptile").weights)
    assert sum(len(weights.part(name)) for name in ("backbone", "head", "moments")) == len(tensors)
    torch.testing.assert_close(weights.part("head")["bias"], tensors["head.bias"])
    assert int(weights.part("moments")["steps"]) > 0
    assert not weights.part("hea")


@pytest.mark.parametrize("verb", ["train", "embed", "adapt"])
def test_images_of_another_data_set_are_refused(
    verb: str, model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    """Or generated images would stand in a table under the name of real ones."""
    own = {**settings(verb, "maml_1shot"), "dataset": "cifar_fs"}
    weights, out = model("maml_1shot").weights, tmp_path / "out"
    job = {
        "train": partial(loop.train, own, "digest", packed, out, tmp_path / "state", CPU),
        "embed": partial(embed, own, "digest", weights, packed, out, CPU),
        "adapt": partial(adapt, own, "digest", weights, packed, out, CPU),
    }[verb]
    with pytest.raises(UserError, match=f"{packed} holds tiny, not cifar_fs; see --data"):
        job()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("job", [embed, adapt])
def test_images_other_than_a_model_was_trained_on_are_refused(
    job: Callable[..., None], model: Callable[[str], Model], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    pack(Synthetic(image_size=16, images_per_class=20, seed=1), "tiny", other, workers=1)
    own, weights = settings(job.__name__, "maml_1shot"), model("maml_1shot").weights
    with pytest.raises(UserError, match=f"weights {weights}: they are of images .*, not "):
        job(own, "digest", weights, other, tmp_path / "out", CPU)
    assert list(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("part", ["backbone", "head", "moments"])
@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_a_part_that_does_not_fit_is_refused(
    change: str, part: str, model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    tensors = load_file(model("reptile").weights)
    name = min(key for key in tensors if key.startswith(f"{part}.") and tensors[key].ndim == 1)
    del tensors[name]
    if change == "misshapen":
        tensors[name] = torch.zeros(3, 3)
    path = tmp_path / "weights.safetensors"
    save_weights(tensors, path)
    with pytest.raises(UserError, match=rf"(?s)cannot use the weights {path}: .*run snakemake"):
        adapt(settings("adapt", "reptile"), "digest", path, packed, tmp_path / "out.json", CPU)
    assert not (tmp_path / "out.json").exists()


def test_a_backbone_is_read_ready_to_be_used(model: Callable[[str], Model]) -> None:
    weights = Weights(model("maml_1shot").weights, {})
    options = settings("adapt", "maml_1shot")["backbone"]
    backbone = weights.backbone(options, 16, CPU)
    assert isinstance(backbone, conv4.Conv4)
    assert not any(module.training for module in backbone.modules())
    for name, tensor in backbone.state_dict().items():
        torch.testing.assert_close(tensor, weights.part("backbone")[name], rtol=0, atol=0)


def test_fine_tuning_that_diverges_is_refused(
    model: Callable[[str], Model], packed: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="not finite after fine-tuning; lower lr of the adaptation"):
        adapted(
            "r2d2_classical",
            model("r2d2_classical"),
            packed,
            tmp_path,
            adaptations={"maml_fresh": {"lr": 1e30, "steps": 4}},
        )
    assert not list(tmp_path.iterdir())


def test_pixels_are_normalised_where_it_is_wanted(packed: Path) -> None:
    passport = Packed.open(packed).passport
    found = Normalisation.of(passport, True)
    assert found == Normalisation(passport.channel_mean, passport.channel_std)
    assert Normalisation.of(passport, False) == Normalisation()
