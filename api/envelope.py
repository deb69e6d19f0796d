"""Whatever went wrong, as a response with OpenAI's envelope and headers that tell whether to repeat."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.payload import JsonResponse
from jobs.database import is_connection_lost
from jobs.error_response import body_of, status_of
from jobs.errors import BadRequest, LonghaulError, NotFound, Unavailable, UpstreamLost

_RETRY_AFTER_SECONDS: Final = 1


def response(
    request: Request,
    error: LonghaulError,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JsonResponse:
    """The envelope of an error, with headers that tell OpenAI's SDK whether to repeat; `more` stands beside `error`.

    The SDK repeats every 409 by itself, which would change nothing.
    """
    status = status or status_of(error)
    content = {**body_of(error, request.url.path, status), **more}
    own = dict(headers or {})
    if status in (429, 503):
        own.setdefault("retry-after", str(_RETRY_AFTER_SECONDS))
    if status == 409:
        own.setdefault("x-should-retry", "false")
    return JsonResponse(content, status, own)


def install(app: FastAPI) -> None:
    """Have the app answer every error so."""
    app.add_exception_handler(LonghaulError, _ours)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(RequestValidationError, _query)
    app.add_exception_handler(SQLAlchemyError, _database)
    app.add_exception_handler(RecursionError, _nesting)


def crash(request: Request) -> JsonResponse:
    """The envelope of a fault of ours, which tells nothing of it."""
    message = "The server had an error while processing your request. Sorry about that!"
    return response(request, UpstreamLost(message, code="server_error"))


async def _ours(request: Request, error: Exception) -> JsonResponse:
    assert isinstance(error, LonghaulError)
    return response(request, error)


async def _routing(request: Request, error: Exception) -> JsonResponse:
    assert isinstance(error, HTTPException)
    where = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        fault: LonghaulError = BadRequest(f"Not allowed to {where}.", code="method_not_supported")
    elif error.status_code == HTTPStatus.NOT_FOUND:
        fault = NotFound(f"Unknown request URL: {where}. Please check the URL for typos.", code="unknown_url")
    else:
        fault = BadRequest(str(error.detail))
    return response(request, fault, error.status_code, error.headers)


async def _query(request: Request, error: Exception) -> JsonResponse:
    """A path or query parameter that is not of its type."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    name = ".".join(map(str, fault["loc"][1:]))
    return response(request, BadRequest(f"Invalid '{name}': {fault['msg']}.", param=name, code="invalid_value"))


async def _database(request: Request, error: Exception) -> JsonResponse:
    if isinstance(error, PoolTimeout) or is_connection_lost(error):
        return response(request, Unavailable("The database is not available; try again."))
    raise error


async def _nesting(request: Request, error: Exception) -> JsonResponse:
    return response(request, BadRequest("The request is nested too deeply.", code="invalid_json"))
