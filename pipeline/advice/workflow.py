"""What Snakemake would do, and what it remembers; read, never changed.

Snakemake runs as another process, so its answer is that of the run that would follow.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.jobs import FROZEN

MEMORY = Path(".snakemake/metadata")


@dataclass(frozen=True)
class Job:
    """A job that a run would do."""

    rule: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    # Snakemake's own words.
    reason: str
    # Where its time is noted, if its rule notes it.
    benchmark: str | None
    mem_mb: int | None
    command: str

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What it reads of the configuration; nothing if it takes none."""
        text = self._option("--settings")
        return json.loads(text) if text else {}

    @property
    def code(self) -> str | None:
        """Digest of the code that it would run."""
        return self._option("--code")

    def _option(self, name: str) -> str | None:
        words = iter(shlex.split(self.command))
        return next((next(words, None) for word in words if word == name), None)


def pending(targets: Iterable[str], options: Sequence[str] = ()) -> list[Job]:
    """The jobs that a run for these targets would do; all of a scale if there are none.

    Raises
    ------
    UserError
        With Snakemake's own last words, if it cannot tell.
    """
    status, said = _ask("-m", "snakemake", *targets, "-n", "-p", *options)
    if status:
        raise UserError(f"snakemake cannot plan this:\n{_fault(said)}")
    return _parse(said)


def overrides(options: Sequence[str]) -> dict[str, Any]:
    """What options of Snakemake set in the configuration, as it would hand it to the workflow.

    Raises
    ------
    UserError
        If Snakemake does not understand them.
    """
    status, said = _ask("-c", _OVERRIDES, *options)
    *_, last = said.strip().splitlines() or [""]
    try:
        return dict(json.loads("" if status else last))
    except ValueError:
        raise UserError(f"snakemake does not understand its options: {last}") from None


# Its own functions read --config, --configfile and the profile, so that no other reading differs.
_OVERRIDES = """
import json, sys
from snakemake.cli import parse_args, parse_config
from snakemake.settings.types import ConfigSettings
sys.argv[0] = "snakemake"
_, given = parse_args(sys.argv[1:])
settings = ConfigSettings(config=parse_config(given.config), configfiles=given.configfile)
print(json.dumps(settings.overwrite_config))
"""


def _ask(*arguments: str) -> tuple[int, str]:
    """Run Python; its exit status and all that it says."""
    # A run above this one may have handed down its digests.
    environment = {name: value for name, value in os.environ.items() if name != FROZEN}
    done = subprocess.run(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def options_of(scale: str | None, options: Sequence[str]) -> list[str]:
    """The options of a run at this scale, besides the user's own."""
    words = list(options)
    if scale is None:
        return words
    # The values of --config may stand in its own word; of several --config the last alone counts.
    for place in reversed(range(len(words))):
        name, _, first = words[place].partition("=")
        if name in ("--config", "-C"):
            return [
                *words[:place],
                name,
                f"scale={scale}",
                *filter(None, [first]),
                *words[place + 1 :],
            ]
    return [*words, "--config", f"scale={scale}"]


def _fault(output: str) -> str:
    """What Snakemake says last, without Python's own account of it."""
    if unmade := re.search(r"No rule to produce (\S+)", output):
        hint = (
            "what sets the configuration follows --config"
            if "=" in unmade[1]
            else "snakemake --summary lists what can be made"
        )
        return f"  no rule makes {unmade[1]}; {hint}"
    _, planning, words = output.partition("Building DAG of jobs...")
    if planning:
        said = re.split(r"^(?:Wildcards|Traceback).*:$", words, flags=re.M)[0]
    else:  # it did not come to read all rules
        said = output.rpartition("\n\n")[2] if "Traceback (" in output else output
    lines = [line for line in said.strip().splitlines() if not line.startswith(("  File", "Using"))]
    shown = lines[-1:] if lines and lines[0].startswith("usage:") else lines[-8:]
    return "\n".join(f"  {line}" for line in shown)


def _parse(text: str) -> list[Job]:
    found = []
    for block in re.split(r"^\[.*\]\n(?=(?:local)?(?:rule|checkpoint) )", text, flags=re.M)[1:]:
        head, *lines = block.splitlines()
        fields = dict(line.strip().split(": ", 1) for line in lines if re.match(r"    \w+: ", line))
        command = re.search(r"^Shell command: (.*)$", block, flags=re.M)
        memory = re.search(r"\bmem_mb=(\d+)", fields.get("resources", ""))
        rule = head.split()[1].rstrip(":")
        if rule != "all":
            found.append(
                Job(
                    rule,
                    _names(fields.get("input")),
                    _names(fields.get("output")),
                    fields.get("reason", ""),
                    fields.get("benchmark"),
                    int(memory[1]) if memory else None,
                    command[1] if command else "",
                )
            )
    return found


def _names(field: str | None) -> tuple[str, ...]:
    return tuple(field.split(", ")) if field else ()


@dataclass(frozen=True)
class Memory:
    """What Snakemake remembers of how it made a file."""

    rule: str
    inputs: tuple[str, ...]
    settings: dict[str, Any] | None
    code: str | None
    # When it was done, in seconds since 1970.
    ended: float
    # Of its inputs as they were, as "sha256:...".
    checksums: dict[str, str]


def remembered(file: str, folder: Path = MEMORY) -> Memory | None:
    """What Snakemake remembers of a file; None if nothing."""
    try:
        content = json.loads(_place(file, folder).read_text(encoding="utf-8"))
        parameters = [_literal(one) for one in content["params"] or []]
        texts = [one for one in parameters if isinstance(one, str)]
        settings = [json.loads(one) for one in texts if one.startswith("{")]
        codes = [one for one in texts if re.fullmatch("[0-9a-f]{20}", one)]
        return Memory(
            rule=content["rule"],
            inputs=tuple(content["input"] or []),
            settings=settings[0] if settings else None,
            code=codes[0] if codes else None,
            ended=float(content["endtime"] or 0),
            checksums=content.get("input_checksums") or {},
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _literal(text: str) -> Any:
    """A parameter, of which Snakemake keeps the ``repr``."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _place(file: str, folder: Path) -> Path:
    """Snakemake names it by the file, in Base64; a name too long is folders and a file."""
    try:
        longest = os.pathconf(folder, "PC_NAME_MAX") - 1
    except (OSError, ValueError):
        longest = 254
    name = urlsafe_b64encode(file.encode()).decode()
    *above, last = (name[start : start + longest] for start in range(0, len(name), longest))
    return folder.joinpath(*(f"@{part}" for part in above), last)
