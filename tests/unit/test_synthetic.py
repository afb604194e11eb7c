"""Generated images are pure functions of (seed, size, class), varied, and tell classes apart."""

import hashlib
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.synthetic import Synthetic
from pipeline.errors import UserError


def small(images_per_class: int = 20, image_size: int = 16, seed: int = 0) -> Synthetic:
    return Synthetic(image_size, images_per_class, seed)


def every_name(source: Synthetic) -> list[str]:
    return [name for names in source.classes.values() for name in names]


def test_class_splits_have_the_usual_sizes_and_share_no_class():
    classes = small().classes
    assert {split: len(names) for split, names in classes.items()} == {
        "base": 64,
        "validation": 16,
        "novel": 20,
    }
    assert len(set(every_name(small()))) == 100
    assert classes["base"][0] == "shape_000"


@pytest.mark.parametrize(("image_size", "count"), [(16, 1), (32, 17), (84, 3)])
def test_images_are_bytes_of_the_promised_shape(image_size, count):
    images = Synthetic(image_size, count).images("shape_007")
    assert images.shape == (count, image_size, image_size, 3)
    assert images.dtype == np.uint8
    assert images.flags.c_contiguous


def test_the_same_address_gives_the_same_bytes_in_any_order():
    first, second = small(), small()
    names = every_name(first)[:5]
    forward = {name: first.images(name).tobytes() for name in names}
    backward = {name: second.images(name).tobytes() for name in reversed(names)}
    assert forward == backward
    assert len(set(forward.values())) == len(names)


def digest(source: Synthetic) -> str:
    return hashlib.sha256(source.images("shape_000")).hexdigest()


def test_another_process_paints_the_same_bytes():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(digest, (small(),)) == digest(small())


@settings(max_examples=20, deadline=None)
@given(fewer=st.integers(1, 40), more=st.integers(1, 40))
def test_more_images_leave_the_earlier_ones_unchanged(fewer, more):
    fewer, more = sorted((fewer, more))
    np.testing.assert_array_equal(
        small(more).images("shape_001")[:fewer], small(fewer).images("shape_001")
    )


def test_another_seed_gives_other_classes():
    assert not np.array_equal(small(seed=0).images("shape_000"), small(seed=1).images("shape_000"))


def test_another_size_shows_the_same_scenes():
    coarse = small(image_size=32).images("shape_002").astype(float)
    fine = small(image_size=64).images("shape_002").astype(float)
    halved = fine.reshape(20, 32, 2, 32, 2, 3).mean(axis=(2, 4))
    same = np.abs(halved - coarse).mean()
    other = np.abs(np.roll(halved, 1, axis=0) - coarse).mean()
    assert same < other / 3


def test_every_image_of_every_class_is_a_picture_of_its_own():
    source = small(4)
    images = np.concatenate([source.images(name) for name in every_name(source)])
    assert len({image.tobytes() for image in images}) == len(images)
    assert images.std(axis=(1, 2)).max(axis=1).min() > 8  # no image is plain
    flat = images.reshape(len(images), -1).astype(float)
    assert flat.mean(axis=1).std() > 10  # nor are all lit alike
    assert 60 < images.mean() < 190


def test_the_middle_of_an_image_tells_its_class():
    """Mean colours near the centre, where the figure lies, say more than those of the border."""
    source = small(100)
    images = np.stack([source.images(name) for name in source.classes["novel"]]).astype(float)
    border = np.concatenate([images[:, :, [0, -1]], images[:, :, :, [0, -1]].swapaxes(2, 3)], 2)
    middle = images[:, :, 6:10, 6:10]

    def separation(patch):
        colours = patch.mean(axis=(2, 3))
        return colours.mean(axis=1).var(axis=0).sum() / colours.var(axis=1).mean(axis=0).sum()

    assert separation(middle) > 10 * separation(border)


@pytest.mark.parametrize(
    ("key", "value", "least"), [("image_size", 15, 16), ("images_per_class", 0, 1)]
)
def test_what_cannot_be_painted_is_refused_by_name(key, value, least):
    arguments = {"image_size": 32, "images_per_class": 10, key: value}
    with pytest.raises(UserError, match=rf"{key} is {value}, must be {least} or more"):
        Synthetic(**arguments)
