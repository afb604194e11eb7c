"""Records: one measured result on disk, with all that it depends on."""

import hashlib
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError
from pipeline.files import sha256, write_json

SCHEMA = 3
Kind = Literal[
    "training",
    "features",
    "evaluation",
    "adaptation",
    "measurement",
    "similarity",
    "projection",
    "simulation",
]


# Where each kind lies, below results/<scale>/. What is about several seeds is one record.
PLACES: dict[Kind, str] = {
    "training": "runs/{dataset}/{run}/seed{seed}/record.json",
    "features": "features/{dataset}/{run}/seed{seed}/record.json",
    "evaluation": "evals/{dataset}/{run}/seed{seed}.json",
    "adaptation": "adaptations/{dataset}/{run}/seed{seed}.json",
    "measurement": "measures/{dataset}/{run}/seed{seed}.json",
    "similarity": "similarities/{dataset}/{run}.json",
    "projection": "projections/{dataset}/{run}/seed{seed}.json",
    "simulation": "simulations/{simulation}.json",
}


# What there are records of: runs by data set. Simulations are of no data set, "".
Subjects = dict[str, list[str]]


def places(kind: Kind, subjects: Subjects, seeds: int) -> list[str]:
    """Where the records of a kind lie, below results/<scale>."""
    found = (
        PLACES[kind].format(dataset=dataset, run=name, simulation=name, seed=seed)
        for dataset, names in subjects.items()
        for name in names
        for seed in range(seeds)
    )
    return list(dict.fromkeys(found))


class Record(BaseModel):
    """What was measured, and everything needed to measure it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA
    kind: Kind
    scale: str
    # None of what it is not about: a simulation has no data, a similarity is of several runs.
    dataset: str | None
    # The paper's data set whose place it takes, if the images were generated.
    stands_for: str | None
    run: str | None
    seed: int | None
    # The effective configuration of the job.
    settings: dict[str, Any]
    # Digest of the code that the job reached.
    code: str
    # Hashes of what the job read: the images, and the weights if it used any.
    sources: dict[str, str]
    versions: dict[str, str]
    device: str
    wall_s: float
    values: dict[str, Any]


def versions() -> dict[str, str]:
    """Of Python and of the libraries that compute; looked up without importing them."""
    found = {"python": platform.python_version()}
    for library in ("numpy", "scipy", "torch"):
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "absent"
    return found


def write(
    path: Path,
    kind: Kind,
    settings: Mapping[str, Any],
    *,
    code: str,
    sources: dict[str, str],
    device: str,
    wall_s: float,
    values: dict[str, Any],
) -> None:
    """Write a record; whose result it is stands in the job's settings."""
    record = Record(
        kind=kind,
        scale=settings["scale"],
        dataset=settings.get("dataset"),
        stands_for=settings.get("stands_for"),
        run=settings.get("run"),
        seed=settings.get("seed"),
        settings=dict(settings),
        code=code,
        sources=sources,
        versions=versions(),
        device=device,
        wall_s=round(wall_s, 3),
        values=values,
    )
    write_json(path, sealed(record.model_dump()))


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its checksum, so that a digit that changed on disk is seen."""
    bare = {name: value for name, value in content.items() if name != "sha256"}
    # As it reads back: JSON knows no tuple.
    text = json.dumps(bare, sort_keys=True, allow_nan=False)
    return {**bare, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def verify(path: Path, record: Record) -> None:
    """Compare a file with the checksum that its record keeps of it, if it does.

    Raises
    ------
    ValueError
        If it is not the file that the record was written of.
    """
    known = record.values.get("sha256", {}).get(path.name)
    if known is not None and sha256(path) != known:
        raise ValueError(f"{path.name} is not the file that its record was written of")


def require_same(place: Path, record: Record, settings: Mapping[str, Any]) -> None:
    """Refuse what was made of another model than the job with these settings is about.

    Raises
    ------
    UserError
        Naming the first that differs of scale, data set, run and seed.
    """
    for name in ("scale", "dataset", "run", "seed"):
        if getattr(record, name) != settings[name]:
            raise UserError(
                f"{place} is of {name} {getattr(record, name)}, not {settings[name]}; "
                "correct the path, or delete it and run snakemake again"
            )


def read(path: Path, *kinds: Kind) -> Record:
    """Read a record and check it.

    Raises
    ------
    UserError
        If it is missing, torn, changed since it was written, of another kind, or of a schema
        this version does not know.
    """
    again = "delete it and run snakemake again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema_version") != SCHEMA:
            raise UserError(
                f"{path} has record schema {content.get('schema_version')}, "
                f"this version reads {SCHEMA}; {again}"
            )
        checksum = content.pop("sha256", None) if isinstance(content, dict) else None
        record = Record.model_validate(content)
        if sealed(content)["sha256"] != checksum:
            raise ValueError("its content is not that of its checksum")
    except OSError as error:
        raise UserError(
            f"cannot read the record {path}: {error.strerror}; "
            "correct the path, or let snakemake make it"
        ) from None
    except ValidationError as error:
        faults = [(*fault["loc"], fault["msg"]) for fault in error.errors()]
        reason = "; ".join(": ".join(map(str, fault)) for fault in faults)
        raise UserError(f"{path} is not a whole record ({reason}); {again}") from None
    except ValueError as error:
        raise UserError(f"{path} is not a whole record ({error}); {again}") from None
    if record.kind not in kinds:
        raise UserError(
            f"{path} is a record of {record.kind}, needed is one of {', '.join(kinds)}; "
            "correct the path"
        )
    return record
