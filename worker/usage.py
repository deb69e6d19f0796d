"""The tokens of a response, whatever its endpoint calls them."""

import json
from json import JSONDecodeError
from typing import Any, Final

from jobs.records import Json, Usage

_KEY: Final = b'"usage":'
_decoder = json.JSONDecoder()


def find(body: bytes) -> Usage:
    """The usage in a JSON response; all zero where it has none.

    Only the usage itself is parsed: a body of embeddings has megabytes before it. The key's bytes cannot stand inside
    a string, where its quotes are escaped, so the last one is the response's own, or one deeper that reads as nothing
    and sends us through the whole.
    """
    start = body.rfind(_KEY)
    if start < 0:
        return read(_whole(body)) if b'"usage"' in body else Usage()
    try:
        value, _ = _decoder.raw_decode(body[start + len(_KEY) :].decode(errors="replace").lstrip())
    except JSONDecodeError:
        return Usage()
    return read(value) if _counts(value) else read(_whole(body))


def read(usage: Any) -> Usage:
    """The columns of OpenAI's and Anthropic's usage objects.

    `input` has the cached tokens in it: OpenAI counts so, Anthropic's `input_tokens` are those beside the cache.
    """
    if not isinstance(usage, dict):
        return Usage()
    written, cached = (_number(usage.get(f"cache_{name}_input_tokens")) for name in ("creation", "read"))
    inputs = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    outputs = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return Usage(
        input=_number(_first(usage, "prompt_tokens", "input_tokens", "total_tokens")) + written + cached,
        cached=_number(inputs.get("cached_tokens")) or cached,
        output=_number(_first(usage, "completion_tokens", "output_tokens")),
        reasoning=_number(outputs.get("reasoning_tokens")),
    )


def _counts(usage: Any) -> bool:
    return isinstance(usage, dict) and isinstance(_first(usage, "prompt_tokens", "input_tokens", "total_tokens"), int)


def _whole(body: bytes) -> Json | None:
    try:
        response = json.loads(body)
    except ValueError:
        return None
    usage = response.get("usage") if isinstance(response, dict) else None
    return usage if isinstance(usage, dict) else None


def _first(usage: Json, *names: str) -> Any:
    return next((usage[name] for name in names if name in usage), None)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0
