"""From a web app's OpenAPI document to one JSON schema per endpoint that stands on its own."""

import json
from collections.abc import Iterable
from typing import Any, Final

from jobs.records import Json

_COMPONENTS: Final = "#/components/schemas/"
_DEFINITIONS: Final = "#/$defs/"


def of_endpoints(openapi: Json, paths: Iterable[str]) -> dict[str, Json]:
    """The schema of the body of each of these paths that takes a POST of JSON; what it refers to is in its `$defs`.

    `service_tier` is left out: which ones there are is Longhaul's to say, not the engine's.
    """
    document = json.loads(json.dumps(openapi).replace(_COMPONENTS, _DEFINITIONS))
    definitions = document.get("components", {}).get("schemas", {})
    schemas = {path: _body(document, path) for path in sorted(paths)}
    return {path: _whole(schema, definitions) for path, schema in schemas.items() if schema is not None}


def of_types(schema: Json, *names: str) -> Json:
    """The same schema for objects whose `type` is one of these; another is the first fault that is told."""
    return {"allOf": [{"properties": {"type": {"enum": names}}}, schema]}


def leave_out_hosted_tools(openapi: Json) -> None:
    """Leave in the document only those tools of `/v1/responses` that the client runs: without a tool server, vLLM
    accepts the others and passes over them in silence."""
    asked = openapi["components"]["schemas"].get("ResponsesRequest", {}).get("properties", {})
    if "items" in asked.get("tools", {}):
        asked["tools"]["items"] = of_types(asked["tools"]["items"], "function", "namespace")
    if "tool_choice" in asked:
        asked["tool_choice"] = of_types(asked["tool_choice"], "function", "allowed_tools")


def _body(document: Json, path: str) -> Json | None:
    operation = document["paths"].get(path, {}).get("post", {})
    schema: Json | None = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return schema


def _whole(schema: Json, definitions: Json) -> Json:
    top = dict(definitions[schema["$ref"].removeprefix(_DEFINITIONS)]) if "$ref" in schema else dict(schema)
    if "properties" in top:
        top["properties"] = {name: value for name, value in top["properties"].items() if name != "service_tier"}
    needed: dict[str, Any] = {}
    ahead = list(_references(top))
    while ahead:
        name = ahead.pop()
        if name not in needed:
            needed[name] = definitions[name]
            ahead += _references(definitions[name])
    return top | ({"$defs": needed} if needed else {})


def _references(value: Any) -> Iterable[str]:
    """The names of the definitions anywhere in a schema, those of a discriminator's mapping too."""
    if isinstance(value, str) and value.startswith(_DEFINITIONS):
        yield value.removeprefix(_DEFINITIONS)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)
