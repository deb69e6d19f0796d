"""An engine's error, brought into OpenAI's envelope: once, before it is recorded."""

import json
from http import HTTPStatus
from typing import Any, Final

from jobs.records import Json

_MESSAGES: Final = ("/v1/messages", "/v1/messages/count_tokens")
_TYPES: Final = {429: "rate_limit_error", 503: "service_unavailable_error"}
_CODES: Final = {429: "rate_limit_exceeded", 500: "server_error", 503: "server_is_overloaded"}
_ANTHROPIC: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def normalise(endpoint: str, status: int, body: bytes) -> bytes:
    """The error envelope `{"error": {message, type, param, code}}` of any error response, `code` a string or null.

    Understood are vLLM's own form, a bare string, FastAPI's `detail`, Anthropic's form and plain text. On the Messages
    endpoints the envelope is Anthropic's as well: `"type": "error"` beside it, and Anthropic's name as its type.
    """
    message, kind, param, code = _parts(_parse(body))
    message = _say_more(message or _phrase(status))
    error = {
        "message": message,
        "type": kind if kind and kind.endswith("_error") else _type(status),
        "param": param.removeprefix("body.") if param else None,
        "code": code or _code(status, message, kind),
    }
    if endpoint not in _MESSAGES:
        return json.dumps({"error": error}).encode()
    error["type"] = _ANTHROPIC.get(status, "invalid_request_error" if status < 500 else "api_error")
    return json.dumps({"type": "error", "error": error}).encode()


def status_of(body: bytes) -> int:
    """The status of an error that came in a stream: what vLLM says in it, else 500."""
    parsed = _parse(body)
    error = parsed.get("error") if isinstance(parsed, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 400 <= code < 600 else 500


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")


def _parts(parsed: Any) -> tuple[str, str | None, str | None, str | None]:
    """Message, type, param and a code in words, as far as the engine gave them."""
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
    if isinstance(error, str):
        return error, None, None, None
    if not isinstance(error, dict):
        return "", None, None, None
    if "message" not in error and "detail" in error:
        return *_detail(error["detail"]), None
    code = error.get("code")
    return (
        str(error.get("message") or ""),
        _string(error.get("type")),
        _string(error.get("param")),
        code if isinstance(code, str) and not code.isdecimal() else None,
    )


def _detail(detail: Any) -> tuple[str, str | None, str | None]:
    if not isinstance(detail, list):
        return str(detail), None, None
    faults: list[Json] = [fault for fault in detail if isinstance(fault, dict)]
    places = [".".join(map(str, fault.get("loc", ()))) for fault in faults]
    text = "; ".join(f"{place}: {fault.get('msg')}" for place, fault in zip(places, faults, strict=True))
    return text, None, places[0] if places else None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"The engine answered {status}."


def _type(status: int) -> str:
    return _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


def _code(status: int, message: str, kind: str | None) -> str | None:
    if status == 400 and "maximum context length" in message:
        return "context_length_exceeded"
    if status == 404 and kind == "NotFoundError":
        return "model_not_found"
    return _CODES.get(status)


def _say_more(message: str) -> str:
    """vLLM says that a chat template is missing, but not how to give one."""
    if "must provide a chat template" in message and "--chat-template" not in message:
        return f"{message} Start the worker with the engine argument `--chat-template FILE`."
    return message
