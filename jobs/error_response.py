"""The response to a request that was refused: its status and OpenAI's envelope. The same over HTTP and in a file."""

from collections.abc import Mapping
from typing import Final

from jobs.errors import (
    BadRequest,
    Conflict,
    LonghaulError,
    NotFound,
    TooLarge,
    TooMany,
    Unauthorized,
    Unavailable,
    Unprocessable,
    UpstreamLost,
    WrongContentType,
)
from jobs.payload import write
from jobs.records import Json

_STATUS: Final[Mapping[type[LonghaulError], int]] = {
    Unprocessable: 422,
    TooLarge: 413,
    WrongContentType: 415,
    BadRequest: 400,
    Unauthorized: 401,
    NotFound: 404,
    Conflict: 409,
    TooMany: 429,
    Unavailable: 503,
    UpstreamLost: 500,
}
_ANTHROPIC: Final = "/v1/messages"
_RESPONSES: Final = "/v1/responses"
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def status_of(error: LonghaulError) -> int:
    """The HTTP status of an error."""
    return next(status for kind, status in _STATUS.items() if isinstance(error, kind))


def fields(error: LonghaulError) -> Json:
    """What stands inside `error` on the wire."""
    return {"message": error.message, "type": error.type, "param": error.param, "code": error.code}


def last_events(error: Json, path: str, number: int) -> list[bytes]:
    """The events that end a stream which cannot go on: `error` is what would stand inside an envelope, `number` that of
    the next event. In vLLM's form for chunks, Anthropic's for messages, OpenAI's for responses."""
    if path.startswith(_ANTHROPIC):
        kind = error["type"] if error["type"] != "server_error" else "api_error"
        content: Json = {"type": "error", "error": {"type": kind, "message": error["message"]}}
        return [b"event: error\ndata: %s\n\n" % write(content)]
    if path == _RESPONSES:
        content = {"type": "error", **{name: error[name] for name in ("code", "message", "param")}}
        return [b"event: error\ndata: %s\n\n" % write(content | {"sequence_number": number})]
    return [b"data: %s\n\n" % write({"error": error}), b"data: [DONE]\n\n"]


def body_of(error: LonghaulError, path: str, status: int) -> Json:
    """The envelope of an error; on the Messages endpoints it is Anthropic's as well."""
    content: Json = {"error": fields(error)}
    if path.startswith(_ANTHROPIC):
        content["type"] = "error"
        content["error"]["type"] = _ANTHROPIC_TYPES.get(
            status, "api_error" if status >= 500 else "invalid_request_error"
        )
    return content
