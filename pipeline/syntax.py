"""One module of the package as the digest sees it: its top-level names, what each refers to.

Only the syntax is read; nothing is imported.
"""

import ast
import builtins
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from pipeline.canonical import Comprehension, canonical, is_idle
from pipeline.errors import UserError

# Stands among a module's names for what acts when the module is imported.
ON_IMPORT = "(import)"

# Decorators, or whole libraries of them, that keep no list of what they wrap.
WRAPPERS = (
    *("abc.", "contextlib.", "dataclasses.", "functools.", "typing."),
    *("beartype.", "jaxtyping.", "pydantic."),
    *("torch.enable_grad.", "torch.inference_mode.", "torch.no_grad."),
)

# Names through which code reaches every other name of its module.
_DYNAMIC = {("eval",), ("exec",), ("globals",), ("locals",), ("sys", "modules")}

Names = tuple[str, ...]  # a dotted name: ("stats", "mean")


class Reference(NamedTuple):
    """A dotted name seen from a module; without names, the module as a whole."""

    module: str
    names: Names = ()

    def __str__(self) -> str:
        return ".".join((self.module, *self.names))

    def dot(self, names: Names) -> "Reference":
        return Reference(self.module, self.names + names)


class Definition(NamedTuple):
    """Everything that binds one top-level name."""

    statements: list["Statement"]
    origins: set[Reference]  # where it is imported from

    def digest(self) -> str:
        texts = [statement.text for statement in self.statements]
        return digest_of([*texts, *sorted(map(str, self.origins))])


class Module:
    """One file: its top-level names, and what acts when it is imported."""

    def __init__(self, name: str, path: Path, siblings: Container[str]) -> None:
        """``siblings`` are the names of all modules of the package."""
        parent = name.rpartition(".")[0]
        self.name = name
        self.path = path
        self.siblings = siblings
        self.package = name if path.name == "__init__.py" else parent
        self.definitions: dict[str, Definition] = {}
        self.runs = {Reference(parent, (ON_IMPORT,))}

        actions = []
        statements = [(node, Statement(node, self)) for node in _top_level(_parse(path).body)]
        for node, statement in statements:
            self.runs |= statement.runs
            for bound, origins in statement.binds.items():
                definition = self.definitions.setdefault(bound, Definition([], set()))
                definition.origins.update(origins)
                if not isinstance(node, ast.Import | ast.ImportFrom):
                    definition.statements.append(statement)
        for node, statement in statements:
            if statement.acts or not all(map(self._only_wraps, statement.decorators)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    self.runs.add(Reference(name, (node.name,)))
                else:
                    actions.append(statement)
        self.definitions[ON_IMPORT] = Definition(actions, set())

    def references(self, statements: Iterable["Statement"]) -> set[Reference]:
        """What the statements refer to, here or, by an import of their own, elsewhere."""
        found = set()
        for statement in statements:
            found |= statement.references
            hints = {names for names in statement.hints if names[0] in self.definitions}
            for names in statement.uses | hints:
                bound = names[0] in self.definitions
                if bound:
                    found.add(Reference(self.name, names))
                if names[:2] in _DYNAMIC or not (bound or _is_builtin(names[0])):
                    found.add(Reference(self.name))
        return found

    def _only_wraps(self, decorator: Names) -> bool:
        if not decorator:
            return False
        if decorator[-1] in {"setter", "getter", "deleter"}:  # of a property
            return True
        if decorator[0] not in self.definitions:
            return _is_builtin(decorator[0])
        origins = self.definitions[decorator[0]].origins
        paths = [f"{origin.dot(decorator[1:])}." for origin in origins]
        return bool(paths) and all(path.startswith(WRAPPERS) for path in paths)


class Scope:
    """The names that a module's statement, a function, class or comprehension binds and uses."""

    def __init__(self, seen_inside: "Scope | None" = None) -> None:
        self.binds: dict[str, set[Reference]] = {}  # to where a name is imported from
        self.uses: set[Names] = set()
        self.seen_inside = seen_inside or self  # functions in a class look past the class


class Statement(ast.NodeVisitor):
    """One top-level statement: what it says, binds and refers to."""

    def __init__(self, node: ast.stmt, module: Module) -> None:
        self.text = canonical(node)
        self.acts = False  # on import, apart from what its decorators do
        self.decorators: list[Names] = []
        self.runs: set[Reference] = set()  # by its imports
        self.references: set[Reference] = set()  # through imports inside functions
        self.hints: set[Names] = set()  # names that count only if the module binds them
        self._module = module
        self._top = self._scope = Scope()
        self.binds = self._top.binds
        self.uses = self._top.uses  # names of the module, or built in
        self.visit(node)

    @contextmanager
    def _inside(self, *, is_class: bool = False) -> Iterator[None]:
        outer = self._scope
        self._scope = scope = Scope(outer.seen_inside if is_class else None)
        yield
        self._scope = outer
        for names in scope.uses:
            if names[0] in scope.binds:
                self.references |= {origin.dot(names[1:]) for origin in scope.binds[names[0]]}
                if is_class:  # in ``fit = staticmethod(fit)`` the second is the module's
                    self.hints.add(names)
            else:
                outer.seen_inside.uses.add(names)

    def _on_import(self) -> bool:
        """Whether what is being visited runs when the module is imported."""
        return self._scope.seen_inside is self._top

    def _bind(self, name: str, *origins: Reference) -> None:
        self._scope.binds.setdefault(name, set()).update(origins)

    # What acts

    def _act(self, node: ast.AST) -> None:
        self.acts |= self._on_import()
        self.generic_visit(node)

    visit_Assert = visit_Delete = visit_Raise = _act

    def visit_Expr(self, node: ast.Expr) -> None:
        if not is_idle(node):
            self._act(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.acts |= self._on_import() and not isinstance(node.ctx, ast.Load)
        self.generic_visit(node)

    def _decorate(self, decorators: Iterable[ast.expr]) -> None:
        for decorator in decorators:
            self.visit(decorator)
            if self._on_import():
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                self.decorators.append(_dotted(called))

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._scope.uses.add((node.id,))
        else:
            self._bind(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.acts |= self._on_import() and not isinstance(node.ctx, ast.Load)
        if names := _dotted(node):
            self._scope.uses.add(names)
        else:
            self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.uses.update((name,) for name in node.names)

    def _capture(self, node: ast.AST) -> None:
        if name := getattr(node, "rest" if isinstance(node, ast.MatchMapping) else "name"):
            self._bind(name)
        self.generic_visit(node)

    visit_ExceptHandler = visit_MatchAs = visit_MatchStar = visit_MatchMapping = _capture

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        for part in ast.walk(node.annotation):  # pydantic evaluates what is quoted
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                with suppress(SyntaxError, ValueError):  # "batch channel" is no expression
                    quoted = ast.walk(ast.parse(part.value, mode="eval"))
                    self.hints |= {(name.id,) for name in quoted if isinstance(name, ast.Name)}

    # Scopes

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._bind(node.name)
        self._decorate(node.decorator_list)
        if node.returns:
            self.visit(node.returns)
        self._function(node.args, node.body)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._function(node.args, [node.body])

    def _function(self, arguments: ast.arguments, body: Sequence[ast.AST]) -> None:
        self.visit(arguments)  # annotations and default values, which belong outside
        with self._inside():
            for argument in ast.iter_child_nodes(arguments):
                if isinstance(argument, ast.arg):
                    self._bind(argument.arg)
            for node in body:
                self.visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name)
        self._decorate(node.decorator_list)
        for outside in (*node.bases, *node.keywords):
            self.visit(outside)
        with self._inside(is_class=True):
            for inner in node.body:
                self.visit(inner)

    def _comprehend(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)  # this one is evaluated outside
        with self._inside():
            self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehend

    # Imports

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._run(alias.name, node.lineno)
            bound = alias.asname or alias.name.partition(".")[0]
            self._bind(bound, Reference(alias.name if alias.asname else bound))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        source = _absolute("." * node.level + (node.module or ""), self._module.package)
        self._run(source, node.lineno)
        for alias in node.names:
            if f"{source}.{alias.name}" in self._module.siblings:
                self._run(f"{source}.{alias.name}", node.lineno)
            names = () if alias.name == "*" else (alias.name,)
            self._bind(alias.asname or alias.name, Reference(source, names))

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if _dotted(node.func)[-1:] in {("import_module",), ("__import__",)}:
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            match [getattr(argument, "value", None) for argument in arguments]:
                case [str(name), str(package), *_]:
                    self._import(_absolute(name, package), node.lineno)
                case [str(name), *_]:
                    self._import(_absolute(name, self._module.package), node.lineno)

    def _import(self, name: str, line: int) -> None:
        self._run(name, line)
        self.references.add(Reference(name))

    def _run(self, name: str, line: int) -> None:
        """Note that a module is imported here."""
        ours = name.partition(".")[0] == self._module.name.partition(".")[0]
        if ours and name not in self._module.siblings:
            raise UserError(
                f"{self._module.path}:{line}: imports {name}, which does not exist. "
                "Mend the import or add the module."
            )
        runs = self.runs if self._on_import() else self.references
        runs.add(Reference(name, (ON_IMPORT,)))


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements: those for type checkers too, but not those for running as a script."""
    for node in body:
        match node:
            case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from _top_level([*node.body, *node.orelse])
            case ast.If(test=ast.Compare(left=ast.Name("__name__")), orelse=[]):
                pass
            case _:
                yield node


def _dotted(node: ast.AST) -> Names:
    """``stats.mean`` as ("stats", "mean"); empty for anything but names and attributes."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (names := _dotted(node.value)):
        return (*names, node.attr)
    return ()


def _is_builtin(name: str) -> bool:
    return hasattr(builtins, name) or name.startswith("__")  # every module has a __file__


def _absolute(name: str, package: str) -> str:
    """The full name of a module that may be named relative to a package, as ``..files`` is."""
    local = name.lstrip(".")
    if local == name:
        return name
    parent = package.rsplit(".", len(name) - len(local) - 1)[0]
    return f"{parent}.{local}" if local else parent


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError) as error:
        line, reason = getattr(error, "lineno", None) or 1, getattr(error, "msg", error)
        raise UserError(f"{path}:{line}: this is not Python: {reason}. Mend the file.") from error


def digest_of(parts: Iterable[str]) -> str:
    return blake2b("\n".join(parts).encode(), digest_size=10).hexdigest()
