"""The items of a conversation: what a response's request said, and what was answered.

The engine gets them as they came, so that a prompt is the same whether its client or this server puts the earlier turns
before it. In lists they have OpenAI's full form, with ids.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from jobs import payload
from jobs.records import Json

_PREFIXES: Final = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
_STATELESS: Final = frozenset({"reasoning", "item_reference", "compaction"})
"""Items that have no status by themselves."""


def said(request: Json) -> list[Any]:
    """The input of a request, as a list."""
    given = request.get("input")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(given) if isinstance(given, list) else []


def output(response: bytes | None) -> list[Any]:
    """What a stored response answered."""
    body = payload.shown(response)
    found = body.get("output") if isinstance(body, dict) else None
    return found if isinstance(found, list) else []


def begun(events: Iterable[bytes]) -> list[Json]:
    """What a response that was cancelled had answered, by the events of its last run as far as they were kept; an item
    that had no end is incomplete."""
    items: dict[int, Json] = {}
    for event in events:
        data = json.loads(event[event.find(b"data:") + 5 :])
        place = data.get("output_index")
        match data.get("type", "").removeprefix("response."):
            case "output_item.added":
                items[place] = data["item"] | {"status": "incomplete"}
            case "output_item.done":
                items[place] = data["item"]
            case "content_part.added" if place in items:
                items[place].setdefault("content", []).append(data["part"])
            case "output_text.delta" if place in items and items[place].get("content"):
                items[place]["content"][-1]["text"] += data["delta"]
            case "function_call_arguments.delta" if place in items:
                items[place]["arguments"] += data["delta"]
    return [item for _, item in sorted(items.items())]


def listed(response_id: UUID, items: Iterable[Any]) -> list[Json]:
    """The items that this response's request brought, as a list shows them. An item without an id gets one that stays
    the same."""
    return [_full(response_id, place, item) for place, item in enumerate(items) if isinstance(item, dict)]


def _full(response_id: UUID, place: int, item: Json) -> Json:
    kind = item.get("type") or "message"
    full = {"id": item.get("id") or _id(response_id, place, kind), "type": kind, **_without_nulls(item)}
    if kind == "message":
        full["content"] = _content(item.get("role"), item.get("content"))
    if kind not in _STATELESS:
        full.setdefault("status", "completed")
    return full


def _id(response_id: UUID, place: int, kind: str) -> str:
    digest = hashlib.blake2b(response_id.bytes + place.to_bytes(4), digest_size=16).hexdigest()
    return f"{_PREFIXES.get(kind, 'item')}_{digest}"


def _without_nulls(item: Json) -> Json:
    return {name: value for name, value in item.items() if value is not None or name not in ("id", "type", "status")}


def _content(role: Any, content: Any) -> list[Any]:
    """A message's parts. A text alone is one, an assistant's is an output."""
    if isinstance(content, str):
        kind = "output_text" if role == "assistant" else "input_text"
        content = [{"type": kind, "text": content}]
    return [_part(part) for part in content] if isinstance(content, list) else []


def _part(part: Any) -> Any:
    """With what OpenAI's schema requires of it, and may be left out of a request."""
    match part:
        case {"type": "output_text"}:
            return {"annotations": [], **part}
        case {"type": "input_image"}:
            return {"detail": "auto", **part}
    return part
