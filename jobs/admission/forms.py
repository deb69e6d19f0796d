"""What a body of one endpoint may look like for one engine: its registered schema and OpenAI's ranges, compiled."""

from dataclasses import dataclass
from typing import Any, Final

from jsonschema_rs import Draft202012Validator, ValidationError

from jobs.admission.faults import explain
from jobs.admission.narrow import narrow
from jobs.admission.parameters import HINTS, RANGES
from jobs.errors import BadRequest
from jobs.records import Json

_LARGE: Final = 2**20
"""Bytes. To look for the fault in a longer body would hold up all other requests."""
_LONG: Final = 1000
_MOST_NAMED: Final = 8
_UNIONS: Final = ("anyOf", "oneOf", "allOf")


@dataclass(frozen=True, slots=True)
class Form:
    """One compiled schema. `names` are the properties that it knows; none means that it takes anything."""

    names: frozenset[str]
    _validator: Draft202012Validator

    def check(self, body: Json, size: int = 0) -> None:
        """Raises BadRequest with the deepest fault; in a body of too many bytes (`size`) only with its field."""
        try:
            if not self._validator.is_valid(body):
                raise self._field_at_fault(body) if size > _LARGE else self._fault(_without_surrogates(body))
        except UnicodeEncodeError:
            # The validator takes no lone surrogates; what is valid without them is so with them.
            self.check(_without_surrogates(body), size)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"The request body cannot be checked: {error}.", code="invalid_value") from None

    def _field_at_fault(self, body: Json) -> BadRequest:
        """The first fault of the short fields of a large body; if they have none, it is in a long one."""
        long = [name for name, value in body.items() if _is_long(value)]
        short = {name: value for name, value in body.items() if name not in long}
        for error in self._validator.iter_errors(_without_surrogates(short)):
            fault = explain(error, {})
            if fault.param not in long:
                return fault
        names = " or ".join(f"'{name:.100}'" for name in long[:_MOST_NAMED]) or "the request body"
        message = f"Invalid value for {names}. In a body of more than {_LARGE} bytes the exact place is not looked for."
        return BadRequest(message, param=long[0][:100] if len(long) == 1 else None, code="invalid_value")

    def _fault(self, body: Json) -> BadRequest:
        """The first fault of a body that may be cut up."""
        offsets = narrow(body, self._validator.is_valid)
        try:
            if offsets is not None:
                self._validator.validate(body)
        except ValidationError as error:
            return explain(error, offsets or {})
        return BadRequest("The request body has too many faults to name one.", code="invalid_value")


def compile_form(endpoint: str, schema: Json) -> Form:
    """The form of an endpoint by the schema that the engine registered for its body."""
    names = _properties(schema, schema)
    rules = _without_hints(schema, schema)
    rules["$defs"] = schema.get("$defs", {})
    rules["allOf"] = [*rules.get("allOf", ()), {"properties": RANGES.get(endpoint, {})}]
    return Form(names, Draft202012Validator(rules))


def _properties(root: Json, schema: Json) -> frozenset[str]:
    schema = _resolve(root, schema)
    names = frozenset(schema.get("properties", ()))
    return names.union(*(_properties(root, branch) for union in _UNIONS for branch in schema.get(union, ())))


def _without_hints(root: Json, schema: Json) -> Json:
    """The same schema with nothing to say about the values of hints, at the top and in the branches of its unions."""
    schema = dict(_resolve(root, schema))
    if "properties" in schema:
        schema["properties"] = {name: rule for name, rule in schema["properties"].items() if name not in HINTS}
    for union in _UNIONS:
        if union in schema:
            schema[union] = [_without_hints(root, branch) for branch in schema[union]]
    return schema


def _resolve(root: Json, schema: Json) -> Json:
    reference: Any = schema.get("$ref")
    if not isinstance(reference, str):
        return schema
    target: Json = root["$defs"][reference.removeprefix("#/$defs/")]
    return target


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, dict)) or (isinstance(value, str) and len(value) > _LONG)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    return value
