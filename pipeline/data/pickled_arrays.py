"""Numpy arrays as pickles describe them, built anew from type, shape and bytes.

Numpy's own restoring code is written for pickles one trusts. Here it sees nothing of a
pickle: only arrays of numbers are known, and their bytes are only ever taken as numbers.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Span(NamedTuple):
    """Bytes that were left where they lie; without a path they cannot be had."""

    path: Path | None
    offset: int
    size: int


class Array:
    """An array of a pickle: its type and shape are known before its data are read."""

    def __init__(self) -> None:
        self.fill(Type("u1"), (0,), False, b"")

    def fill(self, dtype: object, shape: object, fortran: object, data: object) -> None:
        if not isinstance(dtype, Type) or not isinstance(data, bytes | bytearray | Span):
            raise ValueError("an array of something else than numbers")
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise ValueError(f"an array of shape {shape!r}")
        size = data.size if isinstance(data, Span) else len(data)
        if size != math.prod(shape) * dtype.numpy.itemsize:
            raise ValueError(f"{size} bytes for an array of {dtype.numpy} {shape}")
        self.dtype, self.shape, self._fortran, self._data = dtype.numpy, shape, fortran, data

    def build(self, state: object) -> None:
        _, shape, dtype, fortran, data = a_tuple(state)
        self.fill(dtype, shape, fortran, data)

    def values(self) -> NDArray[Any]:
        """The array itself: mapped read-only where its data were left in a file."""
        if not isinstance(self._data, Span):
            flat: NDArray[Any] = np.frombuffer(self._data, self.dtype)
        elif self._data.path is None:
            raise ValueError("the array's data were skipped")
        else:
            n = math.prod(self.shape)
            flat = np.memmap(self._data.path, self.dtype, "r", self._data.offset, n)
        return flat.reshape(self.shape, order="F" if self._fortran else "C")


class Type:
    """The type of an array, which numpy pickles as a code and then its byte order."""

    def __init__(self, code: object, *_: object) -> None:
        parts = re.fullmatch(r"([<>=|]?)(b1|[iu][1248]|f[248])", text(code))
        if parts is None:
            raise ValueError(f"an array of type {text(code)}, only numbers are read")
        order, self._code = parts.groups()
        self.numpy = np.dtype(order + self._code)

    def build(self, state: object) -> None:
        order = text(a_tuple(state)[1])
        if order not in ("<", ">", "=", "|"):
            raise ValueError(f"an array of byte order {order!r}")
        self.numpy = np.dtype(order + self._code)


def integers(value: object) -> NDArray[np.int64]:
    """A list or an array of whole numbers, (number,).

    Raises
    ------
    ValueError
        If it is anything else.
    """
    array = value.values() if isinstance(value, Array) else np.array(value)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{array.dtype} {array.shape} where whole numbers must be")
    return array.astype(np.int64)


def text(value: object) -> str:
    """A string, which Python 2 wrote as bytes."""
    if isinstance(value, bytes):
        return value.decode()
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a string must be")
    return value


def a_tuple(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise ValueError(f"a {type(value).__name__} where a tuple must be")
    return value


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> Array:
    array = Array()
    array.fill(dtype, shape, order == "F", data)
    return array


def _scalar(dtype: object, data: object) -> Any:
    return _from_buffer(data, dtype, (1,), "C").values()[0].item()


def _encode(string: object, coding: object) -> bytes:
    # What bytes are in the protocols that have none, where Python 3 wrote them.
    if text(coding) != "latin1":
        raise ValueError(f"bytes in the coding {text(coding)}")
    return text(string).encode("latin-1")


def _mentioned(*_: object) -> None:
    raise ValueError("an array is made in an unknown way")


# All that a pickle may name. Numpy's functions have two places: before numpy 2 and since.
KNOWN: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": _mentioned,
    "numpy.dtype": Type,
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",  # so Python 3 writes no bytes at all
    **{
        f"numpy.{core}.{name}": function
        for core in ("core", "_core")
        for name, function in (
            ("multiarray._reconstruct", lambda *_: Array()),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
