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
    """All that is said of this response to the request `body`: the role, the words, the usage if asked for, the end."""
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
    words = (choice["message"]["content"] if chats else choice["text"]).split(" ")
    for number, word in enumerate(words):
        text = word if number == 0 else f" {word}"
        last = number == len(words) - 1
        said = {"delta": {"content": text}} if chats else {"text": text}
        reason = choice["finish_reason"] if last else None
        chunk = head | {"choices": [{"index": 0, **said, "logprobs": None, "finish_reason": reason}]}
        yield event(chunk)
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event(head | {"choices": [], "usage": response["usage"]})
    yield DONE
