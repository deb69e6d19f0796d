"""A scripted answer as vLLM's Responses endpoint gives it, whole or event by event."""

import json
import time
from collections.abc import Iterator
from typing import Any

from jobs.records import Json


def response(body: Json, model: str, text: str, prompt: int, tokens: int) -> Json:
    """The whole response to the request `body`."""
    name: str = body.get("request_id", "resp_none")
    part: Json = {"type": "output_text", "text": text, "annotations": [], "logprobs": None}
    message = {"type": "message", "id": f"msg_{name}", "role": "assistant", "status": "completed", "content": [part]}
    inputs = {"cached_tokens": 0, "cache_write_tokens": 0}
    return {
        "id": name,
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": model,
        "output": [message],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": inputs,
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + tokens,
        },
    }


def events(response: Json) -> Iterator[bytes]:
    """All that is said of this response, a word at a time."""
    [message] = response["output"]
    [part] = message["content"]
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    there: Json = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    empty = {"item": message | {"status": "in_progress", "content": []}, "output_index": 0}
    said: list[tuple[str, Json]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    said += [("output_item.added", empty), ("content_part.added", there | {"part": part | {"text": ""}})]
    for number, word in enumerate(part["text"].split(" ")):
        delta = word if number == 0 else f" {word}"
        said.append(("output_text.delta", there | {"delta": delta, "logprobs": []}))
    said += [
        ("output_text.done", there | {"text": part["text"], "logprobs": []}),
        ("content_part.done", there | {"part": part}),
        ("output_item.done", {"item": message, "output_index": 0}),
        ("completed", {"response": response}),
    ]
    for number, (kind, fields) in enumerate(said):
        yield _event(f"response.{kind}", number, fields)


def _event(name: str, number: int, fields: dict[str, Any]) -> bytes:
    data = json.dumps({**fields, "sequence_number": number, "type": name}, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()
