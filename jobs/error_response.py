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


def body_of(error: LonghaulError, path: str, status: int) -> Json:
    """The envelope of an error; on the Messages endpoints it is Anthropic's as well."""
    content: Json = {"error": fields(error)}
    if path.startswith(_ANTHROPIC):
        content["type"] = "error"
        content["error"]["type"] = _ANTHROPIC_TYPES.get(
            status, "api_error" if status >= 500 else "invalid_request_error"
        )
    return content
