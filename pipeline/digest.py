"""Which code a result depends on: a digest of every definition that an entry reaches.

An entry is ``"pipeline.training.loop:train"`` or a whole module, ``"pipeline.heads.ridge"``.
References are followed from one top-level name to the next through the modules of the package;
the standard library and installed packages are not followed. A class counts as a whole. What
counts of a definition is its syntax tree without comments, docstrings, positions and the names of
a function's own variables: see ``pipeline.canonical``.

Where single names cannot be told apart, the whole module counts: a star import, ``globals()``,
``eval``, a module handed around as a value (``getattr(module, name)``), a name nothing binds.

Imports run code, and that counts too. Each module imported on the way, and each parent package,
adds the statements that act when it is imported: calls, ``table["a"] = fit``, and definitions
under a decorator that may register them, which is any outside ``pipeline.syntax.WRAPPERS``. A
plain assignment, whatever it calls, counts only for those who use its name.

Not seen: modules chosen while running, ``import_module(f"pipeline.heads.{head}")``. To follow
every candidate would couple each method to all others; who asks for the digest knows the choice
and names that module as one more entry. Nor are classes seen that register themselves through
``__init_subclass__`` or a metaclass, nor data files, nor the versions of installed packages.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.syntax import ON_IMPORT, Module, Reference, digest_of

ROOT = Path(__file__).resolve().parent.parent
# Where jobs keep the parts of their code, below the folder that holds results.
KEPT = Path("results/code")


def code_digest(entries: Iterable[str], root: Path = ROOT) -> str:
    """Twenty hexadecimal digits that change with any code the entries reach.

    Files are read once per process, so all digests of one process speak of the same code.

    Raises
    ------
    UserError
        If an entry or an imported module does not exist, or a file does not parse.
    """
    return _snapshot(root).digest(entries)


def parts(entries: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """What ``code_digest`` is made of: ``"module:name"`` to the digest of that name alone.

    A name stands for its definition or its import line, ``"module:(import)"`` for what acts when
    the module is imported. Two such mappings, compared, tell what moved.
    """
    return _snapshot(root).parts(entries)


def keep(entries: Iterable[str], folder: Path, root: Path = ROOT) -> None:
    """Write the parts of the code to ``<folder>/<digest>.json``, unless they are there already.

    So what moved can be told later, definition by definition.
    """
    found = parts(entries, root)
    path = _manifest(folder, _digest(found))
    if not path.exists():
        write_json(path, found)


def kept(code: str, folder: Path) -> dict[str, str] | None:
    """The parts of the code that has this digest; None if they were not kept, or not whole."""
    try:
        found = json.loads(_manifest(folder, code).read_text(encoding="utf-8"))
        return found if _digest(found) == code else None
    except (OSError, ValueError, AttributeError):
        return None


def _manifest(folder: Path, code: str) -> Path:
    return folder / f"{code}.json"


def _digest(found: dict[str, str]) -> str:
    return digest_of(f"{name} {own}" for name, own in sorted(found.items()))


class CodeBase:
    """The source of a package as it is now; each file is read once, when it is first needed."""

    def __init__(self, root: Path = ROOT, package: str = "pipeline") -> None:
        self._root = root
        self._paths = _find_modules(root, package)
        self._modules: dict[str, Module] = {}
        self._steps: dict[Reference, tuple[dict[str, str], set[Reference]]] = {}

    def digest(self, entries: Iterable[str]) -> str:
        return _digest(self.parts(entries))

    def parts(self, entries: Iterable[str]) -> dict[str, str]:
        pending = {self._entry(entry) for entry in entries}
        seen = set(pending)
        digests: dict[str, str] = {}
        while pending:
            reference = pending.pop()
            if reference not in self._steps:
                self._steps[reference] = self._follow(reference)
            own, onward = self._steps[reference]
            digests |= own
            pending |= onward - seen
            seen |= onward
        return digests

    def _entry(self, entry: str) -> Reference:
        name, _, symbol = entry.partition(":")
        if name not in self._paths:
            raise UserError(
                f"{entry}: there is no module {name} under {self._root}. An entry is "
                '"package.module:name" or "package.module"; correct it where it is asked for.'
            )
        module = self._module(name)
        if symbol and not {symbol, "*"} & module.definitions.keys():
            raise UserError(
                f"{entry}: {module.path} has no top-level name {symbol}, only "
                f"{', '.join(module.definitions.keys() - {ON_IMPORT}) or 'none'}. "
                "Correct the entry or add the name."
            )
        return Reference(name, (symbol,) if symbol else ())

    def _module(self, name: str) -> "Module":
        if name not in self._modules:
            self._modules[name] = Module(name, self._paths[name], self._paths.keys())
        return self._modules[name]

    def _follow(self, reference: Reference) -> tuple[dict[str, str], set[Reference]]:
        """The digest that a reference adds by itself, and the references it leads to."""
        module = self._module(reference.module)
        if not reference.names:
            names = (name for name in module.definitions if not self._only_used(module, name))
            return {}, {Reference(module.name, (name,)) for name in names}

        name, rest = reference.names[0], reference.names[1:]
        definition = module.definitions.get(name)
        submodule = f"{module.name}.{name}"
        own = {}
        onward = {Reference(module.name, (ON_IMPORT,))}
        if definition:
            onward |= module.references(definition.statements)
            onward |= {origin.dot(rest) for origin in definition.origins}
            if definition.statements or definition.origins:
                own[f"{module.name}:{name}"] = definition.digest()
        if submodule in self._paths:
            onward.add(Reference(submodule, rest))
        if name == ON_IMPORT:
            onward |= module.runs
        elif "*" in module.definitions or not (definition or submodule in self._paths):
            onward.add(Reference(module.name))
        return own, {target for target in onward if target.module in self._paths}

    def _only_used(self, module: "Module", name: str) -> bool:
        """Whether a name stands for another module, which is no part of this one."""
        definition = module.definitions[name]
        origins = {str(origin) for origin in definition.origins} & self._paths.keys()
        elsewhere = {origin for origin in origins if not origin.startswith(f"{module.name}.")}
        return name != "*" and not definition.statements and bool(elsewhere)


def _find_modules(root: Path, package: str) -> dict[str, Path]:
    paths = {}
    for path in (root / package).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


@cache
def _snapshot(root: Path) -> CodeBase:
    return CodeBase(root)
