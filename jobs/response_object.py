"""The object of one of `/v1/responses`, as OpenAI's reference has it: the same fields from its first moment to its end.

What the request said is echoed as it was said; where it said nothing stands what OpenAI says there, never null for a
field that has a value at OpenAI.
"""

import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from jobs import ids, payload
from jobs.admission.parameters import TIERS
from jobs.records import ClaimedJob, Flags, Json

_ECHOED: Final[Mapping[str, Any]] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt": None,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "truncation": "disabled",
    "user": None,
}
"""What a request may say, with what it means to say nothing."""
_EFFECTIVE: Final[Mapping[str, Any]] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
"""The same, but a model may have other defaults: its engine's answer says what was used."""
_ANSWERED: Final = frozenset({"model", "output", "status", "incomplete_details", "usage", *_EFFECTIVE})
"""What only the engine knows. Of the rest it has its own idea: it never hears of storing or of the background."""
_REASONING: Final = {"effort": None, "summary": None}
_TEXT: Final = {"format": {"type": "text"}}


def of_job(job: ClaimedJob) -> Json:
    """The queued response of a claimed job of `/v1/responses`. Where its request names no model, the engine will."""
    return begun(job.id, payload.decode(job.body), "", job.service_tier, job.flags, job.previous)


def begun(
    response_id: UUID, request: Json, model: str, service_tier: str | None, flags: Flags, previous: UUID | None
) -> Json:
    """A queued response to this request."""
    said = {name: value for name, value in request.items() if value is not None}
    return {
        "id": ids.response_id(response_id),
        "object": "response",
        "created_at": int(ids.seconds(response_id)),
        "status": "queued",
        "background": Flags.BACKGROUND in flags,
        "store": Flags.UNSTORED not in flags,
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "model": said.get("model", model),
        "output": [],
        "previous_response_id": None if previous is None else ids.response_id(previous),
        "reasoning": _REASONING | _object(said.get("reasoning")),
        "service_tier": TIERS[service_tier or "default"].name.lower(),
        "text": _TEXT | _object(said.get("text")),
        "usage": None,
        **{name: said.get(name, otherwise) for name, otherwise in (*_ECHOED.items(), *_EFFECTIVE.items())},
    }


def answered(begun: Json, answer: Json) -> Json:
    """The response that has ended with this answer of the engine. What the engine alone has stays in it."""
    known = {
        name: value for name, value in answer.items() if value is not None and (name in _ANSWERED or name not in begun)
    }
    response = begun | {"status": "completed"} | known
    if response["status"] == "completed":
        response["completed_at"] = int(time.time())
    return response


def failed(begun: Json, code: str, message: str) -> Json:
    """The response that has ended without an answer. `code` is one of those that OpenAI's reference has for it."""
    return begun | {"status": "failed", "error": {"code": code, "message": message}}


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
