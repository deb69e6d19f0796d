"""What a request asks of the scripted engine besides words: a call of one of its tools, or JSON of a form.

Both are filled in from the text of the request's last message, as a model would that reads little: a number is the
first number in it, a string what stands in its first single quotes.
"""

import json
import re
from typing import Any

from jobs.records import Json


def tool_calls(body: Json) -> list[Json]:
    """The call with which a chat is answered: of the named tool, or of the first one where a call is required, or where
    one is possible and the user spoke last. Empty otherwise."""
    functions = [tool["function"] for tool in body.get("tools") or ()]
    choice = body.get("tool_choice") or "auto"
    if isinstance(choice, dict):
        functions = [function for function in functions if function["name"] == choice["function"]["name"]]
    elif choice == "none" or (choice == "auto" and body["messages"][-1]["role"] != "user"):
        return []
    return [_call(function, body) for function in functions[:1]]


def formed(body: Json) -> str | None:
    """The JSON that a chat's `response_format` asks for, in text; None if it asks for none. Without a schema, an object
    whose keys are all that stands in quotes."""
    form = body.get("response_format") or {"type": "text"}
    if form["type"] == "json_schema":
        return json.dumps(_filled(form["json_schema"]["schema"], _said(body)))
    if form["type"] == "json_object":
        return json.dumps(dict.fromkeys(_quoted(_said(body)), "word"))
    return None


def _call(function: Json, body: Json) -> Json:
    arguments = json.dumps(_filled(function.get("parameters") or {}, _said(body)), ensure_ascii=False)
    called = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_{body.get('request_id', 'none')}", "type": "function", "function": called}


def _said(body: Json) -> str:
    content = body["messages"][-1].get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']+)'", text)


def _filled(schema: Json, text: str, root: Json | None = None) -> Any:
    """A value by this schema, as far as the schemas of tools go."""
    root = schema if root is None else root
    if "$ref" in schema:
        return _filled(root["$defs"][schema["$ref"].rpartition("/")[2]], text, root)
    if "anyOf" in schema:
        return _filled(schema["anyOf"][0], text, root)
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type", "object" if "properties" in schema or schema is root else "string"):
        case "object":
            return {name: _filled(of, text, root) for name, of in schema.get("properties", {}).items()}
        case "array":
            return [_filled(schema.get("items", {}), text, root)]
        case "integer" | "number":
            return int(next(iter(re.findall(r"\d+", text)), 1))
        case "boolean":
            return True
        case "null":
            return None
    return next(iter(_quoted(text)), "word")
