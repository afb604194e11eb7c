"""Linear CKA against its definitions, and the record that compares a run with its twins."""

import itertools
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline import records
from pipeline.analysis import cka
from pipeline.analysis.cka import Centred, Similarities, similarities, stratified_folds
from pipeline.analysis.similarity import compare
from pipeline.errors import UserError

CPU = torch.device("cpu")
Matrix = NDArray[Any]


def draw(n_images: int, n_features: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).standard_normal((n_images, n_features))


def related(*n_features: int, n_images: int = 60, seed: int = 0) -> list[Matrix]:
    """Features of several models that share three directions, away from the origin."""
    shared = draw(n_images, 3, seed)
    return [
        3 + shared @ draw(3, n, seed + place) + draw(n_images, n, seed + 10 * place)
        for place, n in enumerate(n_features, start=1)
    ]


def compared(models: Sequence[Matrix], n_folds: int = 1, memory: int = cka.MEMORY) -> Similarities:
    folds = stratified_folds(np.zeros(len(models[0]), dtype=np.int64), n_folds)
    return similarities([Centred(one.astype(np.float32), CPU) for one in models], folds, memory)


# Oracles


def dual(x: Matrix, y: Matrix) -> float:
    """With explicit centring matrices."""
    centring = np.eye(len(x)) - 1 / len(x)
    k, l = (centring @ one @ one.T @ centring for one in (x, y))  # noqa: E741
    return float((k * l).sum() / np.linalg.norm(k) / np.linalg.norm(l))


def primal(x: Matrix, y: Matrix) -> float:
    """From features' covariances."""
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.linalg.norm
    return float(norm(y.T @ x) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


def u_statistic(x: Matrix, y: Matrix) -> float:
    """HSIC as a mean over all ordered choices of different images (Song et al. 2012, section 2.3)."""
    k, l = x @ x.T, y @ y.T  # noqa: E741
    images = range(len(x))

    def mean(n: int, product: Callable[..., float]) -> float:
        return float(np.mean([product(*chosen) for chosen in itertools.permutations(images, n)]))

    return (
        mean(2, lambda i, j: k[i, j] * l[i, j])
        + mean(4, lambda i, j, q, r: k[i, j] * l[q, r])
        - 2 * mean(3, lambda i, j, q: k[i, j] * l[i, q])
    )


def debiased(x: Matrix, y: Matrix) -> float:
    return u_statistic(x, y) / float(np.sqrt(u_statistic(x, x) * u_statistic(y, y)))


def closed_form(x: Matrix, y: Matrix) -> float:
    """The same for more images, with U-centred matrices (Szekely and Rizzo 2014)."""

    def centred(one: Matrix) -> Matrix:
        n = len(one)
        gram = one @ one.T
        np.fill_diagonal(gram, 0)
        sums = gram.sum(0)
        gram -= (sums[:, None] + sums) / (n - 2) - sums.sum() / ((n - 1) * (n - 2))
        np.fill_diagonal(gram, 0)
        return gram

    k, l = centred(x), centred(y)  # noqa: E741
    return float((k * l).sum() / np.linalg.norm(k) / np.linalg.norm(l))


# CKA


@pytest.mark.parametrize("oracle", [dual, primal])
def test_plain_cka_is_its_definition_for_every_pair(
    oracle: Callable[[Matrix, Matrix], float],
) -> None:
    """With more features than images and with fewer, and of different models' numbers."""
    models = related(20, 150, 70)
    found = compared(models)
    expected = [[oracle(x, y) for y in models] for x in models]
    np.testing.assert_allclose(found.plain, expected, atol=1e-6)
    assert 0.1 < expected[0][1] < 0.9


def test_debiased_cka_is_the_u_statistic_for_every_pair() -> None:
    models = [draw(8, 3), np.hstack([draw(8, 3), draw(8, 30, 1)])]
    found = compared(models)
    expected = [[debiased(x, y) for y in models] for x in models]
    np.testing.assert_allclose(found.debiased, expected, atol=1e-5)
    assert abs(expected[0][1] - dual(*models)) > 0.05


def test_a_folds_cka_is_of_its_own_images_alone() -> None:
    models = related(3, 30, n_images=15)
    folds = stratified_folds(np.zeros(15, dtype=np.int64), 2)
    found = compared(models, n_folds=2)
    assert found.by_fold.shape == (2, 2, 2)
    for own, images in zip(found.by_fold, folds, strict=True):
        expected = [[debiased(x[images], y[images]) for y in models] for x in models]
        np.testing.assert_allclose(own, expected, atol=1e-5)


@pytest.mark.parametrize("n_features", [6, 3 * cka.CHUNK + 5])
def test_four_decimals_hold_far_from_the_origin_and_in_many_dimensions(n_features: int) -> None:
    models = [one.astype(np.float32) for one in related(n_features, n_features, n_images=210)]
    models[0] += 500
    exact = [one.astype(np.float64) for one in models]
    found = compared(models, n_folds=3)
    assert float(found.plain[0, 1]) == pytest.approx(dual(*exact), abs=1e-5)
    assert float(found.debiased[0, 1]) == pytest.approx(closed_form(*exact), abs=1e-5)
    for own, images in zip(
        found.by_fold, stratified_folds(np.zeros(210, dtype=np.int64), 3), strict=True
    ):
        expected = closed_form(*(one[images] for one in exact))
        assert float(own[0, 1]) == pytest.approx(expected, abs=1e-5)


def test_four_decimals_hold_where_few_images_have_a_great_many_features() -> None:
    """There, squared norms outweigh all other inner products, and debiasing takes them away."""
    shared = draw(12, 40)
    exact = [
        np.hstack([shared, draw(12, 51_200, seed)]).astype(np.float32).astype(np.float64)
        for seed in (1, 2)
    ]
    found = compared(exact)
    assert dual(*exact) > 0.99
    assert abs(closed_form(*exact)) < 0.5
    assert float(found.debiased[0, 1]) == pytest.approx(closed_form(*exact), abs=5e-5)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_features=st.integers(1, 40),
    scale=st.floats(1e-3, 1e3),
    shift=st.floats(-10, 10),
)
def test_orthogonal_maps_isotropic_scaling_and_shifts_change_nothing(
    seed: int, n_features: int, scale: float, shift: float
) -> None:
    x, y = draw(24, n_features, seed), draw(24, 7, seed + 1)
    rotation, _ = np.linalg.qr(draw(n_features, n_features, seed + 2))
    before = compared([x, y], n_folds=2)
    after = compared([scale * (x @ rotation + shift), y], n_folds=2)
    for one, other in (
        (before.plain, after.plain),
        (before.debiased, after.debiased),
        (before.by_fold, after.by_fold),
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-4)


def test_a_model_is_as_similar_as_can_be_to_itself_and_to_its_rotated_copy() -> None:
    x = draw(40, 12)
    rotation, _ = np.linalg.qr(draw(12, 12, 1))
    found = compared([x, 5 * x @ rotation], n_folds=4)
    for part in (found.plain, found.debiased, *found.by_fold):
        np.testing.assert_allclose(part, np.ones((2, 2)), atol=1e-5)


def test_maps_that_are_not_orthogonal_do_change_it() -> None:
    x = draw(200, 10)
    stretched = x * np.geomspace(1, 100, 10)
    assert float(compared([x, stretched]).plain[0, 1]) < 0.5


def test_independent_features_are_unlike_each_other_only_without_the_bias() -> None:
    pairs = [
        compared([draw(30, 600, 2 * seed), draw(30, 400, 2 * seed + 1)]) for seed in range(200)
    ]
    plain = np.array([float(one.plain[0, 1]) for one in pairs])
    without_bias = np.array([float(one.debiased[0, 1]) for one in pairs])
    assert plain.min() > 0.85
    assert without_bias.min() < 0 < without_bias.max()
    assert abs(without_bias.mean()) < 3 * without_bias.std(ddof=1) / np.sqrt(200)


@pytest.mark.parametrize("size", [1, 3, 4, 7, 100])
def test_the_size_of_blocks_does_not_matter(size: int) -> None:
    """Blocks of one image, of parts of a fold, of just a fold."""
    models = related(9, 30, 4, n_images=21)
    whole = compared(models, n_folds=3)
    found = compared(models, n_folds=3, memory=2 * 4 * 3 * size**2)
    torch.testing.assert_close(found.plain, whole.plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.debiased, whole.debiased, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.by_fold, whole.by_fold, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [2, 5])
def test_no_more_is_read_than_a_block_of_images_and_features(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = set()

    def piece(self: Centred, images: NDArray[np.int64], columns: slice) -> torch.Tensor:
        found = original(self, images, columns)
        shapes.add(tuple(found.shape))
        return found

    original = Centred.piece
    monkeypatch.setattr(Centred, "piece", piece)
    compared(related(cka.CHUNK + 1, 3, n_images=20), n_folds=2, memory=2 * 4 * 2 * size**2)
    assert shapes == {(size, cka.CHUNK), (size, 1), (size, 3)}


@pytest.mark.parametrize("n_folds", [1, 2])
def test_features_that_do_not_vary_have_no_similarity(n_folds: int) -> None:
    """All alike, or all equally far from each other: nothing is left without the bias."""
    alike, equidistant = np.full((12, 5), 0.1), np.eye(12)
    found = compared([alike, draw(12, 5), equidistant], n_folds=n_folds)
    for part in (found.debiased, *found.by_fold):
        assert part.isnan().tolist() == [[True, True, True], [True, False, True], [True] * 3]
    assert found.plain.isnan().tolist() == [[True] * 3, [True, False, False], [True, False, False]]


def test_features_that_vary_only_between_folds_have_no_similarity_within() -> None:
    folds = stratified_folds(np.zeros(20, dtype=np.int64), 2)
    models = [draw(20, 300), draw(20, 300, 1)]
    models[0][folds[1]] = draw(1, 300, 2)
    found = compared(models, n_folds=2)
    assert found.debiased.isfinite().all()
    assert found.by_fold.isnan().tolist() == [[[False] * 2] * 2, [[True] * 2, [True, False]]]


# Folds


@pytest.mark.parametrize("n_folds", [2, 3, 10])
def test_folds_are_disjoint_stratified_and_cover_every_image(n_folds: int) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat([0, 1, 2, 7], [40, 31, 5, 25]))
    folds = stratified_folds(labels, n_folds)
    assert len(folds) == n_folds
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(labels)))
    assert np.ptp([len(fold) for fold in folds]) <= 1
    for one in np.unique(labels):
        assert np.ptp([int((labels[fold] == one).sum()) for fold in folds]) <= 1


def test_folds_go_by_position_within_the_class() -> None:
    labels = np.array([1, 1, 0, 0, 1, 0, 0, 1])
    assert [fold.tolist() for fold in stratified_folds(labels, 2)] == [[0, 2, 4, 5], [1, 3, 6, 7]]


# The record

LABELS = {"novel": np.repeat(np.arange(3), 9), "base": np.repeat(np.arange(4), 5)}
SETTINGS: dict[str, Any] = {
    "scale": "demo",
    "dataset": "tiny",
    "stands_for": "cifar_fs",
    "run": "ridge",
    "seed": None,
    "twins": ["classical", "classical_fc"],
    "n_folds": 4,
}
MODELS = [
    *[("ridge", seed) for seed in (0, 1, 2)],
    *[("classical", seed) for seed in (0, 2, 5)],
    ("classical_fc", 1),
]


def embedded(folder: Path, run: str, seed: int, **changes: Any) -> Path:
    """A folder of features as ``embed`` leaves it; ``changes`` are to its record and arrays."""
    place = folder / f"{run}-{seed}"
    place.mkdir(parents=True)
    address = sum(map(ord, run)) + seed
    for split, labels in LABELS.items():
        features = draw(len(labels), 6, seed=address) + labels[:, None]
        np.save(place / f"{split}.npy", changes.get(split, features.astype(np.float32)))
        np.save(place / f"{split}_labels.npy", changes.get(f"{split}_labels", labels))
    records.write(
        place / "record.json",
        changes.get("kind", "features"),
        {**SETTINGS, "run": run, "seed": seed, **changes.get("settings", {})},
        code="digest",
        sources={"images": changes.get("images", "of all"), "weights": f"of {run} {seed}"},
        device="cpu",
        wall_s=0,
        values=changes.get("values", {}),
    )
    return place


@pytest.fixture
def folders(tmp_path: Path) -> dict[tuple[str, int], Path]:
    return {model: embedded(tmp_path / "features", *model) for model in MODELS}


def test_a_record_holds_each_twin_with_the_run_of_its_seed_and_the_runs_ceiling(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    compare(SETTINGS, "digest", list(folders.values()), tmp_path / "out.json", CPU)
    record = records.read(tmp_path / "out.json", "similarity")
    assert (record.run, record.seed, record.code) == ("ridge", None, "digest")
    assert (record.scale, record.dataset, record.stands_for) == ("demo", "tiny", "cifar_fs")
    assert record.settings == SETTINGS
    names = sorted(f"of {run} {seed}" for run, seed in MODELS)
    assert record.sources == {
        "images": "of all",
        "weights": sha256("\n".join(names).encode()).hexdigest(),
    }
    assert record.values.keys() == {"novel", "base"}
    assert record.values["novel"]["n_images"] == 27
    assert record.values["novel"]["n_images_per_fold"] == [7, 7, 7, 6]
    assert record.values["base"]["n_images"] == 20
    assert record.values["base"]["n_images_per_fold"] == [5, 5, 5, 5]
    for split, values in record.values.items():
        folds = stratified_folds(LABELS[split], 4)
        assert [(pair["run"], pair["seed"], pair["against"]) for pair in values["pairs"]] == [
            ("classical", 0, 0),
            ("classical", 2, 2),
            ("classical_fc", 1, 1),
            ("ridge", 1, 0),
            ("ridge", 2, 0),
            ("ridge", 2, 1),
        ]
        for pair in values["pairs"]:
            x, y = (
                np.load(folders[model] / f"{split}.npy").astype(np.float64)
                for model in ((pair["run"], pair["seed"]), ("ridge", pair["against"]))
            )
            assert pair["cka"] == pytest.approx(dual(x, y), abs=1e-5)
            assert pair["cka_debiased"] == pytest.approx(closed_form(x, y), abs=1e-5)
            expected = [closed_form(x[fold], y[fold]) for fold in folds]
            assert pair["folds"] == pytest.approx(expected, abs=1e-4)


def test_debiased_values_are_recorded_as_they_are_when_negative(tmp_path: Path) -> None:
    noise = draw(27, 6, 1).astype(np.float32)
    places = [
        embedded(tmp_path, "ridge", 0, novel=draw(27, 400, 3).astype(np.float32)),
        embedded(tmp_path, "classical", 0, novel=noise),
    ]
    compare({**SETTINGS, "twins": ["classical"]}, "digest", places, tmp_path / "out.json", CPU)
    (pair,) = records.read(tmp_path / "out.json", "similarity").values["novel"]["pairs"]
    assert min(pair["folds"]) < 0


def test_the_order_of_folders_changes_nothing(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    written = []
    for name, order in (("one", 1), ("other", -1)):
        compare(SETTINGS, "digest", list(folders.values())[::order], tmp_path / name, CPU)
        written.append(json.loads((tmp_path / name).read_text()) | {"wall_s": 0, "sha256": ""})
    assert written[0] == written[1]


def test_features_are_mapped_never_loaded(
    folders: dict[tuple[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, modes = np.load, set()

    def watched(path: Path, **options: Any) -> Any:
        modes.add((path.name, options.get("mmap_mode")))
        return load(path, **options)

    monkeypatch.setattr(np, "load", watched)
    compare(SETTINGS, "digest", list(folders.values()), tmp_path / "out.json", CPU)
    assert {("novel.npy", "r"), ("base.npy", "r")} <= modes
    assert {mode for _, mode in modes} == {"r"}


# Refusals


def test_runs_other_than_those_of_the_settings_are_refused(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    other = embedded(tmp_path, "protonet", 0)
    with pytest.raises(
        UserError,
        match=rf"{other}: features of run protonet, seed 0.*ridge, classical, classical_fc",
    ):
        compare(SETTINGS, "digest", [*folders.values(), other], tmp_path / "out.json", CPU)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("absent", ["ridge", "classical_fc"])
def test_missing_runs_are_refused(
    absent: str, folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    given = [folder for (run, _), folder in folders.items() if run != absent]
    with pytest.raises(UserError, match=rf"features of {absent} are missing; name the folders"):
        compare(SETTINGS, "digest", given, tmp_path / "out.json", CPU)


def test_one_model_given_twice_is_refused(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    again = embedded(tmp_path / "again", "classical", 2)
    with pytest.raises(
        UserError, match=rf"{again} and .*classical-2 are both features of classical"
    ):
        compare(SETTINGS, "digest", [*folders.values(), again], tmp_path / "out.json", CPU)


def test_a_twin_without_a_seed_of_the_run_is_refused(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    given = [folder for model, folder in folders.items() if model not in MODELS[3:5]]
    with pytest.raises(
        UserError, match=r"classical and ridge have no seed in common, ridge has 0, 1, 2; name"
    ):
        compare(SETTINGS, "digest", given, tmp_path / "out.json", CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "measurement"}, r"is a record of measurement, needed is one of features"),
        ({"images": "others"}, r"are features of different images; delete"),
        ({"settings": {"scale": "small"}}, r"features of scale small, compared are those of demo"),
        ({"settings": {"dataset": "cub"}}, r"features of dataset cub, compared are those of tiny"),
        ({"settings": {"seed": None}}, r"features of run classical_fc, seed None"),
        ({"novel_labels": LABELS["novel"][::-1]}, r"have novel images of different labels; delete"),
        ({"base_labels": LABELS["base"][1:]}, r"base.npy has shape \(20, 6\), needed is \(19, f"),
        ({"base": draw(19, 6)}, r"base.npy has shape \(19, 6\), needed is \(20, features\)"),
        ({"novel": draw(27, 1)[:, 0]}, r"novel.npy has shape \(27,\), needed"),
        ({"novel": np.full((27, 6), np.nan)}, r"novel.npy: features are not finite; delete"),
        ({"base": np.array([[np.inf, -np.inf]] * 20).T.reshape(20, 2)}, r"base.npy: .*not finite"),
        ({"novel": np.full((27, 6), 0.3)}, r"CKA of novel images is not defined, since"),
        ({"base": np.eye(20)}, r"CKA of base images is not defined, since"),
        ({"base": 1e30 * draw(20, 6)}, r"CKA of base images is not defined.* too large"),
    ],
)  # fmt: skip
def test_features_that_cannot_be_compared_are_refused(
    changes: dict[str, Any], message: str, folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    for split in LABELS.keys() & changes.keys():
        changes = {**changes, split: changes[split].astype(np.float32)}
    odd = embedded(tmp_path / "odd", "classical_fc", 1, **changes)
    given = [folder for model, folder in folders.items() if model != ("classical_fc", 1)]
    with pytest.raises(UserError, match=rf"(?s){odd}.*{message}"):
        compare(SETTINGS, "digest", [*given, odd], tmp_path / "out.json", CPU)
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", ["novel.npy", "base_labels.npy"])
def test_features_that_changed_since_they_were_embedded_are_refused(
    name: str, tmp_path: Path
) -> None:
    values = {"sha256": {name: "0" * 64}}
    run = embedded(tmp_path, SETTINGS["run"], 0, values=values)
    twins = [embedded(tmp_path, twin, 0) for twin in SETTINGS["twins"]]
    message = rf"cannot read the features of .* in {run}: {name} is not the file that its record"
    with pytest.raises(UserError, match=message):
        compare(SETTINGS, "digest", [run, *twins], tmp_path / "out.json", torch.device("cpu"))
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("content", [None, b"", b"torn", "truncated"])
def test_files_that_cannot_be_read_are_refused(
    content: bytes | str | None, folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    file = folders["ridge", 1] / "base.npy"
    whole = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(whole[:-10] if content == "truncated" else content)
    message = rf"cannot read the features of base in {file.parent}: .*run snakemake again"
    with pytest.raises(UserError, match=message):
        compare(SETTINGS, "digest", list(folders.values()), tmp_path / "out.json", CPU)


def test_folds_of_less_than_four_images_are_refused(
    folders: dict[tuple[str, int], Path], tmp_path: Path
) -> None:
    with pytest.raises(
        UserError,
        match=r"n_folds: 7 leaves 3 of 27 novel images to a fold, at least 4.*lower n_folds",
    ):
        compare(
            {**SETTINGS, "n_folds": 7}, "digest", list(folders.values()), tmp_path / "o.json", CPU
        )
