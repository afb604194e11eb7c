"""Pickles read without being run: an interpreter of their plain instructions alone.

Python's own unpickler calls whatever a pickle names. Here a pickle may hold numbers, strings,
lists, tuples, dictionaries and numpy arrays of numbers, written by any Python in any protocol
(the instructions are described in Python's ``pickletools``); at anything else reading stops.
The bytes of a large array stay in the file and are mapped from there, so a pickle may be
larger than memory.
"""

import ast
import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any, NamedTuple

from pipeline.data.pickled_arrays import KNOWN, Array, Span, Type, a_tuple, text

LARGE = 1 << 20  # bytes from which on a string can only be an array's data


class Backing(NamedTuple):
    """Where a pickle begins in a file that holds it as it is, not compressed."""

    path: Path
    offset: int


def load(
    file: IO[bytes], size: int, backing: Backing | None = None, skip_large: bool = False
) -> Any:
    """What a pickle of ``size`` bytes holds; an array comes as ``Array``, Python 2's str as bytes.

    The data of large arrays are left in ``backing``, where it is given. With ``skip_large``
    they are left out: only types and shapes are wanted.

    Raises
    ------
    UnpicklingError
        If it asks for anything but plain containers and arrays of numbers.
    Exception
        Of almost any kind, if it is damaged.
    """
    return _Machine(file, size, backing, skip_large).run()


def load_table(
    file: IO[bytes], size: int, backing: Backing | None = None, skip_large: bool = False
) -> dict[str, Any]:
    """A pickled dictionary, its keys as text; see ``load``."""
    table = load(file, size, backing, skip_large)
    if not isinstance(table, dict):
        raise ValueError(f"it holds a {type(table).__name__}, must hold a dictionary")
    return {text(key): value for key, value in table.items()}


class _Machine:
    """The stack, the stacks below its marks, and the memory that a pickle works on."""

    def __init__(
        self, file: IO[bytes], size: int, backing: Backing | None, skip_large: bool
    ) -> None:
        self._file, self._at, self._size = file, 0, size
        self._backing, self._skip_large = backing, skip_large
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memory: dict[int, Any] = {}

    def run(self) -> Any:
        while (code := self.read(1)) != pickle.STOP:
            if code in _VALUES:
                value = _VALUES[code](self)  # which may change the stack
                self.stack.append(value)
            elif code in _STEPS:
                _STEPS[code](self)
            else:
                raise UnpicklingError(
                    f"it holds the instruction {code!r}, only plain containers "
                    "and numpy arrays are read"
                )
        return self.stack.pop()

    def read(self, n: int) -> bytes:
        # The length is checked first: a false one would ask for all memory.
        data = self._file.read(n) if 0 <= n <= self._size - self._at else b""
        if len(data) != n:
            raise EOFError("it ends too early")
        self._at += n
        return data

    def line(self) -> bytes:
        line = self._file.readline(self._size - self._at)
        if not line.endswith(b"\n"):
            raise EOFError("it ends too early")
        self._at += len(line)
        return line[:-1]

    def number(self, form: str) -> Any:
        (number,) = struct.unpack(form, self.read(struct.calcsize(form)))
        return number

    def data(self, n: int) -> bytes | bytearray | Span:
        if n < LARGE or n > self._size - self._at:
            return self.read(n)
        start = self._at
        if self._backing is not None:
            self._file.seek(n, io.SEEK_CUR)
            self._at += n
            return Span(self._backing.path, self._backing.offset + start, n)
        data = bytearray(0 if self._skip_large else n)
        # In blocks, since the files of some archives build what they read out of copies.
        for at in range(0, n, LARGE):
            block = self.read(min(LARGE, n - at))
            if not self._skip_large:
                data[at : at + len(block)] = block
        return Span(None, start, n) if self._skip_large else data

    def pop(self, n: int) -> list[Any]:
        """The last ``n`` values, in their order."""
        values = [self.stack.pop() for _ in range(n)]
        return values[::-1]

    def pop_to_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def set_mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def put(self, place: int) -> None:
        self.memory[place] = self.stack[-1]

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise ValueError("it appends to something that is no list")
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict):
            raise ValueError("it sets items of something that is no dictionary")
        self.stack[-1].update(_pairs(values))

    def build(self) -> None:
        (state,) = self.pop(1)
        if not isinstance(self.stack[-1], Array | Type):
            raise UnpicklingError("it restores something that is no numpy array")
        self.stack[-1].build(state)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _named(module: str, name: str) -> Callable[..., Any]:
    if f"{module}.{name}" not in KNOWN:
        raise UnpicklingError(
            f"it asks for {module}.{name}, only plain containers and numpy arrays are read"
        )
    return KNOWN[f"{module}.{name}"]


def _called(function: object, arguments: object) -> Any:
    # Nothing but what _named gave can be on the stack and be callable.
    if not callable(function):
        raise UnpicklingError("it calls something that is no function")
    return function(*a_tuple(arguments))


def _integer(line: bytes) -> int:
    return {b"00": False, b"01": True}.get(line, int(line))


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


# What an instruction puts on the stack, and how the number before it is written.
_VALUES: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.NONE: lambda _: None,
    pickle.NEWTRUE: lambda _: True,
    pickle.NEWFALSE: lambda _: False,
    pickle.BININT: lambda m: m.number("<i"),
    pickle.BININT1: lambda m: m.number("<B"),
    pickle.BININT2: lambda m: m.number("<H"),
    pickle.BINFLOAT: lambda m: m.number(">d"),
    pickle.LONG1: lambda m: _long(m.read(m.number("<B"))),
    pickle.LONG4: lambda m: _long(m.read(m.number("<i"))),
    pickle.INT: lambda m: _integer(m.line()),
    pickle.LONG: lambda m: int(m.line().rstrip(b"L")),
    pickle.FLOAT: lambda m: float(m.line()),
    pickle.STRING: lambda m: ast.literal_eval("b" + m.line().decode("ascii")),
    pickle.UNICODE: lambda m: m.line().decode("raw-unicode-escape"),
    pickle.BINSTRING: lambda m: m.data(m.number("<i")),
    pickle.SHORT_BINSTRING: lambda m: m.data(m.number("<B")),
    pickle.BINBYTES: lambda m: m.data(m.number("<I")),
    pickle.SHORT_BINBYTES: lambda m: m.data(m.number("<B")),
    pickle.BINBYTES8: lambda m: m.data(m.number("<Q")),
    pickle.BYTEARRAY8: lambda m: m.data(m.number("<Q")),
    pickle.BINUNICODE: lambda m: _utf8(m.read(m.number("<I"))),
    pickle.SHORT_BINUNICODE: lambda m: _utf8(m.read(m.number("<B"))),
    pickle.BINUNICODE8: lambda m: _utf8(m.read(m.number("<Q"))),
    pickle.EMPTY_LIST: lambda _: [],
    pickle.EMPTY_DICT: lambda _: {},
    pickle.EMPTY_TUPLE: lambda _: (),
    pickle.LIST: lambda m: m.pop_to_mark(),
    pickle.DICT: lambda m: _pairs(m.pop_to_mark()),
    pickle.TUPLE: lambda m: tuple(m.pop_to_mark()),
    pickle.TUPLE1: lambda m: tuple(m.pop(1)),
    pickle.TUPLE2: lambda m: tuple(m.pop(2)),
    pickle.TUPLE3: lambda m: tuple(m.pop(3)),
    pickle.GLOBAL: lambda m: _named(m.line().decode(), m.line().decode()),
    pickle.STACK_GLOBAL: lambda m: _named(*map(text, m.pop(2))),
    pickle.REDUCE: lambda m: _called(*m.pop(2)),
    pickle.GET: lambda m: m.memory[int(m.line())],
    pickle.BINGET: lambda m: m.memory[m.number("<B")],
    pickle.LONG_BINGET: lambda m: m.memory[m.number("<I")],
}

# What else an instruction does.
_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: lambda m: m.number("<B"),
    pickle.FRAME: lambda m: m.number("<Q"),  # how much to read ahead
    pickle.MARK: _Machine.set_mark,
    pickle.APPEND: lambda m: m.extend(m.pop(1)),
    pickle.APPENDS: lambda m: m.extend(m.pop_to_mark()),
    pickle.SETITEM: lambda m: m.update(m.pop(2)),
    pickle.SETITEMS: lambda m: m.update(m.pop_to_mark()),
    pickle.BUILD: _Machine.build,
    pickle.PUT: lambda m: m.put(int(m.line())),
    pickle.BINPUT: lambda m: m.put(m.number("<B")),
    pickle.LONG_BINPUT: lambda m: m.put(m.number("<I")),
    pickle.MEMOIZE: lambda m: m.put(len(m.memory)),
}
