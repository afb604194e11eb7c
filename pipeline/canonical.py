"""Code as text that says what it does, and nothing of how it is written.

All versions of Python agree on it, unlike on ``ast.dump``'s. Comments, layout and docstrings are
not in it, nor the names that only one function sees: its own variables stand as numbers, in the
order in which they appear. A name stays as it is where something else may see it: a parameter, a
name that an inner function or class mentions, one that is global or imported, or that stands in a
string (``f"{x=}"``, ``frame.query("a > @x")``); and all of them where ``locals()`` or ``eval`` may.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count

# Fields of a syntax tree that say nothing about what the code does.
_SILENT = {"ctx", "kind", "type_comment"}
# Names through which code sees the names of its function's variables.
_SEE_LOCALS = {"dir", "eval", "exec", "inspect", "locals", "vars"}
# Fields that hold the name of a variable, beside those of names themselves.
_BINDING = {"ExceptHandler": "name", "MatchAs": "name", "MatchStar": "name", "MatchMapping": "rest"}

Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_Inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


def canonical(node: ast.AST) -> str:
    """A syntax tree as text.

    Empty fields are left out, since newer versions of Python add fields; so are constants that
    stand as statements, which are docstrings or do nothing.
    """
    return _Writer().text(node, {})


def is_idle(node: object) -> bool:
    """Whether a statement or an argument is there for readers alone."""
    if isinstance(node, ast.keyword):  # as in pydantic's Field(description="...")
        return node.arg == "description" and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


class _Variable:
    """A variable that only its function sees; its number comes with its first appearance."""

    number: int | None = None


_Variables = Mapping[str, _Variable]


class _Writer:
    """Writes one statement; numbers do not repeat in it."""

    def __init__(self) -> None:
        self._numbers = count()

    def text(self, node: object, own: _Variables) -> str:
        """A part of the tree, in which these names are variables of the function around it."""
        if isinstance(node, ast.Constant):
            return f"{type(node.value).__name__} {node.value!a}"
        if isinstance(node, ast.JoinedStr):  # Python 3.12 ends the format of f"{x:{width}}" with ""
            return f"JoinedStr{self.text([one for one in node.values if not _is_empty(one)], own)}"
        if isinstance(node, ast.AST):
            parts = ""
            for name, value, variables in self._fields(node, own):
                if value is not None and value != [] and name not in _SILENT:
                    parts += f"{name}={self.text(value, variables)} "
            return f"{type(node).__name__}({parts})"
        if isinstance(node, list):
            return f"[{' '.join([self.text(one, own) for one in node if not is_idle(one)])}]"
        if isinstance(node, _Variable):
            if node.number is None:
                node.number = next(self._numbers)
            return f"%{node.number}"
        return ascii(node)

    def _fields(self, node: ast.AST, own: _Variables) -> Iterator[tuple[str, object, _Variables]]:
        """Each field, and the variables of the function that it belongs to."""
        inside = own
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = _variables(node.body, node.args)
        elif isinstance(node, ast.Lambda):
            inside = _variables([node.body], node.args)
        elif isinstance(node, ast.ClassDef):
            inside = {}
        elif isinstance(node, Comprehension):
            yield from self._comprehension(node, own)
            return
        for name in node._fields:
            value = getattr(node, name)
            if isinstance(value, str) and name == _BINDING.get(type(node).__name__, "id"):
                value = own.get(value, value)
            yield name, value, inside if name == "body" else own

    def _comprehension(
        self, node: Comprehension, own: _Variables
    ) -> Iterator[tuple[str, object, _Variables]]:
        inside = {**own, **_targets(node)}
        for name in node._fields:
            if name != "generators":
                yield name, getattr(node, name), inside
        for index, part in enumerate(node.generators):
            # What the first one draws from is evaluated outside.
            yield "iter", part.iter, own if index == 0 else inside
            for name in ("target", "ifs", "is_async"):
                yield name, getattr(part, name), inside


class _Scope(ast.NodeVisitor):
    """What a function, or a comprehension, binds, and the names of it that others may see."""

    def __init__(self, parts: Iterable[ast.AST]) -> None:
        self.binds: set[str] = set()
        self.seen: set[str] = set()
        self.sees_locals = False
        self._depth = 0  # of inner functions and classes
        for part in parts:
            self.visit(part)

    def variables(self) -> dict[str, _Variable]:
        hidden = set() if self.sees_locals else self.binds - self.seen
        return {name: _Variable() for name in hidden if not name.startswith("__")}

    def visit_Name(self, node: ast.Name) -> None:
        self.sees_locals |= node.id in _SEE_LOCALS
        if self._depth:
            self.seen.add(node.id)
        elif not isinstance(node.ctx, ast.Load):
            self.binds.add(node.id)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.seen.update(re.findall(r"\w+", node.value))

    def visit_Expr(self, node: ast.Expr) -> None:
        if not is_idle(node):
            self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        if field := _BINDING.get(type(node).__name__):
            if name := getattr(node, field):
                (self.seen if self._depth else self.binds).add(name)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            self.seen.update(node.names)
        elif isinstance(node, ast.alias):
            self.seen.add(node.asname or node.name.partition(".")[0])
        super().generic_visit(node)

    def _inner(self, node: ast.AST) -> None:
        self.seen.add(getattr(node, "name", ""))
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _inner
    # Its value is a function, called when it is needed (Python 3.12).
    visit_TypeAlias = _inner

    def _comprehend(self, node: Comprehension) -> None:
        """What a comprehension binds is its own, but for ``:=``."""
        for part in ast.walk(node) if self._depth else ():
            if isinstance(part, ast.Name):
                self.seen.add(part.id)
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.comprehension):
                for part in (inner.iter, *inner.ifs):
                    self.visit(part)
            else:
                self.visit(inner)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehend


def _variables(body: Sequence[ast.AST], arguments: ast.arguments) -> _Variables:
    scope = _Scope(body)
    scope.seen.update(one.arg for one in ast.walk(arguments) if isinstance(one, ast.arg))
    return scope.variables()


def _targets(node: Comprehension) -> _Variables:
    """The variables of a comprehension."""
    scope = _Scope([node])
    scope.binds = {
        name.id
        for part in node.generators
        for name in ast.walk(part.target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    }
    return scope.variables()


def _is_empty(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == ""
