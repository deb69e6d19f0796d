"""What a JSON schema has against a body, in OpenAI's words: the fault of the branch that got furthest."""

import json
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from jsonschema_rs import ValidationError, ValidationErrorKind

from jobs.admission.narrow import Offsets, restored
from jobs.errors import BadRequest

Leaves: TypeAlias = list[ValidationError]
"""Faults at one place that are told together: the first is what is wrong, the others what it might have been."""

_TYPE: Final = "type"
_VALUE: Final = frozenset({"const", "enum"})
_NAMES: Final = {
    "string": "a string",
    "integer": "an integer",
    "number": "a decimal",
    "boolean": "a boolean",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_LONGEST_VALUE: Final = 100


def explain(error: ValidationError, offsets: Offsets) -> BadRequest:
    """The client's error for a schema's: message, `param` like `messages.0.content`, OpenAI's code.

    `offsets` tell what was cut from the body before.
    """
    leaves = _deepest(error)
    leaf = leaves[0]
    path = ".".join(map(str, restored(tuple(leaf.instance_path), offsets)))
    if isinstance(leaf.kind, ValidationErrorKind.Required):
        name = f"{path}.{leaf.kind.property}" if path else leaf.kind.property
        return BadRequest(f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
    message, code = _words(path or "body", leaves)
    return BadRequest(message, param=path or None, code=code)


def _deepest(error: ValidationError) -> Leaves:
    branches = getattr(error.kind, "context", None) or ()
    candidates: list[list[Leaves]] = [[_deepest(fault) for fault in branch] for branch in branches if branch]
    if not candidates:
        return [error]
    root = len(error.instance_path)
    furthest = max(candidates, key=lambda branch: _progress(branch, root))
    leaves = min(furthest, key=_depth)
    place, kinds = leaves[0].instance_path, _alike(leaves)
    others = [other for branch in candidates for other in branch if kinds & _alike(other)]
    return leaves + [leaf for other in others for leaf in other if leaf.instance_path == place] if kinds else leaves


def _progress(branch: Sequence[Leaves], root: int) -> tuple[int, int, int]:
    """How far a branch got: the depth of its first fault, whether what stood there had its shape, how few faults.

    A branch that fails on a type, worse on a constant than on nothing of the kind, was likely not meant. A constant
    right below the `root` of the union says which branch is meant, and is no step into it.
    """
    kinds = {leaves[0].kind.name for leaves in branch}
    shape = 0 if _TYPE in kinds else 1 if kinds & _VALUE else 2
    depths = (
        root if leaves[0].kind.name == "const" and _depth(leaves) == root + 1 else _depth(leaves) for leaves in branch
    )
    return min(depths), shape, -len(branch)


def _alike(leaves: Leaves) -> frozenset[str]:
    """The kinds of fault that are alternatives to this one; none where it stands for itself."""
    kind = leaves[0].kind.name
    return frozenset({_TYPE}) if kind == _TYPE else _VALUE if kind in _VALUE else frozenset()


def _depth(leaves: Leaves) -> int:
    return len(leaves[0].instance_path)


def _words(path: str, leaves: Leaves) -> tuple[str, str]:
    """Message and code, in OpenAI's wording where it has one."""
    kind: Any = leaves[0].kind
    value = leaves[0].instance
    match kind.name:
        case "type":
            wanted = _one_of(_types(leaves))
            return f"Invalid type for '{path}': expected {wanted}, but got {_type(value)} instead.", "invalid_type"
        case "enum" | "const":
            return (
                f"Invalid value: {_shown(value)}. Supported values are: {', '.join(_values(leaves))}.",
                "invalid_value",
            )
        case "minimum" | "exclusiveMinimum":
            sign = ">=" if kind.name == "minimum" else ">"
            return _beyond(path, value, "below minimum", f"{sign} {kind.limit}"), f"{_number(value)}_below_min_value"
        case "maximum" | "exclusiveMaximum":
            sign = "<=" if kind.name == "maximum" else "<"
            return _beyond(path, value, "above maximum", f"{sign} {kind.limit}"), f"{_number(value)}_above_max_value"
        case "minItems" if not value:
            wanted = f"an array with minimum length {kind.limit}"
            return f"Invalid '{path}': empty array. Expected {wanted}, but got an empty array instead.", "empty_array"
        case "minItems" | "minLength" | "minProperties":
            return f"Invalid '{path}': {_sized(value)} too short. Expected a length of at least {kind.limit}.", (
                f"{_sized(value)}_below_min_length"
            )
        case "maxItems" | "maxLength" | "maxProperties":
            return f"Invalid '{path}': {_sized(value)} too long. Expected a length of at most {kind.limit}.", (
                f"{_sized(value)}_above_max_length"
            )
        case "additionalProperties":
            return f"Unrecognized request argument supplied: {path}.{kind.unexpected[0]}", "unknown_parameter"
    return f"Invalid '{path}': {leaves[0].message[:500]}.", "invalid_value"


def _types(leaves: Leaves) -> list[str]:
    """The types that would do, null only where nothing else would."""
    kinds: list[Any] = [leaf.kind for leaf in leaves]
    types = dict.fromkeys(name for kind in kinds for name in kind.types)
    return [_NAMES[name] for name in types if name != "null"] or [_NAMES["null"]]


def _values(leaves: Leaves) -> list[str]:
    kinds: list[Any] = [leaf.kind for leaf in leaves]
    options = [kind.options if kind.name == "enum" else [kind.expected_value] for kind in kinds]
    return list(dict.fromkeys(_shown(option) for several in options for option in several))


def _one_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"one of {', '.join(names[:-1])} or {names[-1]}"


def _type(value: Any) -> str:
    match value:
        case None:
            return _NAMES["null"]
        case bool():
            return _NAMES["boolean"]
        case int():
            return _NAMES["integer"]
        case float():
            return _NAMES["number"]
        case str():
            return _NAMES["string"]
        case list():
            return _NAMES["array"]
    return _NAMES["object"]


def _beyond(path: str, value: Any, where: str, wanted: str) -> str:
    return (
        f"Invalid '{path}': {_number(value)} {where} value. Expected a value {wanted}, but got {_shown(value)} instead."
    )


def _number(value: Any) -> str:
    return "integer" if isinstance(value, int) else "decimal"


def _sized(value: Any) -> str:
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
