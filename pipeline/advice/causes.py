"""Why jobs are stale: what they would be made of now, against what their files were made of."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import digest, jobs
from pipeline.advice.workflow import Job, Memory, remembered
from pipeline.words import plural

# Where a setting of a job comes from, by how its name begins; {run} is the job's.
_KEYS = {
    "algorithm.head.options.": "heads.{head}.",
    "algorithm.": "runs.{run}.training.",
    "backbone.": "runs.{run}.backbone.",
    "episodes.": "evaluation.",
}
# Snakemake's words for a file that is newer, for the text of a rule, and for what is looked into
# here, or only follows from another job.
_UPDATED = "Updated input files"
_COMMAND = "Code has changed since last execution"
_EXPLAINED = (
    *(_UPDATED, "Input files updated by another job", "Missing output files"),
    *("Params have changed", "Set of input files has changed"),
)


ORDER = ("configuration", "code", "rule", "input", "deleted", "new", "other")


@dataclass(frozen=True)
class Cause:
    """One thing that moved."""

    # One of ORDER.
    kind: str
    # With {run} in the place of the job's.
    text: str


def causes(job: Job, made: frozenset[str]) -> list[Cause]:
    """What moved for a job by itself; nothing if it only follows from other jobs.

    Parameters
    ----------
    made
        All files that the run would make.
    """
    memories = [memory for file in job.outputs if (memory := remembered(file))]
    missing = [file for file in job.outputs if not Path(file).exists()]
    if not memories:
        if missing:
            return [Cause("new", "never made before")]
        return _others(job)
    found = [Cause("deleted", f"{file} is gone") for file in missing]
    memory = memories[0]
    found += _configuration(job, memory)
    found += _code(job, memory)
    found += _inputs(job, memory, made)
    return found + _others(job)


def _configuration(job: Job, memory: Memory) -> Iterator[Cause]:
    before, after = flat(memory.settings or {}), flat(job.settings)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield Cause(
                "configuration",
                f"{_key(key, job)}: {_change(before.get(key, _ABSENT), after.get(key, _ABSENT))}",
            )


_ABSENT = object()


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted keys; what is in a list of named things goes by their names."""
    if (
        isinstance(values, list)
        and values
        and all(isinstance(v, dict) and "name" in v for v in values)
    ):
        values = {one["name"]: {k: v for k, v in one.items() if k != "name"} for one in values}
    if not isinstance(values, dict) or not values:
        return {prefix.rstrip("."): values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.")
    return found


def _key(key: str, job: Job) -> str:
    """The key of config.yaml or of a scale at which a setting can be set."""
    head = job.settings.get("algorithm", {}).get("head")
    name = head["name"] if isinstance(head, dict) else ""
    if match := re.fullmatch(r"(heads\.\w+)\.options\.(\w+)", key):
        return f"{match[1]}.{match[2]}"
    if job.rule == "pack":
        return f"datasets.{job.settings['dataset']}.{key}"
    for prefix, place in _KEYS.items():
        if key.startswith(prefix):
            return place.replace("{head}", name) + key.removeprefix(prefix)
    return key


def _change(before: Any, after: Any) -> str:
    if isinstance(before, list) and isinstance(after, list):
        gone = [str(one) for one in before if one not in after]
        new = [str(one) for one in after if one not in before]
        if gone or new:
            return _short(", ".join([f"+ {one}" for one in new] + [f"- {one}" for one in gone]))
    old, new_ = ("nothing" if one is _ABSENT else _short(str(one)) for one in (before, after))
    return f"{old} -> {new_}"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _code(job: Job, memory: Memory) -> Iterator[Cause]:
    if job.code is None or memory.code in (None, job.code):
        return
    before = digest.kept(memory.code or "", digest.KEPT)
    # As in ``pipeline.jobs``: a job's digest is that of these entries.
    after = digest.parts(jobs.entries(job.rule, job.settings))
    if before is None:
        yield Cause(
            "code",
            f"which definitions cannot be told, since {digest.KEPT} does not have the old ones",
        )
        return
    yield from (Cause("code", text) for text in moved(before, after))


def moved(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Which definitions were changed, added or removed; many of one module in one line."""
    changes = {
        "changed": {name for name in before.keys() & after.keys() if before[name] != after[name]},
        "added": after.keys() - before.keys(),
        "removed": before.keys() - after.keys(),
    }
    found = []
    for what, names in changes.items():
        by_module: dict[str, list[str]] = {}
        for name in sorted(names):
            module, _, definition = name.partition(":")
            by_module.setdefault(module, []).append(definition)
        for module, definitions in by_module.items():
            if len(definitions) > 4:
                found.append(f"{module}: {len(definitions)} definitions {what}")
            else:
                found += [f"{module}:{definition} {what}" for definition in definitions]
    return found


def _inputs(job: Job, memory: Memory, made: frozenset[str]) -> Iterator[Cause]:
    # Snakemake looks for these only where it knows no other reason.
    listed = {*_listed(job.reason, _UPDATED), *filter(partial(_is_other, job, memory), job.inputs)}
    for file in sorted(listed - made):
        origin = remembered(file)
        how = f"made anew by {origin.rule}" if origin else "edited"
        yield Cause("input", f"{file} ({how}, {_when(file)})")
    new = [file for file in job.inputs if file not in memory.inputs]
    gone = [file for file in memory.inputs if file not in job.inputs]
    for what, files in (("more", new), ("fewer", gone)):
        # What is made for the first time is a cause of its own.
        if not set(files) <= made:
            yield Cause("input", f"{len(files)} {what}: {_few(files)}")


def _is_other(job: Job, memory: Memory, file: str) -> bool:
    """Whether a file is newer than what was made of it, and not the same."""
    outputs = [Path(one) for one in job.outputs if Path(one).exists()]
    path, known = Path(file), memory.checksums.get(file)
    if known is None or not outputs or not path.is_file():
        return False
    if path.stat().st_mtime <= min(one.stat().st_mtime for one in outputs):
        return False
    with path.open("rb") as opened:
        return known != f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"


def _others(job: Job) -> list[Cause]:
    """What Snakemake says besides of the rule and of the state that its last run was left in."""
    reasons = [one.strip() for one in job.reason.split("; ") if one.strip()]
    left = [one for one in reasons if not one.startswith(_EXPLAINED)]
    return [
        Cause("rule", "its command") if one == _COMMAND else Cause("other", _short(one))
        for one in left
    ]


def _listed(reason: str, what: str) -> list[str]:
    for part in reason.split("; "):
        if part.startswith(f"{what}: "):
            return sorted(part.removeprefix(f"{what}: ").split(", "))
    return []


def _when(file: str) -> str:
    return date(Path(file).stat().st_mtime) if Path(file).exists() else "gone since"


def date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%d %b %H:%M")


def _few(files: Iterable[str]) -> str:
    first, *rest = files
    return f"{first} and {plural(len(rest), 'other')}" if rest else first
