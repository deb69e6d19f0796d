"""A scripted response as vLLM streams it: an event for each word, byte for byte in vLLM's form."""

import json
from collections.abc import Iterator

from jobs.records import Json
from tests.engines import responded

DONE = b"data: [DONE]\n\n"


def event(data: Json) -> bytes:
    """One server-sent event."""
    return b"data: %s\n\n" % json.dumps(data, separators=(",", ":")).encode()


def events(body: Json, response: Json) -> Iterator[bytes]:
    """All that is said of this response to the request `body`: the role, its words, the usage if asked for, the end."""
    if response["object"] == "response":
        yield from responded.events(response)
        return
    [choice] = response["choices"]
    chats = "message" in choice
    head = {name: response[name] for name in ("id", "object", "created", "model")}
    if chats:
        head["object"] = "chat.completion.chunk"
        first = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield event(head | {"choices": [first]})
    said = list(_said(choice))
    for number, piece in enumerate(said, 1):
        reason = choice["finish_reason"] if number == len(said) else None
        yield event(head | {"choices": [{"index": 0, **piece, "logprobs": None, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event(head | {"choices": [], "usage": response["usage"]})
    yield DONE


def _said(choice: Json) -> Iterator[Json]:
    """The choice's calls, each named first and then given its arguments, or its text word by word."""
    message: Json = choice.get("message", {})
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        named = {"id": call["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}
        yield {"delta": {"tool_calls": [{"index": index, **named}]}}
        for part in _words(function["arguments"]):
            yield {"delta": {"tool_calls": [{"index": index, "function": {"arguments": part}}]}}
    if "tool_calls" not in message:
        for word in _words(message["content"] if message else choice["text"]):
            yield {"delta": {"content": word}} if message else {"text": word}


def _words(text: str) -> Iterator[str]:
    """A text's words, each with the blank before it."""
    for number, word in enumerate(text.split(" ")):
        yield word if number == 0 else f" {word}"
