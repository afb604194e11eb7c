"""Episodes are well formed, uniform, and functions of their address."""

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from pipeline.data.episodes import Episodes, sample
from pipeline.errors import UserError

# The seeds are fixed, so this is no rate of false alarms: it says how unlikely a failure is
# to be chance when the draws change.
SIGNIFICANCE = 1e-4

Arguments = dict[str, Any]


@st.composite
def arguments(draw: st.DrawFn) -> Arguments:
    """Classes of unequal sizes with labels in any order, and an episode that fits them."""
    counts = draw(st.lists(st.integers(2, 7), min_size=1, max_size=6))
    each = draw(st.integers(2, min(counts)))
    n_shot = draw(st.integers(1, each - 1))
    return {
        "labels": np.array(draw(st.permutations(np.repeat(range(len(counts)), counts).tolist()))),
        "n_way": draw(st.integers(1, len(counts))),
        "n_shot": n_shot,
        "n_query": each - n_shot,
        "n_episodes": draw(st.integers(1, 12)),
        "seed": draw(st.integers(0, 2**31)),
        "stream": draw(st.sampled_from(["one", "other"])),
        "block": draw(st.integers(1, 5)),
    }


def images_of(episodes: Episodes) -> NDArray[np.int64]:
    """Support and query side by side: (episode, way, image)."""
    return np.concatenate([episodes.support, episodes.query], -1)


def equal(one: Episodes, other: Episodes) -> bool:
    return np.array_equal(one.support, other.support) and np.array_equal(one.query, other.query)


def assert_equally_likely(outcomes: NDArray[np.int64], possible: int) -> None:
    """Rows of ``outcomes`` take ``possible`` values, none of them preferred."""
    _, counts = np.unique(outcomes, axis=0, return_counts=True)
    assert len(counts) == possible
    assert chisquare(counts).pvalue > SIGNIFICANCE


@settings(max_examples=100, deadline=None)
@given(arguments())
def test_episodes_are_well_formed(arguments: Arguments) -> None:
    episodes = sample(**arguments)
    labels = arguments["labels"]
    shape = arguments["n_episodes"], arguments["n_way"]
    assert episodes.support.shape == (*shape, arguments["n_shot"])
    assert episodes.query.shape == (*shape, arguments["n_query"])
    for episode in images_of(episodes):
        assert len(np.unique(episode)) == episode.size
        assert len(np.unique(labels[episode[:, 0]])) == arguments["n_way"]
        for row in episode:
            assert len(np.unique(labels[row])) == 1


@settings(max_examples=60, deadline=None)
@given(arguments(), st.data())
def test_more_episodes_begin_with_those_of_fewer(arguments: Arguments, data: st.DataObject) -> None:
    fewer = data.draw(st.integers(1, arguments["n_episodes"]))
    every, first = sample(**arguments), sample(**arguments | {"n_episodes": fewer})
    assert equal(first, Episodes(every.support[:fewer], every.query[:fewer]))


@settings(max_examples=60, deadline=None)
@given(arguments(), st.data())
def test_each_block_can_be_drawn_alone(arguments: Arguments, data: st.DataObject) -> None:
    block = arguments["block"]
    every = sample(**arguments | {"n_episodes": 4 * block})
    index = data.draw(st.integers(0, 3))
    alone = sample(**arguments | {"n_episodes": block, "first_block": index})
    here = slice(index * block, (index + 1) * block)
    assert equal(alone, Episodes(every.support[here], every.query[here]))


@settings(max_examples=60, deadline=None)
@given(arguments())
def test_the_order_of_images_only_renames_them(arguments: Arguments) -> None:
    """The k-th image of a class is drawn, wherever in the data set it stands."""
    labels = arguments["labels"]
    mixed, grouped = sample(**arguments), sample(**arguments | {"labels": np.sort(labels)})
    order = np.argsort(labels, kind="stable")
    assert equal(mixed, Episodes(order[grouped.support], order[grouped.query]))


@settings(max_examples=30, deadline=None)
@given(arguments())
def test_labels_are_left_as_they_were(arguments: Arguments) -> None:
    before = arguments["labels"].copy()
    sample(**arguments)
    np.testing.assert_array_equal(arguments["labels"], before)


ADDRESSED: Arguments = {
    "labels": np.repeat(np.arange(10), 30),
    "n_way": 5,
    "n_shot": 1,
    "n_query": 3,
    "n_episodes": 300,
    "seed": 0,
    "stream": "episodes",
}


def test_another_address_gives_other_episodes() -> None:
    changes: list[Arguments] = [{}, {"seed": 1}, {"stream": "others"}, {"first_block": 7}]
    drawn = [images_of(sample(**ADDRESSED | change)) for change in changes]
    seen = {episode.tobytes() for episodes in drawn for episode in episodes}
    assert len(seen) == len(drawn) * ADDRESSED["n_episodes"]


def test_the_same_address_gives_the_same_episodes() -> None:
    first = sample(**ADDRESSED)
    sample(**ADDRESSED | {"seed": 1})
    assert equal(sample(**ADDRESSED), first)


def test_episodes_stay_what_they_were() -> None:
    episodes = sample(**ADDRESSED | {"n_way": 3, "n_episodes": 2})
    assert episodes.support.tolist() == [[[123], [154], [236]], [[182], [83], [51]]]
    assert episodes.query.tolist() == [
        [[124, 142, 133], [162, 165, 159], [216, 225, 219]],
        [[190, 188, 207], [78, 74, 62], [37, 58, 33]],
    ]


SIZES = [4, 9, 3, 6]


@pytest.fixture(scope="module")
def many() -> dict[str, NDArray[np.int64]]:
    """24,000 episodes of two ways and three images, from classes of unequal sizes.

    ``classes`` is (episode, way); ``places`` is (episode, way, image): which of its class's
    images each one is.
    """
    labels = np.repeat(np.arange(len(SIZES)), SIZES)
    places = np.concatenate([np.arange(size) for size in SIZES])
    arguments = ADDRESSED | {"labels": labels, "n_way": 2, "n_query": 2, "n_episodes": 24_000}
    images = images_of(sample(**arguments))
    return {"classes": labels[images[..., 0]], "places": places[images]}


def test_ordered_choices_of_classes_are_equally_likely(many: dict[str, NDArray[np.int64]]) -> None:
    """However many images a class has."""
    assert_equally_likely(many["classes"], len(SIZES) * (len(SIZES) - 1))


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("chosen", range(len(SIZES)))
def test_ordered_choices_of_images_are_equally_likely(
    many: dict[str, NDArray[np.int64]], way: int, chosen: int
) -> None:
    """So neither support nor query prefers small or large indices."""
    size = SIZES[chosen]
    places = many["places"][many["classes"][:, way] == chosen, way]
    assert_equally_likely(places, size * (size - 1) * (size - 2))


def test_the_choices_in_two_classes_are_independent(many: dict[str, NDArray[np.int64]]) -> None:
    for pair in itertools.permutations(range(len(SIZES)), 2):
        places = many["places"][(many["classes"] == pair).all(1)]
        assert_equally_likely(places[..., 0], SIZES[pair[0]] * SIZES[pair[1]])


def test_too_many_ways_are_refused() -> None:
    with pytest.raises(UserError, match="n_way: 11 is more than the 10 classes"):
        sample(**ADDRESSED | {"n_way": 11})


def test_too_many_images_of_a_class_are_refused() -> None:
    labels = np.repeat([0, 1, 2, 3, 4], [30, 30, 20, 30, 30])
    message = "5 shots + 16 queries = 21 images of a class, but class 2 has 20"
    with pytest.raises(UserError, match=re.escape(message)):
        sample(**ADDRESSED | {"labels": labels, "n_shot": 5, "n_query": 16})


def test_as_many_ways_and_images_as_there_are_are_allowed() -> None:
    labels = np.repeat([0, 1, 2], 4)
    episodes = images_of(sample(**ADDRESSED | {"labels": labels, "n_way": 3}))
    for episode in episodes:
        assert sorted(episode.reshape(-1)) == list(range(12))
