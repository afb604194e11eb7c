"""docs/robustness.md: inputs tried and their outcomes, each line written by the test that saw it.

To add a section, in a test file of its own::

    ROBUSTNESS = "Damaged pickles"            # the heading of its section

    def test_a_hostile_pickle_is_refused(outcome):
        ...                                   # the test itself, as any other
        outcome("a pickle that asks for os.system", f"refused: {error}")

and run ``UPDATE_ROBUSTNESS=1 pytest <the file>`` to write the section. In any other run each
``outcome`` must find its line there, and when all tests of the file have run and none was skipped,
the section must have no line of another origin. Lines stand in the order of the tests. Outcomes
must read the same on every machine: the test's own folder, ports and hashes are left out by
themselves, anything else of that kind the test leaves out. This works in the folder ``faults``;
another needs the imports from here of ``faults/conftest.py`` in its own (or ``tests/conftest.py``).
"""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[1] / "docs" / "robustness.md"
HINT = "if that is as it should be: UPDATE_ROBUSTNESS=1 pytest"

Outcome = Callable[[str, str], None]
Lines = list[str]
_all_tests = pytest.StashKey[dict[Path, set[str]]]()
_passed = pytest.StashKey[set[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember what there is, before -k and its like take something away."""
    tests = config.stash.setdefault(_all_tests, {})
    for item in items:
        tests.setdefault(item.path, set()).add(item.nodeid)


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    if call.when == "call" and call.excinfo is None:
        item.config.stash.setdefault(_passed, set()).add(item.nodeid)


@pytest.fixture(scope="module")
def _section(request: pytest.FixtureRequest) -> Iterator[Lines]:
    """The lines that the tests of a file give; compared or written when the last is through."""
    lines: Lines = []
    yield lines
    title, stash, updating = request.module.ROBUSTNESS, request.config.stash, _is_updating()
    one_asked_for = any("::" in argument for argument in request.config.args)
    if one_asked_for or stash[_all_tests][request.path] - stash.get(_passed, set()):
        assert not updating, f"'{title}' is not written: not all tests of the file ran and passed"
        return
    if updating:
        _write(title, request.path, lines)
    stale = [line for line in _read(title) if line not in lines]
    assert not stale, f"no test of {request.path.name} gives these lines of {DOCUMENT}: {stale}"


@pytest.fixture
def outcome(request: pytest.FixtureRequest, _section: Lines, tmp_path: Path) -> Outcome:
    """Call it with an input and its outcome: one line of the document."""

    def say(given: str, result: str) -> None:
        result = re.sub(r"(127\.0\.0\.1|localhost):\d+", "mirror", result)
        result = re.sub(r"\b([0-9a-f]{32}|[0-9a-f]{64})\b", "...", result)
        result = result.replace(f"{tmp_path}/", "").replace(str(tmp_path), "the folder")
        line = "| {} | {} |".format(
            *(" ".join(x.replace("|", "/").split()) for x in (given, result))
        )
        assert line not in _section, f"two tests give this line: {line}"
        _section.append(line)
        if not _is_updating():
            assert line in _read(request.module.ROBUSTNESS), (
                f"{DOCUMENT} lacks this line of its section '{request.module.ROBUSTNESS}'; {HINT}\n{line}"
            )

    return say


def _is_updating() -> bool:
    return "UPDATE_ROBUSTNESS" in os.environ


def _read(title: str) -> Lines:
    """The lines of a section's table."""
    text = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    _, _, rest = f"\n{text}".partition(f"\n## {title}\n")
    lines = rest.partition("\n## ")[0].splitlines()
    return [line for line in lines if line.startswith("| ")][1:]


def _write(title: str, origin: Path, lines: Lines) -> None:
    """Put a section in the place of its earlier form, or at the end."""
    source = origin.relative_to(DOCUMENT.parents[1]).as_posix()
    section = "\n".join(
        [f"## {title}", "", f"From `{source}`.", "", "| input | outcome |", "|---|---|", *lines, ""]
    )
    before, *sections = re.split(r"^(?=## )", DOCUMENT.read_text(encoding="utf-8"), flags=re.M)
    titles = [other.partition("\n")[0] for other in sections]
    if f"## {title}" in titles:
        sections[titles.index(f"## {title}")] = section
    else:
        sections.append(section)
    parts = [part.rstrip() + "\n" for part in (before, *sections)]
    DOCUMENT.write_text("\n".join(parts), encoding="utf-8")
