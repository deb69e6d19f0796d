"""JSON on the wire: a request's body, its type by header and its size while it comes in; and a response's."""

from collections.abc import Set
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobs.errors import BadRequest, TooLarge, WrongContentType
from jobs.payload import parse, refuse_crowds, write
from jobs.records import Json


async def read(request: Request, limit: int) -> bytes:
    """The body as it was sent.

    Raises:
        WrongContentType: it is not JSON by its own header.
        TooLarge: it is longer than `limit` bytes, of which no more is kept, or has too many values.
        ClientDisconnect: the client went away before its end.
    """
    kind = request.headers.get("content-type", "")
    # Strictly: a web page may send any other type to a server on its reader's machine without asking it first.
    if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
        raise WrongContentType(f"Send the request body as application/json, not as '{kind}'.")
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongContentType("Send the request body uncompressed.")
    too_large = TooLarge(f"The request body is over the limit of {limit} bytes.", code="request_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body = message.get("body", b"")
        size += len(body)
        if size > limit:
            raise too_large
        chunks.append(body)
        if not message.get("more_body", False):
            whole = b"".join(chunks)
            refuse_crowds(whole)
            return whole


async def fields(request: Request, limit: int, known: Set[str]) -> Json:
    """The fields of the object that the body is.

    Raises:
        BadRequest: it is no object, or has a field that is not `known`; and what `read` raises.
    """
    value = parse(await read(request, limit))
    if not isinstance(value, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_type")
    for name in value.keys() - known:
        message = f"Unrecognized request argument supplied: {name:.100}"
        raise BadRequest(message, param=name[:100], code="unknown_parameter")
    return value


def is_empty(request: Request) -> bool:
    """Whether the request says by its headers that it has no body."""
    headers = request.headers
    return "transfer-encoding" not in headers and headers.get("content-length", "0") == "0"


class JsonResponse(Response):
    """A response that can hold whatever a request could: Starlette's own fails on lone surrogates."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return write(content)
