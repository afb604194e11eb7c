"""Pickles of every make are read; nothing in one runs, whatever it asks for."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from raw_data import Payload, python2_pickle

from pipeline.data.pickled_arrays import Array, integers, text
from pipeline.data.unpickling import Backing, load, load_table

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(data: bytes, **options: Any) -> Any:
    return load(io.BytesIO(data), len(data), **options)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(scalars, inner, max_size=5)
    ),
    max_leaves=20,
)
numbers = arrays.arrays(
    st.sampled_from(["?", "u1", "i1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8"]),
    arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
)


@settings(deadline=None)
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == pickle.loads(pickle.dumps(value, protocol))


@settings(deadline=None)
@given(array=numbers, protocol=st.sampled_from(PROTOCOLS), turned=st.booleans())
def test_arrays_come_back(array: NDArray[Any], protocol: int, turned: bool) -> None:
    array = array.T if turned else array
    found = read(pickle.dumps({"a": array}, protocol))["a"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found.values(), array)


@given(array=numbers)
def test_arrays_of_python_2_come_back(array: NDArray[Any]) -> None:
    found = read(python2_pickle({"a": array}))[b"a"]
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found.values(), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numbers_of_numpy_come_back_as_numbers(protocol: int) -> None:
    data = [np.int64(-5), np.uint8(7), np.float32(0.5), np.bool_(True)]
    assert read(pickle.dumps(data, protocol)) == [-5, 7, 0.5, True]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_there_twice_is_read_once(protocol: int) -> None:
    rows, array = [1, 2], np.arange(3)
    found = read(pickle.dumps([rows, rows, array, array], protocol))
    assert found[0] is found[1]
    assert found[2] is found[3]


def test_python_itself_wrote_what_is_read_here() -> None:
    # What Python 2.7 and numpy 1.16 give for {'a': numpy.array([1, 258], 'u2')}, protocol 2.
    data = (
        b"\x80\x02}q\x01U\x01aq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02u2K\x00K\x01\x87R"
        b"q\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x00\x02\x01"
        b"tbs."
    )
    assert read(data)[b"a"].values().tolist() == [1, 258]


# Large arrays.


@pytest.mark.parametrize(
    "write", [python2_pickle, *(lambda v, p=p: pickle.dumps(v, p) for p in (3, 4, 5))]
)
def test_large_arrays_are_mapped_from_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr("pipeline.data.unpickling.LARGE", 100)
    array = np.arange(1000, dtype=">i4").reshape(10, 100)
    data = write({"small": np.arange(3), "large": array, "after": "x"})
    path = tmp_path / "file"
    path.write_bytes(b"header" + data)
    with path.open("rb") as file:
        file.seek(6)
        table = load_table(file, len(data), Backing(path, 6))
    found = table["large"].values()
    assert isinstance(found.base, np.memmap)
    np.testing.assert_array_equal(found, array)
    assert table["small"].values().tolist() == [0, 1, 2]
    assert text(table["after"]) == "x"
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1


def test_large_arrays_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.unpickling.LARGE", 100)
    found = read(pickle.dumps([np.zeros((100, 7)), 3]), skip_large=True)
    assert (found[0].shape, found[0].dtype, found[1]) == ((100, 7), np.float64, 3)
    with pytest.raises(ValueError, match="were skipped"):
        found[0].values()


def test_large_arrays_are_read_where_they_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.data.unpickling.LARGE", 100)
    array = np.arange(777)
    np.testing.assert_array_equal(read(pickle.dumps(array)).values(), array)


# Hostile and damaged pickles.


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "executed"
    hostile = pickle.dumps({"image_data": Payload(marker)}, protocol)
    with pytest.raises(pickle.UnpicklingError, match=r"asks for \w+\.mkdir, only plain"):
        read(hostile)
    assert not marker.exists()
    pickle.loads(hostile)
    assert marker.exists()


class Custom:
    pass


OBJECTS = [Custom(), Custom, len, {1, 2}, 1j, range(3), slice(1), Path(), np.zeros]


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_other_objects_are_refused(value: object, protocol: int) -> None:
    with pytest.raises(pickle.UnpicklingError, match="only plain containers and numpy arrays"):
        read(pickle.dumps([value], protocol))


NUMPY = b"cnumpy.core.multiarray\n_reconstruct\n"
HAND_MADE = {
    "a name without a call, called": (b"cnumpy\nndarray\n)R.", "unknown way"),
    "a call of a string": (b"\x8c\x06system)R.", "calls something that is no function"),
    "a state for a function": (NUMPY + b"}b.", "restores something that is no numpy array"),
    "a state for a dictionary": (b"}}b.", "restores something that is no numpy array"),
    "arguments that are no tuple": (NUMPY + b"]R.", "a list where a tuple must be"),
    "an old instance": (b"(ios\nsystem\n.", "instruction b'i'"),
    "a new object": (b"cnumpy\nndarray\n)\x81.", r"instruction b'\\x81'"),
    "an extension": (b"\x82\x01.", r"instruction b'\\x82'"),
    "a persistent name": (b"Pname\n.", "instruction b'P'"),
    "eval by another door": (b"c__builtin__\neval\n.", r"asks for __builtin__\.eval"),
    "a dotted name": (b"\x8c\x05numpy\x8c\x0cndarray.dump\x93.", r"asks for numpy\.ndarray\.dump"),
    "bytes in another coding": (b"c_codecs\nencode\n\x8c\x01x\x8c\x05rot13\x86R.", "coding rot13"),
    "an object array": (
        b"cnumpy\ndtype\n\x8c\x02O8\x85R.",
        "an array of type O8, only numbers are read",
    ),
    "a type that is made again": (
        b"cnumpy\ndtype\n\x8c\x02u1\x85R(K\x03\x8c\x02|ONNNK\x08K\x08K\x3ftb.",
        "byte order '\\|O'",
    ),
    "a type of several numbers": (
        b"cnumpy\ndtype\n\x8c\x02u1\x85R(K\x03\x8c\x013NNNK\x01K\x01K\x00tb.",
        "byte order '3'",
    ),
    "an array larger than its data": (
        NUMPY + b")R(K\x01M\xff\xff\x85cnumpy\ndtype\n\x8c\x02u1\x85R\x89C\x03abctb.",
        "3 bytes for an array of uint8",
    ),
    "an array of negative size": (
        NUMPY + b")R(K\x01J\xff\xff\xff\xff\x85cnumpy\ndtype\n\x8c\x02u1\x85R\x89C\x00tb.",
        "an array of shape",
    ),
    "a list that is none": (b"}K\x01a.", "no list"),
    "a dictionary that is none": (b"]K\x01K\x02s.", "no dictionary"),
    "half an item": (b"(K\x01d.", "argument"),
    "a false length": (b"B\xff\xff\xff\x7fx.", "ends too early"),
    "a false large length": (b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.", "ends too early"),
    "a negative length": (b"T\xff\xff\xff\xffx.", "ends too early"),
    "no end": (b"K\x01", "ends too early"),
    "an empty stack": (b".", "pop from empty list"),
    "a memory that is not there": (b"h\x07.", "7"),
    "code for a string": (b"S__import__('os').system('true')\n.", "malformed|invalid"),
}


@pytest.mark.parametrize("kind", HAND_MADE)
def test_pickles_made_by_hand_are_refused(kind: str) -> None:
    data, message = HAND_MADE[kind]
    with pytest.raises(Exception, match=message) as caught:
        read(data)
    assert not isinstance(caught.value, AssertionError | MemoryError)


def test_a_cut_pickle_is_refused_wherever_it_is_cut() -> None:
    data = pickle.dumps({"a": np.arange(300), "b": [1, "x", b"y", 2.5, {}]}, 2)
    for end in range(len(data)):
        with pytest.raises((EOFError, ValueError)):
            read(data[:end])


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_random_bytes_end_in_a_value_or_an_error(data: bytes) -> None:
    try:
        read(data)
    except MemoryError:
        pytest.fail("it asked for more memory than there is")
    except Exception:
        pass


def test_lists_inside_each_other_cost_no_more_than_their_bytes() -> None:
    inner: list[Any] = []
    for _ in range(200):
        inner = [inner, inner]
    assert len(read(pickle.dumps(inner, 2))) == 2


# What readers ask of a table.


def test_a_table_has_its_keys_as_text() -> None:
    data = python2_pickle({"labels": [1]})
    assert load_table(io.BytesIO(data), len(data)) == {"labels": [1]}
    data = pickle.dumps([1])
    with pytest.raises(ValueError, match="holds a list, must hold a dictionary"):
        load_table(io.BytesIO(data), len(data))


def test_integers_are_read_from_lists_and_arrays() -> None:
    assert integers([3, 1]).tolist() == [3, 1]
    assert integers([]).tolist() == []
    array = read(pickle.dumps(np.array([3, 1], "u1")))
    assert isinstance(array, Array)
    assert integers(array).dtype == np.int64
    for wrong in ([1.5], ["a"], [[1]], 3, [True, False], None):
        with pytest.raises(ValueError, match="where whole numbers must be"):
            integers(wrong)
