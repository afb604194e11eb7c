"""Reading the configuration: files, budgets and overrides, put together and checked."""

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isfinite
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
    """Read ``config.yaml``, the scale's budgets and the user's overrides, and put them together.

    Of two that set one value the later in this list wins:

    1. the defaults of the models in ``pipeline/config``
    2. of a run: the scale's budgets of its backbone and of its algorithm
    3. of a run: what is said, in any of these places, of the run that it is ``like``
    4. ``config.yaml``
    5. the scale's other budgets
    6. the user's overrides

    In 3, 4 and 6 what is said of a run on one data set wins over what is said there of the whole
    run, but not over what is said of the whole run further down the list. A list of data sets
    says which of them a run is on, and leaves what differs there. A mapping says both anew; among
    the overrides of a run that ``config.yaml`` has, it adds to what is there.

    Raises
    ------
    UserError
        Naming each wrong key with its value, what is allowed, and the nearest valid name.
    """
    overrides = _typed(overrides or {})
    written = read_yaml(root / "config.yaml")
    chosen = merged(written, overrides)
    scales = {path.stem: path for path in (root / "scales").glob("*.yaml")}
    scale = str(chosen.get("scale"))
    if scale not in scales:
        raise UserError(f"config key scale: unknown scale {scale!r}; {nearest(scale, scales)}")
    file = f"scales/{scale}.yaml"
    budget = _checked(Scale, read_yaml(scales[scale]), file).model_dump(exclude_unset=True)
    by_backbone, by_algorithm = budget.pop("backbones", {}), budget.pop("algorithms", {})
    optional = budget.pop("optional", ())
    chosen = merged(merged(chosen, budget), overrides)
    _leave_out(optional, chosen, overrides)
    runs = chosen.get("runs")
    if isinstance(runs, dict):
        said = (written.get("runs"), overrides.get("runs"))
        layers = [one for one in said if isinstance(one, Mapping)]
        whole = {name: _run(runs, layers, name) for name in runs if isinstance(runs[name], dict)}
        for run in whole.values():
            backbone, training = run.get("backbone"), run.get("training")
            if isinstance(backbone, dict):
                run["backbone"] = merged(by_backbone.get(str(backbone.get("name")), {}), backbone)
            if isinstance(training, dict):
                run["training"] = merged(
                    by_algorithm.get(str(training.get("algorithm")), {}), training
                )
        chosen["runs"] = runs | whole
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
            if isfinite(number(value)):  # "nan" is a text
                return number(value)
    return {"true": True, "false": False, "null": None}.get(value, value)


def _leave_out(optional: Iterable[str], chosen: dict[str, Any], overrides: Any) -> None:
    """Take out the roles for which no data are at hand, unless the user asks for them."""
    roles, datasets, asked = chosen.get("roles"), chosen.get("datasets"), overrides.get("roles")
    if not (isinstance(roles, dict) and isinstance(datasets, dict)):
        return
    for role in optional:
        dataset = datasets.get(str(roles.get(role)))
        if role not in (asked or {}) and isinstance(dataset, dict) and dataset.get("path") is None:
            del roles[role]


def _run(
    runs: dict[str, Any], layers: list[Mapping[str, Any]], name: str, above: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A run as the layers have it, ``config.yaml`` and the overrides, on top of what it is like."""
    own, *changes = [one for layer in layers if isinstance(one := layer.get(name), Mapping)] or [{}]
    model = runs[name].get("like") if isinstance(runs[name], dict) else None
    run: dict[str, Any] = {}
    if model is not None:
        if model in (name, *above):
            raise UserError(f"runs.{name}.like: {model!r} is like this run itself")
        if not isinstance(model, str) or model not in runs:
            raise UserError(f"runs.{name}.like: unknown run {model!r}; {nearest(str(model), runs)}")
        run = _run(runs, layers, model, (name, *above))
    run = _on_top(run, own)
    # Not on top of those of the run that it is like.
    if isinstance(own.get("datasets"), Mapping):
        run["datasets"] = own["datasets"]
    for change in changes:
        run = _on_top(run, change)
    run.pop("like", None)
    return run


def _on_top(run: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A run with what a layer says of it; what that says of the whole holds on every data set."""
    below, named = run.get("datasets"), own.get("datasets")
    different = (
        {role: _without(one, own) for role, one in below.items()} if isinstance(below, dict) else {}
    )
    if isinstance(named, list):
        chosen = {role: different.get(role, {}) for role in map(str, named)}
        return merged(run, own) | {"datasets": chosen}
    return merged(run | {"datasets": different}, own)


def _without(difference: Any, own: Mapping[str, Any]) -> Any:
    """What differs on a data set, but for the keys of backbone and training that ``own`` sets."""
    if not isinstance(difference, dict):
        return difference
    return {
        part: {key: value for key, value in keys.items() if key not in own[part]}
        if isinstance(keys, dict) and isinstance(own.get(part), Mapping)
        else keys
        for part, keys in difference.items()
    }


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from YAML; a key that stands twice is refused."""
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    # A ValueError is of bytes that are no UTF-8, or of a date that there is not.
    except (yaml.YAMLError, ValueError) as error:
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
        seen: list[Any] = []  # not all keys have a hash, which is said further down
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.YAMLError(f"key {key!r} stands twice{key_node.start_mark}")
            seen.append(key)
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
