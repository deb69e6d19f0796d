"""`POST /`: the small API that many self-hosted demos speak. A prompt and its history in, the answer's text out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from api import answers, auth, exchange, parts, payload, prefer
from api.payload import JsonResponse
from jobs.admission.admit import Submit
from jobs.errors import BadRequest
from jobs.payload import parse, write
from jobs.records import Json, Tenant

router = APIRouter()

_CHAT: Final = "/v1/chat/completions"
_MOST_TOKENS: Final = 512
_PROMPT: Final = "prompt"
_HISTORY: Final = "history"
_ROLES: Final = ("system", "user", "assistant")


@router.post("/")
async def create(request: Request, tenant: Tenant = Depends(auth.tenant)) -> Response:  # noqa: B008, FastAPI's manner
    """A chat of at most 512 tokens with the only model that there is, answered when it is done."""
    here = parts.of(request)
    fields = await payload.fields(request, here.settings.body_limit_bytes, {_PROMPT, _HISTORY})
    body = {"messages": [*_history(fields), {"role": "user", "content": _text(fields)}], "max_tokens": _MOST_TOKENS}
    submit = Submit(
        exchange.id_of(request), tenant, _CHAT, write(body), body, waited=True, traceparent=exchange.trace_of(request)
    )
    response = await answers.answer(here, request, await here.admission.admit(submit), prefer.NONE)
    if response.status_code != 200:
        return response
    said = parse(bytes(response.body))["choices"][0]["message"]["content"]
    return JsonResponse({"response": said or "", "status": 200, "time": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"})


def _text(fields: Mapping[str, Any]) -> str:
    text = fields.get(_PROMPT)
    if text is None:
        raise BadRequest("Missing required parameter: 'prompt'.", param=_PROMPT, code="missing_required_parameter")
    if not isinstance(text, str):
        raise BadRequest("Invalid type for 'prompt': expected a string.", param=_PROMPT, code="invalid_type")
    return text


def _history(fields: Mapping[str, Any]) -> list[Json]:
    history = fields.get(_HISTORY)
    if history is None:
        return []
    if not isinstance(history, list):
        raise BadRequest("Invalid type for 'history': expected an array.", param=_HISTORY, code="invalid_type")
    for index, message in enumerate(history):
        if not (
            isinstance(message, dict)
            and message.keys() == {"role", "content"}
            and message["role"] in _ROLES
            and isinstance(message["content"], str)
        ):
            place, roles = f"{_HISTORY}.{index}", ", ".join(map(repr, _ROLES))
            raise BadRequest(
                f"Invalid '{place}': expected an object with 'role' (one of {roles}) and 'content', a string.",
                param=place,
                code="invalid_value",
            )
    return history
