"""OpenAI's request bodies, for servers that publish no schemas of their own: what has a type is checked here, what a
server makes of it is its own affair."""

from collections.abc import Mapping
from typing import Final

from jobs.records import Json
from worker.engines.schemas import of_types


def _either(*schemas: Json) -> Json:
    return {"anyOf": [*schemas]}


def _or_null(*schemas: Json) -> Json:
    return _either(*schemas, _NULL)


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Json:
    return {"enum": [*values]}


_NULL: Final[Json] = {"type": "null"}
_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "integer"}
_OBJECT: Final[Json] = {"type": "object"}
_FLAG: Final = _or_null({"type": "boolean"})
_NUMBER: Final = _or_null({"type": "number"})
_COUNT: Final = _or_null(_WHOLE)
_WORDS: Final = _or_null(_TEXT)
_THING: Final = _or_null(_OBJECT)
_TOKENS: Final = _list(_WHOLE)
_TEXTS_OR_TOKENS: Final = _either(_TEXT, _list(_TEXT), _TOKENS, _list(_TOKENS))


def _body(title: str, required: list[str], properties: Json) -> Json:
    return {
        "title": title,
        "type": "object",
        "required": required,
        "properties": {"model": _WORDS, "user": _WORDS, **properties},
    }


_PART: Final[Json] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": _TEXT,
        "text": _TEXT,
        "image_url": {"type": "object", "required": ["url"], "properties": {"url": _TEXT, "detail": _TEXT}},
        "input_audio": {"type": "object", "required": ["data", "format"]},
        "file": _OBJECT,
    },
}
_CALLED: Final[Json] = {
    "type": "object",
    "required": ["id", "type"],
    "properties": {
        "id": _TEXT,
        "type": _TEXT,
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {"name": _TEXT, "arguments": _TEXT},
        },
    },
}
_MESSAGE: Final[Json] = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": _TEXT,
        "content": _or_null(_TEXT, _list(_PART)),
        "name": _TEXT,
        "refusal": _WORDS,
        "tool_calls": _or_null(_list(_CALLED)),
        "tool_call_id": _TEXT,
    },
}
_FUNCTION: Final[Json] = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": _TEXT, "description": _WORDS, "parameters": _THING, "strict": _FLAG},
}
_TOOL: Final[Json] = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": _one_of("function"), "function": _FUNCTION},
}
_FORM: Final[Json] = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": _one_of("text", "json_object", "json_schema"),
        "json_schema": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": _TEXT, "description": _WORDS, "schema": _OBJECT, "strict": _FLAG},
        },
    },
}
_STREAMING: Final[Json] = {
    "stream": _FLAG,
    "stream_options": _or_null({"type": "object", "properties": {"include_usage": _FLAG}}),
}
_SAMPLING: Final[Json] = {
    **_STREAMING,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "n": _COUNT,
    "seed": _COUNT,
    "stop": _or_null(_TEXT, _list(_TEXT)),
    "max_tokens": _COUNT,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "logit_bias": _or_null({"type": "object", "additionalProperties": {"type": "number"}}),
}
_RESPONSES_TOOL: Final = of_types(_FUNCTION | {"required": ["type"]}, "function")

ENDPOINTS: Final[Mapping[str, Json]] = {
    "/v1/chat/completions": _body(
        "ChatCompletionRequest",
        ["messages"],
        {
            **_SAMPLING,
            "messages": _list(_MESSAGE),
            "max_completion_tokens": _COUNT,
            "logprobs": _FLAG,
            "top_logprobs": _or_null({"type": "integer", "minimum": 0, "maximum": 20}),
            "response_format": _or_null(_FORM),
            "tools": _or_null(_list(_TOOL)),
            "tool_choice": _or_null(_one_of("none", "auto", "required"), _OBJECT),
            "parallel_tool_calls": _FLAG,
            "reasoning_effort": _WORDS,
        },
    ),
    "/v1/completions": _body(
        "CompletionRequest",
        ["prompt"],
        {
            **_SAMPLING,
            "prompt": _TEXTS_OR_TOKENS,
            "echo": _FLAG,
            "logprobs": _or_null({"type": "integer", "minimum": 0, "maximum": 5}),
        },
    ),
    "/v1/embeddings": _body(
        "EmbeddingRequest",
        ["input"],
        {
            "input": _TEXTS_OR_TOKENS,
            "encoding_format": _or_null(_one_of("float", "base64")),
            "dimensions": _COUNT,
        },
    ),
    "/v1/responses": _body(
        "ResponsesRequest",
        ["input"],
        {
            **_STREAMING,
            "input": _either(_TEXT, _list(_OBJECT)),
            "instructions": _WORDS,
            "temperature": _NUMBER,
            "top_p": _NUMBER,
            "top_logprobs": _or_null({"type": "integer", "minimum": 0, "maximum": 20}),
            "max_output_tokens": _COUNT,
            "tools": _or_null(_list(_RESPONSES_TOOL)),
            "tool_choice": _or_null(_one_of("none", "auto", "required"), _OBJECT),
            "parallel_tool_calls": _FLAG,
            "reasoning": _THING,
            "text": _THING,
            "include": _or_null(_list(_TEXT)),
            "truncation": _WORDS,
            "store": _FLAG,
            "background": _FLAG,
            "previous_response_id": _WORDS,
        },
    ),
}
"""Each path that a server may have with the schema of its body, open as vLLM's own are."""
