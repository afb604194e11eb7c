"""Every verb where there is no terminal, no UTF-8, nobody who reads: the same files come out."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.robustness import Outcome
from tests.soak import soak

ROBUSTNESS = "Every verb in odd places"

ROOT = Path(__file__).parents[2]
# What would tell of the place, or is handed down.
FOREIGN = ("LC_", "LANG", "PYTHONUTF8", "PYTHONIOENCODING", "PIPELINE_")
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# What they print is all that they do.
TALKING = {"data", "explain", "settings"}
DUMB = {"TERM": "dumb", "NO_COLOR": "1", "TZ": "Asia/Kathmandu"}


def run(folder: Path, shell: str = '"$@"', **environment: str) -> tuple[dict[str, str], str]:
    """How each verb ended, and all that was printed; the shell may close or pipe what it runs."""
    place = folder / "a b é 图"
    place.mkdir(parents=True)
    (place / "own é.zip").touch()
    report = folder / "report.json"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    said = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "tests.faults.every_verb", place, report],
        cwd=ROOT,
        env={**kept, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert report.exists(), said.stdout
    return json.loads(report.read_text()), said.stdout.decode(errors="surrogateescape")


def made(folder: Path) -> dict[str, Any]:
    place = folder / "a b é 图"
    return {
        path: soak.content(place / path)
        for path in soak.written(place)
        # These judge how long something took, or say when it was made.
        if not path.endswith((".html", ".pdf", ".svg", ".tex", "claims.md", "claims.json"))
    }


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is made where all is as it should be."""
    folder = tmp_path_factory.mktemp("usual")
    ended, _ = run(folder, LC_ALL="C.UTF-8")
    assert set(ended.values()) == {"0"}, ended
    return made(folder)


def test_every_verb_works_without_utf_8_or_a_terminal(
    usual: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    ended, said = run(tmp_path, **ASCII, **DUMB)
    assert set(ended.values()) == {"0"}, ended
    assert "±" in said
    assert "\x1b" not in said
    assert made(tmp_path) == usual
    outcome(
        "LC_ALL=C without Python's UTF-8 mode, TERM=dumb, NO_COLOR, another time zone",
        f"{len(ended)} calls, of every verb but report and schema: the same files, plain lines",
    )


@pytest.mark.parametrize(
    ("given", "shell"),
    [
        ("stdout and stderr closed", '"$@" >&- 2>&-'),
        ("stdout to a full disk", '"$@" >/dev/full'),
    ],
)
def test_work_goes_on_where_nobody_listens(
    given: str, shell: str, usual: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    ended, _ = run(tmp_path, shell)
    assert {ended[verb] for verb in ended.keys() - TALKING} == {"0"}, ended
    assert made(tmp_path) == usual
    outcome(given, "every job: the same files")


def test_work_goes_on_where_the_reader_has_seen_enough(
    usual: dict[str, Any], tmp_path: Path, outcome: Outcome
) -> None:
    ended, said = run(tmp_path, '"$@" 2>&1 | head -1')
    assert len(said.splitlines()) == 1
    assert {ended[verb] for verb in ended.keys() - TALKING} == {"0"}, ended
    assert made(tmp_path) == usual
    outcome("stdout piped to head -1", "every job: the same files; no traceback")
