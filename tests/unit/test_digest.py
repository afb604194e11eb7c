"""Which code a result depends on: what a digest notices, and what it must not notice.

Small packages are written as text in which ``# == a.b`` opens the module ``pipeline.a.b``. In them
the entry ``pipeline.main:run`` must reach every name that starts with ``hit`` and none that starts
with ``miss``.
"""

import ast
import copy
import dis
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest

from pipeline import digest
from pipeline.canonical import canonical
from pipeline.digest import ROOT, CodeBase, code_digest, parts
from pipeline.errors import UserError


def write(root: Path, text: str) -> Path:
    """Write a package ``pipeline`` under ``root``; a module with submodules is a folder."""
    modules = dict(re.findall(r"^# == ([\w.]+)\n(.*?)(?=^# == |\Z)", text, re.M | re.S))
    (root / "pipeline").mkdir(parents=True, exist_ok=True)
    (root / "pipeline/__init__.py").touch()
    for name, source in modules.items():
        path = root.joinpath("pipeline", *name.split("."))
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        if any(other.startswith(f"{name}.") for other in modules):
            path.mkdir(exist_ok=True)
            (path / "__init__.py").write_text(source)
        else:
            path.with_suffix(".py").write_text(source)
    return root


def marked(root: Path) -> Iterator[str]:
    """Every definition, as "module:name", whose name says whether it must be reached."""
    for path in (root / "pipeline").rglob("*.py"):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            bound = getattr(node, "name", None)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound = node.id
            if isinstance(node, ast.alias) or not isinstance(bound, str):
                continue
            if bound.lower().startswith(("hit", "miss")):
                yield f"{name}:{bound}"


REFERENCES = {
    "a call": """
# == main
def run(): return hit()
def hit(): return hit_deeper() + HIT
def hit_deeper(): pass
HIT = 1
def miss(): return hit()
MISS = 2
""",
    "from x import y as z": """
# == main
from pipeline.other import hit as alias, miss
def run(): return alias()
# == other
def hit(): pass
def miss(): pass
""",
    "import x.y": """
# == main
import pipeline.other
def run(): return pipeline.other.hit()
# == other
def hit(): pass
def miss(): pass
""",
    "import x.y as z": """
# == main
import pipeline.other as o
def run(): return o.hit.attribute.deeper
# == other
hit = 1
miss = 2
""",
    "a module from its package": """
# == main
from pipeline import other
def run(): return other.hit()
# == other
def hit(): pass
def miss(): pass
""",
    "a module of a subpackage, by attributes": """
# == main
import pipeline.heads as heads
import pipeline.heads.ridge
def run(): return heads.ridge.hit()
# == heads
miss = 1
# == heads.ridge
def hit(): pass
def miss(): pass
""",
    "relative imports": """
# == main
from .heads.ridge import fit
def run(): return fit()
# == heads
# == heads.ridge
from . import gram
from ..other import hit
def fit(): return gram.hit(), hit()
def miss(): pass
# == heads.gram
def hit(): pass
# == other
def hit(): pass
def miss(): pass
""",
    "an import inside a function": """
# == main
def run():
    from pipeline.other import hit as h
    import pipeline.third as third
    def inner(): return h() + third.hit()
    return inner()
def miss():
    from pipeline.other import miss
    return miss()
# == other
def hit(): pass
def miss(): pass
# == third
def hit(): pass
def miss(): pass
""",
    "an import for type checkers": """
# == main
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from pipeline.other import Hit, hit_alias, Miss
def run(x: Hit) -> list[hit_alias]: pass
# == other
class hit_base: pass
class Hit(hit_base): pass
hit_alias = int
class Miss: pass
""",
    "a name passed on by other modules": """
# == main
from pipeline import heads
def run(): return heads.fit()
# == heads
from pipeline.heads.ridge import fit, miss
# == heads.ridge
from pipeline.heads.gram import hit as fit, miss
# == heads.gram
def hit(): pass
def miss(): pass
""",
    "a function that bears the name of its module": """
# == main
from pipeline.heads import ridge
def run(): return ridge()
# == heads
from pipeline.heads.ridge import ridge
# == heads.ridge
def ridge(): return hit()
def hit(): pass
""",
    "decorators, defaults, annotations": """
# == main
import functools
from dataclasses import dataclass
@hit_wrap(HIT_ARGUMENT)
def run(x: hit_type = hit_default, *, y=lambda: hit_late) -> hit_result: pass
def hit_wrap(x): return functools.cache
HIT_ARGUMENT = hit_type = hit_default = hit_late = hit_result = None
miss = None
""",
    "a class as a whole": """
# == main
def run(): return Model.create()
class Model(hit_base, metaclass=hit_meta):
    size: int = hit_size
    other: "list[HitQuoted] | None"
    @staticmethod
    def create(): pass
    def unused(self): return hit_helper()
class hit_base: pass
class hit_meta(type): pass
hit_size = 1
def hit_helper(): pass
class HitQuoted: pass
def miss(): pass
""",
    "a method and a function of one name": """
# == main
class run:
    def hit(self): return hit()
    other = 1
    hit_static = staticmethod(hit_static)
def hit(): pass
def hit_static(): pass
""",
    "names of a function's own": """
# == main
def run(miss_a, *miss_b, miss_c=1, **miss_d):
    miss_e = miss_a + miss_b + miss_c + miss_d + miss_e
    for miss_f, (miss_g, *miss_h) in miss_e: miss_f(miss_g, miss_h)
    with open("x") as miss_i: miss_i()
    try: pass
    except OSError as miss_j: miss_j()
    def miss_k(): return miss_a + miss_k
    import math as miss_l
    if (miss_m := miss_l): miss_m()
    match miss_m:
        case {"a": miss_n, **miss_o}: miss_n(miss_o)
        case [miss_p, *miss_q] as miss_r: miss_p(miss_q, miss_r)
    return [miss_s for miss_s in miss_e], lambda miss_t: miss_t
def outer():
    def run(): pass
def miss_a(): pass
def miss_b(): pass
def miss_c(): pass
def miss_d(): pass
def miss_e(): pass
def miss_f(): pass
def miss_g(): pass
def miss_h(): pass
def miss_i(): pass
def miss_j(): pass
def miss_k(): pass
def miss_l(): pass
def miss_m(): pass
def miss_n(): pass
def miss_o(): pass
def miss_p(): pass
def miss_q(): pass
def miss_r(): pass
def miss_s(): pass
def miss_t(): pass
""",
    "what a comprehension draws from": """
# == main
def run(x): return [hit for hit in hit(x)], {hit_key: 1 for y in x}
def hit(x): pass
hit_key = 1
""",
    "a name that is local next door only": """
# == main
def run():
    def inner(hit): return hit
    return inner, hit()
def hit(): pass
""",
    "a global that a function sets": """
# == main
def run():
    global hit
    hit += 1
hit = 0
""",
    "a nonlocal name": """
# == main
def run():
    miss = hit = 0
    def inner():
        nonlocal miss
        miss += 1
        def deeper():
            global hit
            return hit
    return inner
hit = miss = 0
""",
    "every statement that binds a name": """
# == main
def run(): return x, y, z
x = hit_first
x = hit_second
y = []
y += [hit_more]
if hit_test():
    z = hit_then
else:
    def z(): return hit_else
hit_first = hit_second = hit_more = hit_then = hit_else = 1
def hit_test(): pass
def miss(): pass
""",
    "either of two imports": """
# == main
try:
    from pipeline.fast import hit
except ImportError:
    from pipeline.slow import hit
def run(): return hit()
# == fast
def hit(): pass
def miss(): pass
# == slow
def hit(): pass
def miss(): pass
""",
    "import_module of a constant": """
# == main
from importlib import import_module
def run():
    import_module("pipeline.one").f()
    import_module(".ridge", "pipeline.heads")
    return import_module(".two", package=__package__)
# == one
def hit(): pass
# == two
def hit(): pass
# == heads
# == heads.ridge
def hit(): pass
# == heads.svm
def miss(): pass
""",
    "import_module of a name found while running": """
# == main
from importlib import import_module
def run(name): return getattr(import_module(f"pipeline.heads.{name}"), "fit")
# == heads
# == heads.ridge
def miss(): pass
""",
    "an import cycle": """
# == main
from pipeline import other
def run(): return other.hit()
def hit_back(): return run()
# == other
from pipeline import main
def hit(): return main.hit_back()
def miss(): return main
""",
    "names built in, and __file__": """
# == main
def run(): return len(__file__), __name__, __doc__, print
def miss(): pass
""",
}

WHOLE_MODULES = {
    "getattr of a module": """
# == main
from pipeline import other
def run(name): return getattr(other, name)
# == other
from pipeline.third import hit as passed_on
try:
    from pipeline import fast
except ImportError:
    fast = hit_slow
def hit(): pass
def hit_slow(): pass
# == third
def hit(): pass
def miss(): pass
# == fast
def hit(): pass
""",
    "a module as a value": """
# == main
from pipeline import other as o
def run(): return [o]
# == other
def hit(): pass
""",
    "an attribute that nothing binds": """
# == main
from pipeline import other
def run(): return other.made_while_running
# == other
def hit(): pass
""",
    "a star import": """
# == main
from pipeline.other import *
def run(): return f()
def hit_too(): pass
# == other
def f(): pass
def hit(): pass
""",
    "a star import, which may hide what is built in": """
# == main
from pipeline.other import *
def run(x): return len(x)
# == other
def len(x): return hit()
def hit(): pass
""",
    "globals()": """
# == main
def run(name): return globals()[name]
def hit(): return 1
""",
    "eval": """
# == main
def run(name): return eval(name)
def hit(): return 1
""",
    "sys.modules": """
# == main
import sys
def run(name): return getattr(sys.modules[__name__], name)
def hit(): return 1
""",
    "a name that nothing binds": """
# == main
def run(): return unheard_of()
def hit(): return 1
""",
    "a package, with the modules that it offers": """
# == main
from pipeline import heads
def run(name): return getattr(heads, name)
# == heads
from pipeline import other
from pipeline.heads import ridge
def hit(): return other.hit()
# == heads.ridge
def hit(): pass
# == heads.svm
def miss(): pass
# == other
def hit(): pass
def miss(): pass
""",
}

IMPORT_EFFECTS = {
    "a registry filled by decorators": """
# == main
import pipeline.methods
from pipeline.registry import find
def run(name): return find(name)
# == registry
TABLE = {}
def find(name): return TABLE[name]
def hit_register(name): return lambda f: TABLE.setdefault(name, f)
# == methods
from pipeline.registry import hit_register
@hit_register("a")
def hit(): return hit_helper()
def hit_helper(): pass
def miss(): pass
""",
    "a decorator that calls a method": """
# == main
import pipeline.methods
def run(): pass
# == methods
from pipeline.registry import table
@table.register
class hit: pass
@hit_handlers["b"]
def hit_second(): pass
hit_handlers = {}
# == registry
class hit_Table: pass
table = hit_Table()
""",
    "a method under a decorator of the package": """
# == main
import pipeline.methods
def run(): pass
# == methods
class hit:
    @hit_register
    def method(self): pass
def hit_register(f): pass
""",
    "statements": """
# == main
import pipeline.methods
def run(): pass
# == methods
TABLE = {}
hit_table = TABLE
hit_table["a"] = hit_assigned
hit_register(hit_called)
for hit_method in (hit_looped,): hit_register(hit_method)
if hit_condition: hit_register(hit_guarded)
del TABLE["b"]
def hit_register(f): pass
def hit_assigned(): pass
def hit_called(): pass
def hit_looped(): pass
def hit_guarded(): pass
hit_condition = True
miss_entry = TABLE["a"].attribute
def miss():
    TABLE["b"] = 1
    TABLE.attribute = 2
    TABLE.clear()
""",
    "a module imported from its package and never used": """
# == main
from pipeline import methods
def run(): pass
# == methods
hit()
def hit(): pass
""",
    "parent packages": """
# == main
from pipeline.heads.deep.ridge import f
def run(): return f()
# == heads
hit_set_up()
def hit_set_up(): pass
# == heads.deep
import pipeline.other
# == heads.deep.ridge
def f(): pass
# == other
hit_set_up()
def hit_set_up(): pass
def miss(): pass
""",
    "an import inside a function that is reached": """
# == main
def run():
    import pipeline.one
def unused():
    import pipeline.two
# == one
hit()
def hit(): pass
# == two
miss()
def miss(): pass
""",
    "decorators that only wrap": """
# == main
import pipeline.methods
def run(): pass
# == methods
import functools
from contextlib import contextmanager as manager
from dataclasses import dataclass
import torch
@dataclass(frozen=True)
class miss_class:
    @property
    def weight(self): pass
    @weight.setter
    def weight(self, value): pass
    @classmethod
    def create(cls): pass
@manager
def miss_manager(): pass
@functools.lru_cache(maxsize=None)
def miss_cached(): pass
@torch.no_grad()
def miss_torch(): pass
""",
    "a plain assignment counts for its users only": """
# == main
import pipeline.methods
def run(): pass
# == methods
def miss_build(): pass
miss_table = miss_build()
miss_one: int = miss_build()
miss_one += 1
with open("x") as miss_file: miss_text = miss_file.read()
""",
    "running as a script is not importing": """
# == main
import pipeline.methods
def run(): pass
# == methods
def miss(): pass
if __name__ == "__main__":
    miss()
""",
}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=name)
        for name, text in (REFERENCES | WHOLE_MODULES | IMPORT_EFFECTS).items()
    ],
)
def test_what_is_reached(text: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    names = set(marked(tmp_path))
    expected = {name for name in names if name.split(":")[1].lower().startswith("hit")}
    assert CodeBase(tmp_path).parts(["pipeline.main:run"]).keys() & names == expected


def test_an_entry_may_be_a_whole_module_without_the_modules_it_uses(tmp_path: Path) -> None:
    text = """
# == main
import math
from pipeline import other
from pipeline.third import f
def one(): return other.g()
def two(): return math.pi
# == other
def g(): pass
def h(): pass
# == third
def f(): pass
"""
    names = CodeBase(write(tmp_path, text)).parts(["pipeline.main"]).keys()
    assert names == {
        *("pipeline.main:one", "pipeline.main:two", "pipeline.main:math", "pipeline.main:other"),
        *("pipeline.main:f", "pipeline.other:g", "pipeline.third:f"),
    }


BASE = '''
# == main
"""What a module is for."""
import json
from pipeline import stats
from pipeline.files import write_json

BINS = (1, 2, 3)  # how many

class Table:
    """A table."""

    width: int = 80
    """Characters."""

    def render(self, rows):
        # The longest first.
        return sorted(rows, key=len)[: self.width]

def run(path, rows, *, level=0.95):
    """Run.

    At length.
    """
    text = f"{stats.mean(rows):>{len(rows)}}" + 'it'
    write_json(path, {"text": text, "level": level, "bins": BINS, "n": 10})
    return Table().render(json.dumps(rows))

def run_other(rows):
    return stats.ci95(rows)
# == stats
def mean(rows):
    return _total(rows) / len(rows)

def _total(rows):
    return sum(rows)

def ci95(rows):
    return 2 * mean(rows)
# == files
import json
def write_json(path, value):
    check(value)
    path.write_text(json.dumps(value))
def check(value):
    ...
def nobody_calls():
    pass
'''

# What is edited in the text of BASE, and whether it makes the result of ``run`` stale.
EDITS: dict[str, tuple[str, str, bool]] = {
    "a comment": ("# how many", "# so many", False),
    "the docstring of the module": ("What a module is for.", "Purpose.", False),
    "the docstring of a class": ('    """A table."""\n', "", False),
    "the docstring of an attribute": ("Characters.", "In characters.", False),
    "the docstring of a function": ("At length.", "For long.", False),
    "a new docstring": ("def mean(rows):\n", "def mean(rows):\n    'The mean.'\n", False),
    "line breaks": ("def run(path, rows, *,", "def run(\n    path,\n    rows,\n    *,", False),
    "a docstring in place of an ellipsis": ("    ...\n", '    "Nothing."\n', False),
    "a trailing comma": ("sorted(rows, key=len)", "sorted(rows, key=len,)", False),
    "parentheses": ("2 * mean(rows)", "(2 * (mean(rows)))", False),
    "redundant parentheses in reached code": (
        "_total(rows) / len(rows)",
        "(_total(rows)) / (len(rows))",
        False,
    ),
    "quotes": ("'it'", '"it"', False),
    "strings side by side": ("'it'", "'i' 't'", False),
    "how a number is written": ('"n": 10', '"n": 0xA', False),
    "the order of definitions": (
        "def _total(rows):\n    return sum(rows)\n\ndef ci95(rows):\n    return 2 * mean(rows)\n",
        "def ci95(rows):\n    return 2 * mean(rows)\n\ndef _total(rows):\n    return sum(rows)\n",
        False,
    ),
    "the order of imports": (
        "from pipeline import stats\nfrom pipeline.files import write_json\n",
        "from pipeline.files import write_json\nfrom pipeline import stats\n",
        False,
    ),
    "a relative import": ("from pipeline import stats", "from . import stats", False),
    "another way to import the same": (
        "from pipeline import stats",
        "import pipeline.stats as stats",
        False,
    ),
    "more names from one import": ("import write_json", "import nobody_calls, write_json", False),
    "an import that nobody uses": ("import json\nfrom", "import math\nimport json\nfrom", False),
    "a new definition": ("# == files\n", "# == files\ndef new(): return 1\n", False),
    "a helper that nobody calls": ("    pass\n", "    return 1\n", False),
    "an assignment that nobody uses": ("# == files\n", "# == files\nx = [max()][0].y\n", False),
    "what another function calls": ("2 * mean", "3 * mean", False),
    "another function": ("stats.ci95(rows)", "stats.ci95(rows[1:])", False),
    "a statement": ("return sum(rows)", "return sum(rows) + 1", True),
    "the name of a variable": ('text = f"', 'line = f"', True),
    "a constant": ("(1, 2, 3)", "(1, 2, 4)", True),
    "the type of a constant": ('"n": 10', '"n": 10.0', True),
    "a string": ("'it'", "'It'", True),
    "a string that is no docstring": ('"text": text', '"Text": text', True),
    "the format of a number": (":>{", ":<{", True),
    "a default value": ("level=0.95", "level=0.99", True),
    "the name of a parameter": ("path, rows, *", "path, rows_, *", True),
    "a keyword-only marker": ("rows, *, level", "rows, level", True),
    "an annotation": ("width: int", "width: float", True),
    "a method": ("key=len)", "key=str)", True),
    "the order of operands": ("_total(rows) / len(rows)", "len(rows) / _total(rows)", True),
    "the origin of a name": ("import json\nfrom", "import ujson as json\nfrom", True),
    "the origin of a name, two modules away": (
        "import json\ndef",
        "from simplejson import api as json\ndef",
        True,
    ),
    "a new call": ("return sum(rows)", "nobody(); return sum(rows)", True),
    "a decorator": ("def _total", "@functools.cache\ndef _total", True),
    "a second definition": ("# == files\n", "_total = None\n# == files\n", True),
    "async": ("def _total", "async def _total", True),
    "a statement that acts on import": ("# == files\n", "# == files\njson.encoder = 1\n", True),
}


@pytest.mark.parametrize(
    ("old", "new", "stale"), [pytest.param(*edit, id=name) for name, edit in EDITS.items()]
)
def test_what_an_edit_makes_stale(old: str, new: str, stale: bool, tmp_path: Path) -> None:
    assert BASE.count(old) == 1
    before = CodeBase(write(tmp_path / "before", BASE)).digest(["pipeline.main:run"])
    after = CodeBase(write(tmp_path / "after", BASE.replace(old, new))).digest(
        ["pipeline.main:run"]
    )
    assert (before != after) == stale


def test_an_edit_moves_one_name(tmp_path: Path) -> None:
    before = CodeBase(write(tmp_path / "a", BASE)).parts(["pipeline.main:run"])
    edited = BASE.replace("sum(rows)", "max(rows)")
    after = CodeBase(write(tmp_path / "b", edited)).parts(["pipeline.main:run"])
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"pipeline.stats:_total"}


def test_entries_are_a_set(tmp_path: Path) -> None:
    code = CodeBase(write(tmp_path, BASE))
    first, second = "pipeline.main:run", "pipeline.stats:ci95"
    assert code.digest([first, second]) == code.digest([second, first, second])
    assert code.digest([first]) != code.digest([first, second])
    assert code.parts([first, second]) == code.parts([first]) | code.parts([second])


def test_a_code_base_is_a_snapshot(tmp_path: Path) -> None:
    code = CodeBase(write(tmp_path, BASE))
    before = code.digest(["pipeline.main:run"])
    write(tmp_path, BASE.replace("sum(rows)", "max(rows)"))
    assert code.digest(["pipeline.main:run"]) == before
    assert CodeBase(tmp_path).digest(["pipeline.main:run"]) != before


def test_another_package_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path, "# == main\nfrom pipelines import f\nimport other.g\ndef run(): f(other.g)\n")
    assert CodeBase(tmp_path).parts(["pipeline.main:run"]).keys() == {
        *("pipeline.main:run", "pipeline.main:f", "pipeline.main:other")
    }


@pytest.mark.parametrize(
    ("text", "entry", "message"),
    [
        ("# == main\n", "pipeline.nowhere:run", r"pipeline\.nowhere:run: there is no module"),
        ("# == main\n", "main:run", "there is no module main under"),
        ("# == main\ndef f(): pass\n", "pipeline.main:run", r"main\.py has no .* run, only f\."),
        ("# == main\n\nx = = 1\n", "pipeline.main:x", r"main\.py:2: .*invalid syntax"),
        ("# == main\nx = '\0'\n", "pipeline.main:x", r"main\.py:\d: .*null byte"),
        (
            "# == main\nimport math\nfrom pipeline.nowhere import f\n",
            "pipeline.main",
            r"main\.py:2: imports pipeline\.nowhere, which does not exist",
        ),
        (
            "# == main\nother = __import__('pipeline.nowhere')\n",
            "pipeline.main:other",
            r"main\.py:1: imports pipeline\.nowhere",
        ),
        (
            "# == main\nfrom pipeline.other import f\n# == other\ndef f():\n    from . import g\n"
            "    import pipeline.g\n",
            "pipeline.main:f",
            r"other\.py:3: imports pipeline\.g, which",
        ),
    ],
)
def test_faults_name_file_and_line(text: str, entry: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, text)
    with pytest.raises(UserError, match=message):
        CodeBase(tmp_path).digest([entry])


# Whatever Python versions have dumped differently, and a little of everything.
GRAMMAR = r'''
# == main
from __future__ import annotations
import functools, os.path as p
from pipeline.other import *
GOLDEN: float = 1e400 + 1_000 - 0xFF * 1j ** -0.5 // True
TEXTS = "é" "\N{BULLET}", b"\x00", r"\d", u"u", f"{GOLDEN:{p}}", f"{GOLDEN!r:>{p}.{TEXTS}f}{p=}"
EMPTY = (), [], {}, f"", f"{GOLDEN:}", ..., None, "", b""
@functools.cache
def run(a, /, b: int = 1, *c, d=2, e, **f) -> "str":
    """Docstring."""
    global GOLDEN
    x, *y = a if b else c
    x[1:2, ::3, ...].attr += (z := lambda *q, r=1: q) @ {1: 2, **f}[1]
    del x, y
    while not 1 < 2 <= 3 is not None:
        break
    else:
        assert a, "b"
    try:
        raise ValueError from None
    except (OSError, ValueError) as error:
        pass
    finally:
        yield from [g for h in i async for g in h if g if not h]
    try:
        pass
    except* TypeError:
        continue_ = {*a}
    match a:
        case {"k": [1, *_, p.sep], **rest} | Base(0, x=-1.5) as whole if whole:
            return
        case None | "s":
            yield
class Base(*TEXTS, metaclass=type):
    field: "list[int]"
    async def method(self):
        async with a as b, c:
            await d
        nonlocal_ = {k: v for k, v in e}
# == other
def other(): return print(*"a", sep="")
'''


# A function, and one of its names in another word: whether the digest moves.
RENAMED: dict[str, tuple[str, str, str, bool]] = {
    "a variable": ("t = a; return t", "t", "u", False),
    "a variable, half of it": ("t = a; u = t; return t", "return t", "return u", True),
    "two variables, swapped": ("t = a; u = b; return t - u", "return t - u", "return u - t", True),
    "a variable to the name of another": ("t = 1; u = 2; return t, u", "u", "t", True),
    "a variable to the name of a parameter": ("t = 1; return t + a", "t", "a", True),
    "a parameter": ("return a", "a", "c", True),
    "what a loop draws": ("for t in a: print(t)", "t", "u", False),
    "what a comprehension draws": ("return [t for t in a if t]", "t", "u", False),
    "what a comprehension draws, to what it draws from": (
        "t = a; return [u for u in t]",
        "u",
        "t",
        False,
    ),
    "one of two that comprehensions draw": (
        "return [t for t in [t for t in a]]",
        "return [t for t in",
        "return [u for u in",
        False,
    ),
    "what a comprehension draws, half of it": (
        "t = 1; return [u for u in a]",
        "[u for",
        "[t for",
        True,
    ),
    "a variable that a comprehension uses": ("t = 1; return [t for u in a]", "t", "c", False),
    "what := binds in a comprehension": ("return [(t := u) for u in a], t", "t", "c", False),
    "what is caught": ("try: pass\n    except OSError as t: print(t)", "t", "u", False),
    "what is matched": ("match a:\n        case [t, *u]: return t, u", "t", "c", False),
    "the rest of a mapping": ("match a:\n        case {'k': 1, **t}: return t", "t", "c", False),
    "a starred variable": ("t, *u = a; return u", "u", "c", False),
    "a variable of an inner function": (
        "def f():\n        t = 1\n        return t\n    return f()",
        "t = 1",
        "t = 1",
        False,
    ),
    "a variable of an inner function, its own": (
        "def f():\n        t = 1\n        return t + 1\n    return f()",
        "t",
        "u",
        False,
    ),
    "a variable that an inner function reads": ("t = a; return lambda: t", "t", "u", True),
    "a variable that an inner function has too": (
        "t = a; f = lambda t: t; return t",
        "f",
        "g",
        False,
    ),
    "a nonlocal variable": (
        "t = a\n    def f():\n        nonlocal t\n        t = 1\n    return t",
        "t",
        "u",
        True,
    ),
    "a global": ("global t\n    t = a", "t", "u", True),
    "an import": ("import json\n    return json", "json", "math", True),
    "another name for an import": ("import json as t\n    return t", "t", "u", True),
    "an inner function": ("def t(): pass\n    return t", "t", "u", True),
    "a name of a class body": ("class C:\n        t = 1\n    return C", "t", "u", True),
    "a variable that a class body reads": ("t = a\n    class C:\n        u = t", "t", "v", True),
    "a variable where locals() may see it": ("t = a; return locals()", "t", "u", True),
    "a variable where eval may see it": ("t = a; return eval(b)", "t", "u", True),
    "a variable where an inner exec may see it": ("t = a; return lambda: exec(b)", "t", "u", True),
    "a variable that a string names": ("t = a; return b.query('x > @t')", "t =", "u =", True),
    "a variable that a format prints": ("t = a; return f'{t=}'", "t", "u", True),
    "a variable that is written in a format": ("t = a; return f'{t:>{t}}'", "t", "u", False),
    "an attribute": ("t = a; return t.t", "t.t", "t.u", True),
    "the name of an argument": ("t = a; return b(t=t)", "t=t", "u=t", True),
    "a mangled name": ("__t = a; return __t", "__t", "__u", True),
    "a variable that is deleted": ("t = a; del t", "t", "u", False),
}


@pytest.mark.parametrize(
    ("body", "old", "new", "moves"),
    [pytest.param(*edit, id=name) for name, edit in RENAMED.items()],
)
def test_what_a_new_name_moves(body: str, old: str, new: str, moves: bool, tmp_path: Path) -> None:
    pattern = rf"\b{re.escape(old)}\b" if old.isidentifier() else re.escape(old)
    renamed, count = re.subn(pattern, new, body)
    assert count > 0
    before, after = (
        CodeBase(write(tmp_path / name, f"# == main\ndef run(a, b):\n    {text}\n"))
        for name, text in (("before", body), ("after", renamed))
    )
    assert (before.digest(["pipeline.main:run"]) != after.digest(["pipeline.main:run"])) == moves


def functions() -> list[ast.FunctionDef]:
    """All functions and methods of the package that are in no other function."""
    found = []
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        pending: list[ast.AST] = [ast.parse(path.read_text())]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.FunctionDef):
                node.decorator_list = []
                found.append(node)
            elif isinstance(node, ast.Module | ast.ClassDef | ast.If):
                pending += node.body
    return found


def compiled(function: ast.FunctionDef) -> Any:
    """What the interpreter makes of a function, its variables numbered as they appear."""

    def plain(code: Any, outer: dict[str, list[int]]) -> Any:
        numbers = {name: outer[name] for name in code.co_freevars}
        shared = {*code.co_cellvars, *code.co_freevars}
        steps = []
        for step in dis.get_instructions(code):
            value = step.argval
            if step.opname in ("MAKE_CELL", "COPY_FREE_VARS"):
                continue
            if step.opname == "LOAD_CLOSURE" or (step.opname == "LOAD_FAST" and value in shared):
                value = None  # in the order of their names, for an inner function to find
            elif "_FAST" in step.opname or "_DEREF" in step.opname:
                names = value if isinstance(value, tuple) else (value,)
                for name in names:
                    if not numbers.setdefault(name, []):
                        numbers[name].append(next(fresh))
                value = tuple(numbers[name][0] for name in names)
            elif hasattr(value, "co_code"):
                for name in value.co_freevars:
                    numbers.setdefault(name, [])
                value = plain(value, numbers)
            elif step.opname.startswith(("JUMP", "POP_JUMP", "FOR_ITER", "SEND")):
                value = "jump"  # the distance, which the order of cells may change
            steps.append((step.opname, repr(value)))
        arguments = code.co_argcount + code.co_kwonlyargcount
        return code.co_name, steps, code.co_varnames[:arguments]

    fresh = count()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        return plain(compile(ast.unparse(function), "", "exec", dont_inherit=True, optimize=2), {})


def test_functions_of_one_text_are_one_function_to_the_interpreter() -> None:
    """A name in every third function replaced by another: where the text stays, so does the code."""
    random = Random(0)
    kept = moved = 0
    for function in functions()[::3]:
        text = canonical(function)
        names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        for _ in range(2 if names else 0):
            edited = copy.deepcopy(function)
            nodes = [node for node in ast.walk(edited) if isinstance(node, ast.Name)]
            old, new = random.choice(nodes).id, random.choice([random.choice(nodes).id, "fresh"])
            chosen = [node for node in nodes if node.id == old]
            for node in chosen if random.random() < 0.7 else [random.choice(chosen)]:
                node.id = new
            try:
                after = compiled(edited)
            except SyntaxError:
                continue
            if canonical(edited) == text:
                kept += 1
                assert after == compiled(function), (ast.unparse(function), old, new)
            else:
                moved += 1
    assert kept > 20
    assert moved > 100


def test_parts_are_kept_under_their_digest(tmp_path: Path) -> None:
    root = write(tmp_path / "code", BASE)
    entries = ["pipeline.main:run"]
    digest.keep(entries, tmp_path / "kept", root)
    code = code_digest(entries, root)
    assert digest.kept(code, tmp_path / "kept") == parts(entries, root)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [f"{code}.json"]


def test_parts_that_are_kept_are_not_written_again(tmp_path: Path) -> None:
    root = write(tmp_path / "code", BASE)
    digest.keep(["pipeline.main:run"], tmp_path / "kept", root)
    (file,) = (tmp_path / "kept").iterdir()
    before = file.stat()
    digest.keep(["pipeline.main:run"], tmp_path / "kept", root)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"pipeline.main:run": "00"}', '{"a": 1'])
def test_parts_that_are_not_whole_are_not_believed(content: str, tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef0123.json").write_text(content)
    assert digest.kept("0123456789abcdef0123", tmp_path) is None
    assert digest.kept("ffffffffffffffffffff", tmp_path) is None


def test_a_digest_never_moves_by_itself(tmp_path: Path) -> None:
    # A new value here makes every result of every user stale: only ever on purpose.
    code = CodeBase(write(tmp_path, GRAMMAR))
    assert code.digest(["pipeline.main"]) == "38b4eb1a95800ddaf205"


def interpreters() -> list[str]:
    """Other versions of Python that can run this code, on the path or where tools put them."""
    pattern = "bin/python3.1[1-9]"
    found = [str(path) for path in Path.home().glob(f".pyenv/versions/*/{pattern}")]
    found += [str(path) for path in Path.home().glob(f".local/share/uv/python/*/{pattern}")]
    found += filter(None, (shutil.which(f"python3.{minor}") for minor in range(11, 20)))
    versions: dict[str, str] = {}
    for python in found:
        question = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
        answer = subprocess.run([python, "-c", question], capture_output=True, text=True)
        if answer.returncode == 0 and answer.stdout.startswith("cpython"):
            versions.setdefault(answer.stdout, python)
    versions.pop("cpython {} {}\n".format(*sys.version_info[:2]), None)
    return list(versions.values())


def parts_elsewhere(python: str, root: Path, entries: list[str], **env: str) -> Any:
    """``CodeBase(root).parts(entries)`` in a new process."""
    program = (
        "import json, sys; from pathlib import Path; from pipeline.digest import CodeBase; "
        "print(json.dumps(CodeBase(Path(sys.argv[1])).parts(sys.argv[2:])))"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **env}
    answer = subprocess.run(
        [python, "-S", "-c", program, str(root), *entries],
        capture_output=True,
        text=True,
        env=variables,
        check=True,
    )
    return json.loads(answer.stdout)


def every_module() -> list[str]:
    paths = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "pipeline").rglob("*.py"))
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in paths)


def test_all_versions_of_python_agree(tmp_path: Path) -> None:
    others = interpreters()
    if not others:
        pytest.skip("there is only one version of Python here")
    write(tmp_path, GRAMMAR)
    for python in others:
        for root, entries in ((tmp_path, ["pipeline.main"]), (ROOT, every_module())):
            assert parts_elsewhere(python, root, entries) == CodeBase(root).parts(entries)


def test_the_order_of_sets_does_not_matter() -> None:
    first, second = (
        parts_elsewhere(sys.executable, ROOT, every_module(), PYTHONHASHSEED=seed)
        for seed in ("1", "2")
    )
    assert first == second == parts(every_module())


def test_formatting_and_comments_of_this_package_do_not_count(tmp_path: Path) -> None:
    for path in (ROOT / "pipeline").rglob("*.py"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(ast.unparse(ast.parse(path.read_text())))
    assert CodeBase(tmp_path).parts(every_module()) == CodeBase().parts(every_module())


def test_whatever_runs_was_reached() -> None:
    ran = set()

    def watch(frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("pipeline."):
            ran.add(f"{module}:{frame.f_code.co_qualname.partition('.')[0]}")

    sys.setprofile(watch)
    try:
        with pytest.raises(UserError):
            CodeBase().digest([*every_module(), "pipeline.nowhere"])
    finally:
        sys.setprofile(None)
    assert len(ran) > 10
    assert ran <= CodeBase().parts(["pipeline.digest:CodeBase"]).keys()


def test_one_process_sees_one_state_of_the_code() -> None:
    entries = ["pipeline.streams:generator"]
    assert code_digest(entries) == CodeBase().digest(entries)
    assert parts(entries) == CodeBase().parts(entries)
    assert re.fullmatch("[0-9a-f]{20}", code_digest(entries))
    assert digest._snapshot(ROOT) is digest._snapshot(ROOT)
