"""The plane of Figure 2: whose images it is fitted on, what it shows, and how apart classes are."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import ortho_group
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from pipeline import records
from pipeline.analysis.projection import (
    COMPONENTS,
    discriminant_plane,
    draws,
    in_units_of_spread,
    principal_axes,
    project,
    variance_ratio,
)
from pipeline.errors import UserError
from pipeline.files import sha256, write_json
from pipeline.regularizers import feature_clustering

ROOT = Path(__file__).parents[2]
PANELS = ("held_out", "in_sample")
SETTINGS: dict[str, Any] = {
    "scale": "demo",
    "dataset": "tiny",
    "stands_for": "mini_imagenet",
    "run": "conv64_protonet",
    "seed": 0,
    "n_classes": 3,
    "n_images": 100,
    "n_fit": 500,
    "n_draws": 3,
    "projection_seed": 0,
}
# Classes of unequal size whose images stand in no order.
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), [30, 40, 35, 31, 33]))


def classes(n: int, distance: float, n_features: int = 40, seed: int = 0) -> NDArray[np.float64]:
    """Three Gaussian classes of unit variance, (class, image, feature); pure noise at 0."""
    random = np.random.default_rng(seed)
    centres = distance * np.eye(3, n_features)
    return centres[:, None] + random.standard_normal((3, n, n_features))


def write(folder: Path, features: NDArray[Any], labels: NDArray[np.int64], **model: Any) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "novel.npy", features.astype(np.float32))
    np.save(folder / "novel_labels.npy", labels)
    records.write(
        folder / "record.json",
        "features",
        SETTINGS | model,
        code="digest",
        sources={"images": "fingerprint", "weights": "hash"},
        device="cpu",
        wall_s=1.0,
        values={},
    )
    return folder


def projected(folder: Path, name: str = "out.json", **changes: Any) -> dict[str, Any]:
    project({**SETTINGS, **changes}, "digest", folder, folder / name)
    return records.read(folder / name, "projection").values


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of five classes that know nothing of them, more than images, as in the paper."""
    features = np.random.default_rng(0).standard_normal((5 * 200, 400))
    return write(tmp_path_factory.mktemp("noise"), features, np.repeat(np.arange(5), 200))


@pytest.fixture(scope="module")
def separated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(5), 200))
    features = 8 * np.eye(5, 400)[labels] + random.standard_normal((1000, 400))
    return write(tmp_path_factory.mktemp("separated"), features, labels)


# Which classes and images


def test_a_draw_is_of_different_classes_with_images_to_show_and_others() -> None:
    for draw in draws(LABELS, {**SETTINGS, "n_images": 12, "n_draws": 20}, n_fit=18):
        assert len(set(draw.classes.tolist())) == 3
        assert draw.shown.shape == (3, 12)
        assert draw.others.shape == (3, 18)
        both = np.concatenate([draw.shown, draw.others], 1)
        assert (LABELS[both] == draw.classes[:, None]).all()
        assert len(np.unique(both)) == both.size


def test_every_class_and_image_can_be_shown() -> None:
    drawn = list(draws(LABELS, {**SETTINGS, "n_images": 12, "n_draws": 100}, n_fit=18))
    assert {one for draw in drawn for one in draw.classes.tolist()} == set(range(5))
    assert len(np.unique([draw.shown for draw in drawn])) == len(LABELS)


def shown(n_fit: int = 18, labels: NDArray[np.int64] = LABELS, **changes: Any) -> NDArray[Any]:
    drawn = draws(labels, {**SETTINGS, "n_images": 12, "n_draws": 4, **changes}, n_fit)
    return np.array([draw.shown for draw in drawn])


def test_shown_images_depend_on_data_set_and_projection_seed_alone() -> None:
    """Never on the model, nor on how many are fitted on; more draws begin with those of fewer."""
    for changes in ({"run": "conv64_classical"}, {"seed": 5}, {"n_fit": 4}):
        np.testing.assert_array_equal(shown(**{"n_fit": 18, **changes}), shown())
    np.testing.assert_array_equal(shown(n_draws=9)[:4], shown())
    assert not np.array_equal(shown(dataset="other"), shown())
    assert not np.array_equal(shown(projection_seed=1), shown())


def test_all_models_of_a_data_set_show_the_same_classes(
    noise: Path, separated: Path, tmp_path: Path
) -> None:
    model = {"run": "conv64_classical", "seed": 3}
    features, labels = (np.load(separated / f"{name}.npy") for name in ("novel", "novel_labels"))
    other = write(tmp_path, features, labels, **model)
    assert projected(noise)["classes"] == projected(other, **model)["classes"]


def test_features_of_another_model_are_refused(noise: Path) -> None:
    with pytest.raises(UserError, match=f"{noise} is of seed 0, not 3; correct the path"):
        projected(noise, seed=3)


@pytest.mark.parametrize("name", ["novel.npy", "novel_labels.npy"])
def test_features_that_changed_on_disk_are_refused(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path, classes(200, 3).reshape(-1, 40), np.repeat(np.arange(3), 200))
    values = {"sha256": {name: sha256(folder / name)}}
    made = records.read(folder / "record.json", "features").model_copy(update={"values": values})
    write_json(folder / "record.json", records.sealed(made.model_dump()))
    projected(folder)
    content = bytearray((folder / name).read_bytes())
    content[-5] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(
        UserError, match=f"cannot read the features of novel in .*: {name} is not the file"
    ):
        projected(folder)


def test_the_verb_needs_no_torch(noise: Path, tmp_path: Path) -> None:
    options = {"settings": json.dumps(SETTINGS), "features": noise, "out": tmp_path / "out.json"}
    arguments = [
        "project",
        *(str(part) for name in options for part in (f"--{name}", options[name])),
    ]
    script = (
        "import sys; from pipeline.__main__ import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    command = [sys.executable, "-c", script, *arguments]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    records.read(tmp_path / "out.json", "projection")


@pytest.mark.parametrize(("n_fit", "given"), [(500, 100), (60, 60)])
def test_as_many_others_are_fitted_on_as_there_are(n_fit: int, given: int, noise: Path) -> None:
    assert projected(noise, n_fit=n_fit)["n_fit"] == given


# The plane


@pytest.mark.parametrize("n_features", [30, 400])
def test_the_plane_is_scikit_learns_lda_of_principal_components(n_features: int) -> None:
    """With features fewer and more than images; its solver that does not shrink."""
    fitted_on, seen = classes(90, 3, n_features), classes(20, 3, n_features, seed=1)
    components = PCA(min(45, n_features), svd_solver="full").fit(fitted_on.reshape(270, -1))
    lda = LinearDiscriminantAnalysis(n_components=2).fit(
        components.transform(fitted_on.reshape(270, -1)), np.repeat([0, 1, 2], 90)
    )
    expected = lda.transform(components.transform(seen.reshape(60, -1))).reshape(3, 20, 2)
    points = discriminant_plane(fitted_on, seen)
    assert variance_ratio(points) == pytest.approx(variance_ratio(expected))
    np.testing.assert_allclose(in_units_of_spread(points), in_units_of_spread(expected), atol=1e-8)


def test_no_plane_separates_the_fitted_components_better() -> None:
    """The first direction has the lowest ratio of all directions."""
    fitted_on = classes(100, 2, 10)
    best = variance_ratio(discriminant_plane(fitted_on, fitted_on)[..., :1])
    for direction in np.random.default_rng(1).standard_normal((200, 10, 1)):
        assert variance_ratio(fitted_on @ direction) > best


def test_few_images_have_fewer_components() -> None:
    """Six images to each, so that a plane is never fitted to as many directions as images."""
    for n_images, n_features, n_axes in [
        (300, 400, 50),
        (60, 400, 10),
        (600, 7, 7),
        (900, 400, 50),
    ]:
        images = np.random.default_rng(0).standard_normal((n_images, n_features))
        axes = principal_axes(images - images.mean(0))
        assert axes.shape == (n_features, n_axes)
        np.testing.assert_allclose(axes.T @ axes, np.eye(n_axes), atol=1e-10)
    assert COMPONENTS == 50


def test_directions_without_variance_are_left_out() -> None:
    """Of 40 features three vary; float32 leaves a rest of rounding in the others."""
    basis = np.random.default_rng(0).standard_normal((3, 40))
    images = (classes(100, 2, 3).reshape(300, 3) @ basis).astype(np.float32)
    assert principal_axes(images - images.mean(0)).shape == (40, 3)


@pytest.mark.parametrize("n_features", [30, 400])
def test_ratios_are_the_same_for_scaled_and_rotated_features(n_features: int) -> None:
    fitted_on, seen = classes(90, 2, n_features), classes(20, 2, n_features, seed=1)
    ratio = variance_ratio(discriminant_plane(fitted_on, seen))
    turn = ortho_group.rvs(n_features, random_state=0)
    for changed in (
        lambda images: 1e3 * images,
        lambda images: images + 7,
        lambda images: images @ turn,
    ):
        plane = discriminant_plane(changed(fitted_on), changed(seen))
        assert variance_ratio(plane) == pytest.approx(ratio, rel=1e-6)


def test_separated_classes_have_a_low_ratio_on_other_images(separated: Path) -> None:
    """Their centres are 8 sqrt(2) apart with unit variance along each of two axes."""
    values = projected(separated)
    assert values["held_out"]["ratios"] == pytest.approx([2 / (2 / 3 * 8**2)] * 3, rel=0.2)


def test_in_sample_noise_looks_separated_and_held_out_it_does_not(noise: Path) -> None:
    """Why the plane must be fitted on other images."""
    values = projected(noise, n_draws=10)
    assert max(values["in_sample"]["ratios"]) < 8
    assert min(values["held_out"]["ratios"]) > 30


def test_weakly_separated_classes_are_not_lost() -> None:
    """As they are by scikit-learn's solver with shrinkage, among features of unequal variance."""
    random = np.random.default_rng(0)
    scale = 1 / np.sqrt(1 + np.arange(800))
    centres = random.standard_normal((3, 1, 800)) * scale * 10 / np.sqrt(800)
    fitted_on, seen = (centres + random.standard_normal((3, n, 800)) * scale for n in (500, 100))
    shrunk = LinearDiscriminantAnalysis("eigen", shrinkage="auto", n_components=2)
    axes = principal_axes((fitted_on - fitted_on.mean((0, 1))).reshape(1500, 800))
    shrunk.fit((fitted_on @ axes).reshape(1500, -1), np.repeat([0, 1, 2], 500))
    theirs = shrunk.transform((seen @ axes).reshape(300, -1)).reshape(3, 100, 2)
    ours = variance_ratio(discriminant_plane(fitted_on, seen))
    assert ours < 0.3
    assert variance_ratio(theirs) > 3 * ours


# The ratio and the units


def test_the_ratio_is_that_of_variances() -> None:
    """The printed one divides by the images of a class, not of all: three times as much here."""
    points = classes(50, 3, 2)
    printed = float(feature_clustering.ratio(torch.from_numpy(points)))
    assert variance_ratio(points) == pytest.approx(printed / 3)
    means = points.mean(1)
    within = ((points - means[:, None]) ** 2).sum(-1).mean()
    between = np.mean(((means - means.mean(0)) ** 2).sum(-1))
    assert variance_ratio(points) == pytest.approx(within / between)


@pytest.mark.parametrize("distance", [0.5, 20])
def test_clusters_of_all_models_are_equally_large(distance: float) -> None:
    points = 1e-3 * classes(100, distance, 2)
    scaled = in_units_of_spread(points)
    assert scaled.var(1).mean() == pytest.approx(1)
    assert scaled.mean((0, 1)) == pytest.approx([0, 0])
    assert variance_ratio(scaled) == pytest.approx(variance_ratio(points))


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_first_class_lies_to_the_upper_right(signs: tuple[int, int]) -> None:
    points = classes(50, 4, 2)
    np.testing.assert_array_equal(in_units_of_spread(points * signs), in_units_of_spread(points))
    assert (in_units_of_spread(points)[0].mean(0) > 0).all()


# The record


def test_the_record_holds_the_points_of_the_first_draw_and_ratios_of_all(separated: Path) -> None:
    values = projected(separated)
    assert values.keys() == {"classes", "n_fit", *PANELS}
    for panel in PANELS:
        points = np.array(values[panel]["points"])
        assert points.shape == (3, 100, 2)
        assert len(values[panel]["ratios"]) == 3
        assert values[panel]["ratios"][0] == pytest.approx(variance_ratio(points), rel=1e-4)
        assert (points == points.round(5)).all()
    assert values["held_out"] != values["in_sample"]


def test_the_record_says_what_it_is_of(separated: Path) -> None:
    projected(separated)
    record = records.read(separated / "out.json", "projection")
    assert record.sources == {"images": "fingerprint", "weights": "hash"}
    assert (record.dataset, record.stands_for) == ("tiny", "mini_imagenet")
    assert (record.run, record.seed, record.code) == ("conv64_protonet", 0, "digest")
    assert (record.settings, record.device) == (SETTINGS, "cpu")


def test_projecting_again_gives_the_same_values(separated: Path) -> None:
    one, other = (projected(separated, name) for name in ("one.json", "other.json"))
    assert json.dumps(one) == json.dumps(other)


# Refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"n_images": 197},
            r"n_images: 197 images to show \+ at least 4 to fit on = 201 images of a class, "
            "but class 0 has 200; change it under projection in config.yaml",
        ),
        ({"n_classes": 6}, "n_classes: 6 is more than the 5 novel classes that there are"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    changes: dict[str, int], message: str, noise: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        project({**SETTINGS, **changes}, "digest", noise, tmp_path / "out.json")
    assert not list(tmp_path.iterdir())


def test_as_few_images_as_are_allowed_have_a_plane(noise: Path) -> None:
    values = projected(noise, "few.json", n_images=196)
    assert values["n_fit"] == 4
    assert np.isfinite([values[panel]["ratios"] for panel in PANELS]).all()


@pytest.mark.parametrize("alike", ["everywhere", "but in one direction", "within classes"])
def test_features_that_are_alike_are_refused(alike: str, tmp_path: Path) -> None:
    labels = np.repeat(np.arange(3), 200)
    features = np.ones((600, 20))
    if alike == "but in one direction":
        features[:, 3] = np.random.default_rng(0).standard_normal(600)
    elif alike == "within classes":
        features = np.eye(3, 20)[labels]
    folder = write(tmp_path, features, labels)
    with pytest.raises(UserError, match=r"vary in fewer than two directions, .* failed to learn"):
        projected(folder)
    assert not (folder / "out.json").exists()


@pytest.mark.parametrize("content", [None, b"", b"torn", "cut", "pickled"])
@pytest.mark.parametrize("name", ["novel", "novel_labels"])
def test_feature_files_that_cannot_be_read_are_refused(
    name: str, content: bytes | str | None, tmp_path: Path
) -> None:
    folder = write(tmp_path, classes(200, 3).reshape(600, -1), np.repeat(np.arange(3), 200))
    path = folder / f"{name}.npy"
    if content == "cut":
        content = path.read_bytes()[:-10]
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "pickled":
        np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    else:
        path.unlink()
    with pytest.raises(
        UserError, match=f"cannot read the features of novel in {folder}: .*run snakemake again"
    ):
        projected(folder)
