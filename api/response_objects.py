"""The wire objects of `/v1/responses`: a response at any moment of its life, and its errors in OpenAI's closed list."""

from typing import Any, Final

from jobs import payload, response_object
from jobs.records import Json
from jobs.responses import StoredResponse
from jobs.states import Status

_SERVER_ERROR: Final = "server_error"
_REFUSED: Final = {400: "invalid_prompt", 429: "rate_limit_exceeded"}
"""What the engine's status means in OpenAI's list of codes."""
_MESSAGES: Final = {Status.EXPIRED: "The response expired before it was made."}


def begun(stored: StoredResponse) -> Json:
    """The response as it was when it was accepted."""
    request = payload.decode(stored.request)
    return response_object.begun(stored.id, request, stored.model, stored.service_tier, stored.flags, stored.previous)


def response(stored: StoredResponse) -> Json:
    """The response as it is now."""
    match stored.status:
        case Status.QUEUED | Status.IN_PROGRESS | Status.CANCELLED:
            return begun(stored) | {"status": stored.status, "output": [*stored.begun]}
        case Status.COMPLETED:
            answer = payload.shown(stored.body)
            # An engine's own words, where they are no response.
            return answer if isinstance(answer, dict) else begun(stored) | {"status": Status.COMPLETED}
    return response_object.failed(begun(stored), *_error(stored))


def _error(stored: StoredResponse) -> tuple[str, str]:
    """Code and message of what has no answer, or whose answer is a refusal."""
    if stored.status_code is None:
        return _SERVER_ERROR, stored.error_message or _MESSAGES.get(stored.status, "The response could not be made.")
    body: Any = payload.shown(stored.body)
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    told = str(message or f"The engine answered with status {stored.status_code}.")
    return _REFUSED.get(stored.status_code, _SERVER_ERROR), told
