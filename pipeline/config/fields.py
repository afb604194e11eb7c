"""What the typed models of the configuration share: strict keys, checked numbers, helpful words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Say what is allowed in place of ``name``, the nearest first."""
    options = sorted(allowed)
    close = difflib.get_close_matches(name, options, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}Allowed: {', '.join(options)}"


def _not_a_bool(value: Any) -> Any:
    # YAML reads `yes`, `no`, `on` and `off` as booleans, and Python counts them as numbers.
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true or false")
    return value


Count = Annotated[int, Field(gt=0, strict=True)]
Several = Annotated[int, Field(ge=2, strict=True)]
Index = Annotated[int, Field(ge=0, strict=True)]
Positive = Annotated[float, BeforeValidator(_not_a_bool), Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, allow_inf_nan=False)]
# Names become folders, and parts of shell commands.
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Share = Annotated[float, BeforeValidator(_not_a_bool), Field(ge=0, lt=1)]
# Values by the fraction of a run from which on they hold.
Schedule = dict[Fraction, Positive]
Batching = Annotated[
    Literal["auto", "loop", "together"],
    Field(
        description="How gradient steps on several episodes run: one after the other, or as one "
        "batch of networks. Both compute the same; auto is the loop on a CPU, together on a GPU."
    ),
]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise ValueError(f"unknown key {key!r}; {nearest(str(key), cls.model_fields)}")
        return data
