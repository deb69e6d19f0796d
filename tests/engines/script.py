"""What a request's `script` may tell the scripted engine to do, and the schemas that let it through admission."""

from dataclasses import dataclass
from typing import Any

from jobs.records import Json

OPTIONAL_NUMBER: Json = {"anyOf": [{"type": "number"}, {"type": "null"}]}
OPTIONAL_INTEGER: Json = {"anyOf": [{"type": "integer"}, {"type": "null"}]}
OPTIONAL_STRING: Json = {"anyOf": [{"type": "string"}, {"type": "null"}]}
OPTIONAL_BOOLEAN: Json = {"anyOf": [{"type": "boolean"}, {"type": "null"}]}
TEXT_OR_TEXTS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}


@dataclass(frozen=True, slots=True)
class Script:
    """One request's orders, in its body's field `script`.

    With `times`, the orders that do harm (`fail`, `die`, `exit`, `crash`, `hang`) hold for a job's first so many
    starts, counted in the journal over all processes; later starts answer.
    """

    delay: float | None = None
    """Seconds before the answer; unset: the engine's own."""
    tokens: int | None = None
    """Completion tokens; unset: what the request allows, at most 16."""
    text: str | None = None
    """The answer; unset: a word per token."""
    finish_reason: str = "stop"
    fail: int | None = None
    """Answer this status with an error in vLLM's form."""
    retry_after: int | None = None
    """The error's `Retry-After` header, seconds."""
    die: bool = False
    """The engine dies with everything that runs on it; its process lives."""
    exit: bool = False
    """The process kills itself with SIGKILL."""
    crash: bool = False
    """The app raises without an answer; the engine lives."""
    hang: bool = False
    """Never answer."""
    deaf: bool = False
    """Do not listen to a disconnect."""
    times: int | None = None
    pace: float = 0
    """Seconds between the tokens of a stream."""
    break_after: int | None = None
    """After so many tokens of a stream, do the harm: `fail` as an error chunk, `die`, `exit`, `crash`, `hang`."""

    @property
    def gentle(self) -> "Script":
        """The same without its harm."""
        return Script(delay=self.delay, tokens=self.tokens, text=self.text, pace=self.pace)

    @property
    def harmful(self) -> bool:
        return bool(self.fail or self.die or self.exit or self.crash or self.hang)


SCRIPT: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "delay": {"type": "number"},
        "tokens": {"type": "integer"},
        "text": {"type": "string"},
        "finish_reason": {"type": "string"},
        "fail": {"type": "integer"},
        "retry_after": {"type": "integer"},
        "die": {"type": "boolean"},
        "exit": {"type": "boolean"},
        "crash": {"type": "boolean"},
        "hang": {"type": "boolean"},
        "deaf": {"type": "boolean"},
        "times": {"type": "integer"},
        "pace": {"type": "number"},
        "break_after": {"type": "integer"},
    },
}

MESSAGE: Json = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"type": "string"},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"$ref": "#/$defs/Part"}},
                {"type": "null"},
            ]
        },
        "name": OPTIONAL_STRING,
        "tool_call_id": OPTIONAL_STRING,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
    },
}
PART: Json = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}

SAMPLING: Json = {
    "max_tokens": OPTIONAL_INTEGER,
    "temperature": OPTIONAL_NUMBER,
    "top_p": OPTIONAL_NUMBER,
    "top_k": OPTIONAL_INTEGER,
    "min_p": OPTIONAL_NUMBER,
    "n": OPTIONAL_INTEGER,
    "seed": OPTIONAL_INTEGER,
    "stop": {"anyOf": [*TEXT_OR_TEXTS["anyOf"], {"type": "null"}]},
    "presence_penalty": OPTIONAL_NUMBER,
    "frequency_penalty": OPTIONAL_NUMBER,
    "logit_bias": {"anyOf": [{"type": "object", "additionalProperties": {"type": "number"}}, {"type": "null"}]},
    "stream": OPTIONAL_BOOLEAN,
    "stream_options": {"anyOf": [{"type": "object"}, {"type": "null"}]},
    "ignore_eos": {"type": "boolean", "default": False},
}
COMMON: Json = {
    "model": OPTIONAL_STRING,
    "user": OPTIONAL_STRING,
    "priority": {"type": "integer", "default": 0},
    "request_id": {"type": "string"},
    "cache_salt": OPTIONAL_STRING,
    "script": {"$ref": "#/$defs/Script"},
}


def _schema(title: str, required: str, properties: Json) -> Json:
    return {
        "title": title,
        "type": "object",
        "additionalProperties": True,
        "required": [required],
        "properties": COMMON | properties,
        "$defs": {"Script": SCRIPT, "Message": MESSAGE, "Part": PART},
    }


ENDPOINTS: dict[str, Json] = {
    "/v1/chat/completions": _schema(
        "ChatCompletionRequest",
        "messages",
        SAMPLING
        | {
            "messages": {"type": "array", "items": {"$ref": "#/$defs/Message"}},
            "max_completion_tokens": OPTIONAL_INTEGER,
            "logprobs": OPTIONAL_BOOLEAN,
            "top_logprobs": OPTIONAL_INTEGER,
            "response_format": {"anyOf": [{"type": "object"}, {"type": "null"}]},
            "tools": {"anyOf": [{"type": "array", "items": {"type": "object"}}, {"type": "null"}]},
            "tool_choice": {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]},
            "parallel_tool_calls": OPTIONAL_BOOLEAN,
            "reasoning_effort": OPTIONAL_STRING,
        },
    ),
    "/v1/completions": _schema(
        "CompletionRequest",
        "prompt",
        SAMPLING | {"prompt": TEXT_OR_TEXTS, "echo": OPTIONAL_BOOLEAN, "suffix": OPTIONAL_STRING},
    ),
    "/v1/responses": _schema(
        "ResponsesRequest",
        "input",
        SAMPLING
        | {
            "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
            "instructions": OPTIONAL_STRING,
            "max_output_tokens": OPTIONAL_INTEGER,
            "background": OPTIONAL_BOOLEAN,
            "store": OPTIONAL_BOOLEAN,
            "previous_response_id": OPTIONAL_STRING,
        },
    ),
    "/v1/embeddings": _schema(
        "EmbeddingRequest",
        "input",
        {"input": TEXT_OR_TEXTS, "encoding_format": {"enum": ["float", "base64"]}, "dimensions": OPTIONAL_INTEGER},
    ),
}
"""Each served path with the JSON schema of its body, open as vLLM's own are."""


def words(body: Json) -> int:
    """Prompt tokens of a request: the words of its texts."""
    return sum(_count(body.get(field)) for field in ("messages", "prompt", "input"))


def allowed(body: Json) -> int:
    """Completion tokens that a request allows, at most 16."""
    limits = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    return min(16, *(body.get(name) or 16 for name in limits))


def _count(value: Any) -> int:
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(_count(item) for item in value)
    if isinstance(value, dict):
        return _count(value.get("content")) + _count(value.get("text"))
    return 0
