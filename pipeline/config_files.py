"""Reading the configuration: files, budgets and overrides, put together and checked."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.experiment import Experiment
from pipeline.config.fields import nearest
from pipeline.config.scales import Scale
from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def load(overrides: Mapping[str, Any] | None = None, root: Path = ROOT) -> Experiment:
    """Read ``config.yaml``, the scale's budgets and the user's overrides (which win).

    Raises
    ------
    UserError
        Naming each wrong key with its value, what is allowed, and the nearest valid name.
    """
    overrides = _typed(overrides or {})
    chosen = merged(read_yaml(root / "config.yaml"), overrides)
    scales = {path.stem: path for path in (root / "scales").glob("*.yaml")}
    scale = str(chosen.get("scale"))
    if scale not in scales:
        raise UserError(f"config key scale: unknown scale {scale!r}; {nearest(scale, scales)}")
    file = f"scales/{scale}.yaml"
    budget = _checked(Scale, read_yaml(scales[scale]), file).model_dump(exclude_unset=True)
    by_backbone, by_algorithm = budget.pop("backbones", {}), budget.pop("algorithms", {})
    optional = budget.pop("optional", ())
    # The user's overrides win over the scale, and the scale over config.yaml; but what a run
    # says of itself wins over the budget of its algorithm.
    chosen = merged(merged(chosen, budget), overrides)
    _leave_out(optional, chosen, overrides)
    runs = chosen.get("runs")
    if isinstance(runs, dict):
        _hold_everywhere(overrides.get("runs"), runs)
        for name in runs:
            run = _like(runs, name)
            backbone, training = run.get("backbone"), run.get("training")
            if isinstance(backbone, dict):
                run["backbone"] = merged(by_backbone.get(str(backbone.get("name")), {}), backbone)
            if isinstance(training, dict):
                run["training"] = merged(
                    by_algorithm.get(str(training.get("algorithm")), {}), training
                )
            chosen["runs"] = {**chosen["runs"], name: run}
    return _checked(Experiment, chosen, "the configuration")


def _typed(value: Any) -> Any:
    """With numbers, booleans and nulls for texts that say one.

    Snakemake hands down as a text whatever stands inside a mapping on its command line.
    """
    if isinstance(value, Mapping):
        return {key: _typed(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_typed(one) for one in value]
    if not isinstance(value, str):
        return value
    for number in (int, float):
        with suppress(ValueError):
            return number(value)
    return {"true": True, "false": False, "null": None}.get(value, value)


def _leave_out(optional: Iterable[str], chosen: dict[str, Any], overrides: Any) -> None:
    """Take out the roles for which no data are at hand, unless the user asks for them."""
    asked = overrides.get("roles") or {}
    for role in optional:
        dataset = chosen.get("datasets", {}).get(chosen["roles"].get(role))
        if role not in asked and isinstance(dataset, dict) and dataset.get("path") is None:
            del chosen["roles"][role]


def _like(runs: dict[str, Any], name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """A run, on top of the one that it says it is like."""
    run = dict(runs[name]) if isinstance(runs[name], dict) else {}
    model = run.pop("like", None)
    if model is None:
        return run
    if model in (name, *above):
        raise UserError(f"runs.{name}.like: {model!r} is like this run itself")
    if not isinstance(model, str) or model not in runs:
        raise UserError(f"runs.{name}.like: unknown run {model!r}; {nearest(str(model), runs)}")
    whole = merged(_like(runs, model, (name, *above)), run)
    # Which data sets a run is on is for it to say, not to add to.
    return whole | {"datasets": run["datasets"]} if "datasets" in run else whole


def _hold_everywhere(overrides: Any, runs: dict[str, Any]) -> None:
    """Let what the user sets for a whole run stand above what config.yaml says of a data set."""
    for name, own in overrides.items() if isinstance(overrides, Mapping) else ():
        if not isinstance(own, Mapping) or "datasets" in own:
            continue
        differences = runs[name].get("datasets")
        for difference in differences.values() if isinstance(differences, dict) else ():
            for part in ("backbone", "training"):
                there = difference.get(part) if isinstance(difference, dict) else None
                if isinstance(own.get(part), Mapping) and isinstance(there, dict):
                    difference[part] = {k: v for k, v in there.items() if k not in own[part]}


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from YAML; a key that stands twice is refused."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: a mapping of keys to values is needed")
    return value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in a new one; where both have a value that is no mapping, ``above`` wins."""
    result = {
        key: merged(value, {}) if isinstance(value, dict) else value for key, value in below.items()
    }
    for key, value in above.items():
        under = result.get(key)
        result[key] = (
            merged(under if isinstance(under, dict) else {}, value)
            if isinstance(value, Mapping)
            else value
        )
    return result


def schemas(root: Path = ROOT) -> dict[Path, dict[str, Any]]:
    """The JSON schemas for editors, by the file they belong in."""
    experiment = Experiment.model_json_schema()
    # What config.yaml leaves out comes from the scale.
    del experiment["required"]
    definitions = experiment["$defs"]
    run = definitions["Run"]
    keys = run["properties"]
    keys["like"] = {"type": "string", "description": "The run that this one differs from."}
    roles = {"type": "array", "items": {"type": "string"}}
    keys["datasets"] = {
        "description": keys["datasets"].pop("description"),
        "anyOf": [roles, keys["datasets"]],
    }
    # And what a run leaves out comes from the run that it is like.
    del run["required"]
    for part in ("backbone", "training"):
        keys[part] = {"anyOf": keys[part]["oneOf"]}
        for option in keys[part]["anyOf"]:
            definitions[option["$ref"].rpartition("/")[2]].pop("required", None)
    return {root / "schema.json": experiment, root / "scales.json": Scale.model_json_schema()}


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe subset, where a repeated key is an error and not a silent choice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"key {key!r} stands twice{key_node.start_mark}")
            seen.add(key)
        return super().construct_mapping(node, deep)


Checked = TypeVar("Checked", bound=BaseModel)


def _checked(model: type[Checked], content: dict[str, Any], what: str) -> Checked:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{what} is not valid:\n" + "\n".join(_explain(error))) from None


def _explain(error: ValidationError) -> list[str]:
    """A line for each fault: its key, what is wrong, what is allowed, the value."""
    lines = []
    for problem in error.errors(include_url=False):
        # pydantic adds "[key]" and members of unions to the place; the user wrote no such key.
        parts = [str(part) for part in problem["loc"] if not str(part).endswith("]")]
        match parts:
            case ["runs", _, "backbone" | "training", _, *_]:
                del parts[3]
            case ["datasets", _, _, *_]:
                del parts[2]
        value, context = problem["input"], problem.get("ctx", {})
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "union_tag_invalid":
            parts.append(context["discriminator"].strip("'"))
            value = context["tag"]
            message = nearest(value, context["expected_tags"].replace("'", "").split(", "))
        elif problem["type"] == "literal_error" and isinstance(value, str):
            allowed = re.findall("'(.*?)'", context["expected"])
            message = f"unknown; {nearest(value, allowed)}"
        shown = "" if isinstance(value, dict) else f" (value: {value!r})"
        lines.append(f"  {'.'.join(parts) + ': ' if parts else ''}{message}{shown}")
    return lines
