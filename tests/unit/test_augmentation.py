"""The batched augmentation against torchvision, image by image."""

import itertools

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as oracle

from pipeline.data.augmentation import Augmentation, Draws, Normalisation, draw, plain
from pipeline.streams import generator

UNIT = Normalisation()
CIFAR = Normalisation(mean=(0.507, 0.487, 0.441), std=(0.267, 0.257, 0.276))
ADJUST = (oracle.adjust_brightness, oracle.adjust_contrast, oracle.adjust_saturation)
ORDERS = tuple(itertools.permutations(range(3)))
TOLERANCE = 1e-5


@pytest.fixture
def unchecked(monkeypatch):
    """Annotations unchecked, so that a refusal is the module's own."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def pictures(seed, height=8, width=8):
    """Six images: three of noise, black, white, and one of saturated colours."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    flat = np.broadcast_to(np.uint8([[[[0]]], [[[255]]]]), (2, height, width, 3))
    vivid = rng.integers(0, 2, (1, height, width, 3), dtype=np.uint8) * np.uint8(255)
    return torch.from_numpy(np.concatenate([noise, flat, vivid]))


def same_draws(batch, offset=(0, 0), flip=False, factors=(1.0, 1.0, 1.0), order=(0, 1, 2)):
    return Draws(
        offset=torch.tensor([offset] * batch),
        flip=torch.tensor([flip] * batch),
        factors=torch.tensor([factors] * batch),
        order=torch.tensor([order] * batch),
    )


def torchvision_of(image, draws, i, padding, normalisation):
    """Image ``i`` of a batch through torchvision: crop, jitter, flip, normalise, in that order."""
    height, width, _ = image.shape
    pixels = oracle.to_dtype(image.permute(2, 0, 1), torch.float32, scale=True)
    top, left = draws.offset[i].tolist()
    pixels = oracle.crop(oracle.pad(pixels, [padding]), top, left, height, width)
    for change in draws.order[i].tolist():
        pixels = ADJUST[change](pixels, draws.factors[i, change].item())
    if draws.flip[i]:
        pixels = oracle.horizontal_flip(pixels)
    return oracle.normalize(pixels, list(normalisation.mean), list(normalisation.std))


def assert_agrees(images, indices, draws, padding, normalisation):
    batch = Augmentation(images, normalisation, padding).apply(indices, draws)
    for i, index in enumerate(indices.tolist()):
        expected = torchvision_of(images[index], draws, i, padding, normalisation)
        torch.testing.assert_close(batch[i], expected, rtol=0, atol=TOLERANCE)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    padding=st.integers(0, 4),
    jitter=st.floats(0, 1),
    normalisation=st.sampled_from([UNIT, CIFAR]),
)
def test_every_image_agrees_with_torchvision(seed, height, width, padding, jitter, normalisation):
    rng = np.random.default_rng(seed)
    images = pictures(seed, height, width)
    indices = torch.from_numpy(rng.integers(0, len(images), 12))
    draws = draw(len(indices), rng, padding, jitter)
    assert_agrees(images, indices, draws, padding, normalisation)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("factors", [(1.4, 1.4, 1.4), (1.4, 0.6, 1.4), (0.6, 1.4, 0.6)])
def test_each_order_agrees_with_torchvision_where_pixels_clamp(order, factors):
    images = pictures(0)
    draws = same_draws(len(images), factors=factors, order=order)
    assert_agrees(images, torch.arange(len(images)), draws, padding=0, normalisation=CIFAR)


def test_the_six_orders_give_six_results():
    images = pictures(0)[:1]
    draws = [same_draws(1, factors=(1.4, 1.4, 1.4), order=order) for order in ORDERS]
    augmentation = Augmentation(images, UNIT, padding=0)
    batches = [augmentation.apply(torch.tensor([0]), each) for each in draws]
    for one, other in itertools.combinations(batches, 2):
        assert (one - other).abs().max() > 0.01


def test_the_crop_takes_the_rows_and_columns_of_its_offset():
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 3, 4, 1).expand(-1, -1, -1, 3)
    draws = same_draws(1, offset=(0, 3), flip=True)
    batch = Augmentation(image, UNIT, padding=2).apply(torch.tensor([0]), draws)
    expected = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 0], [0, 4, 3, 2]]) / 255
    assert torch.equal(batch[0, 0], expected)


def test_images_of_a_batch_have_draws_of_their_own():
    images = pictures(0)[:1]
    batch = Augmentation(images, UNIT)(torch.zeros(64, dtype=torch.int64), generator(0, "variety"))
    assert len({image.numpy().tobytes() for image in batch}) == 64


def test_a_call_is_a_function_of_its_address():
    augmentation = Augmentation(pictures(0), CIFAR)
    indices = torch.tensor([5, 0, 2])
    first = augmentation(indices, generator(3, "augmentation", 7))
    augmentation(indices, generator(3, "augmentation", 8))
    assert torch.equal(first, augmentation(indices, generator(3, "augmentation", 7)))
    assert not torch.equal(first, augmentation(indices, generator(3, "augmentation", 8)))
    assert not torch.equal(first, augmentation(indices, generator(4, "augmentation", 7)))


def test_draws_stay_what_they_were():
    draws = draw(3, generator(0, "augmentation"), padding=4, jitter=0.4)
    assert draws.offset.tolist() == [[1, 8], [7, 4], [8, 2]]
    assert draws.flip.tolist() == [False, True, True]
    assert draws.order.tolist() == [[0, 1, 2], [2, 1, 0], [1, 0, 2]]
    factors = [[1.0720, 1.3411, 0.7044], [0.6621, 0.6867, 0.9330], [1.2584, 1.0519, 0.9010]]
    np.testing.assert_allclose(draws.factors, factors, rtol=0, atol=1e-4)


def test_draws_are_distributed_as_torchvision_draws():
    count, padding, jitter = 9_000, 4, 0.4
    draws = draw(count, generator(0, "distribution"), padding, jitter)

    def assert_uniform(values, choices):
        found, counts = torch.unique(values, dim=0, return_counts=True)
        assert len(found) == choices
        expected = count / choices
        assert ((counts - expected).abs() < 5 * expected**0.5).all()

    assert draws.offset.min() == 0
    assert draws.offset.max() == 2 * padding
    assert_uniform(draws.offset, (2 * padding + 1) ** 2)
    assert_uniform(draws.flip, 2)
    assert_uniform(draws.order, 6)
    assert torch.equal(draws.order.sort(dim=1).values, torch.arange(3).expand(count, 3))
    assert_uniform(((draws.factors - (1 - jitter)) / (2 * jitter) * 2).long(), 8)
    assert draws.factors.min() >= 1 - jitter - 1e-6
    assert draws.factors.max() <= 1 + jitter + 1e-6


def test_plain_only_normalises():
    images = pictures(0, 5, 7)
    indices = torch.tensor([4, 1, 1])
    batch = plain(images, indices, CIFAR)
    pixels = images.numpy()[[4, 1, 1]] / 255
    expected = ((pixels - CIFAR.mean) / CIFAR.std).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(batch.numpy(), expected, rtol=0, atol=1e-6)


def test_without_normalisation_pixels_are_exact_fractions():
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(-1, -1, -1, 3)
    batch = plain(images, torch.tensor([0]), UNIT)
    assert torch.equal(batch[0, 1].flatten(), torch.arange(256) / 255)


def test_without_padding_and_jitter_an_image_is_plain_or_mirrored():
    images = pictures(0)
    indices = torch.arange(6).repeat(4)
    augmentation = Augmentation(images, CIFAR, padding=0, jitter=0.0)
    batch = augmentation(indices, generator(0, "mirror"))
    flips = draw(len(indices), generator(0, "mirror"), padding=0, jitter=0.0).flip
    untouched = plain(images, indices, CIFAR)
    assert flips.unique().tolist() == [False, True]
    assert torch.equal(batch[~flips], untouched[~flips])
    assert torch.equal(batch[flips], untouched[flips].flip(3))


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_batches_are_float32_in_channels_last(batch):
    images = pictures(0, 5, 7)
    indices = torch.zeros(batch, dtype=torch.int64)
    augmented = Augmentation(images, CIFAR)(indices, generator(0, "layout"))
    for result in (augmented, plain(images, indices, CIFAR)):
        assert result.shape == (batch, 3, 5, 7)
        assert result.dtype == torch.float32
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_images_are_left_as_they_were():
    images = pictures(0)
    before = images.clone()
    indices = torch.arange(6)
    plain(images, indices, CIFAR)
    Augmentation(images, CIFAR)(indices, generator(0, "untouched"))
    assert torch.equal(images, before)


def test_nothing_asks_the_device_for_a_value():
    """Meta tensors have no values: whatever would make a host wait for one raises."""
    images = pictures(0).to("meta")
    indices = torch.zeros(4, dtype=torch.int64)
    augmented = Augmentation(images, CIFAR)(indices, generator(0, "meta"))
    for result in (augmented, plain(images, indices, CIFAR)):
        assert result.device.type == "meta"
        assert result.shape == (4, 3, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_without_waiting():
    images = pictures(0)
    indices = torch.arange(6).repeat(4)
    expected = Augmentation(images, CIFAR)(indices, generator(0, "device"))
    augmentation = Augmentation(images.cuda(), CIFAR)
    augmentation(indices, generator(0, "device"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = augmentation(indices, generator(0, "device"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(batch.cpu(), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 8, 8, 3),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_other_images_are_refused(images):
    with pytest.raises(ValueError, match=r"images are .* they must be torch\.uint8"):
        Augmentation(images, UNIT)
    with pytest.raises(ValueError, match="images are"):
        plain(images, torch.tensor([0]), UNIT)


@pytest.mark.parametrize(
    "indices", [torch.tensor([True, False]), torch.tensor([0.0]), torch.tensor([[0]])]
)
@pytest.mark.usefixtures("unchecked")
def test_other_indices_are_refused(indices):
    images = pictures(0)
    with pytest.raises(ValueError, match=r"they must be torch\.int64"):
        Augmentation(images, UNIT)(indices, generator(0, "refused"))
    with pytest.raises(ValueError, match=r"they must be torch\.int64"):
        plain(images, indices, UNIT)


def test_one_draw_is_not_spread_over_a_batch():
    with pytest.raises(ValueError, match="1 draws for 6 images"):
        Augmentation(pictures(0), UNIT).apply(torch.arange(6), same_draws(1))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"padding": -1}, "padding is -1"), ({"jitter": -0.1}, "jitter is"), ({"jitter": 1.1}, "1.1")],
)
def test_parameters_out_of_range_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(pictures(0), UNIT, **parameters)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mean": (0.5, 0.5)}, "mean is"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean is"),
        ({"std": (0.2, 0.2, 0.0)}, "std is"),
        ({"std": (0.2, 0.2, float("inf"))}, "std is"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_impossible_normalisations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Normalisation(**values)
