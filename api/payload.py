"""JSON on the wire: a request's body, its type by header and its size while it comes in; and a response's."""

import json
from typing import Any, Final, NoReturn

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobs.errors import BadRequest, TooLarge, WrongContentType

_MOST_STRUCTURE: Final = 1_000_000
"""Each value in JSON has a comma or bracket of its own. Reading so many takes a second, in which all others wait."""


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
            _refuse_crowds(whole)
            return whole


def parse(body: bytes) -> Any:
    """The JSON value of a body in UTF-8. Lone surrogates and NUL are the engine's business; NaN is no JSON.

    Raises:
        BadRequest: it is no JSON, or nested too deeply.
    """
    try:
        return decode(body)
    except RecursionError:
        raise BadRequest("The request body is nested too deeply.", code="invalid_json") from None
    except ValueError as error:
        message = f"We could not parse the JSON body of your request: {error}."
        raise BadRequest(message, code="invalid_json") from None


def decode(body: bytes) -> Any:
    """The same, but raises ValueError or RecursionError."""
    return _DECODER.decode(body.decode("utf-8", "surrogatepass"))


def write(value: Any) -> bytes:
    """A JSON value as bytes."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()  # escaped, lone surrogates survive


class JsonResponse(Response):
    """A response that can hold whatever a request could: Starlette's own fails on lone surrogates."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return write(content)


def _refuse_crowds(body: bytes) -> None:
    """Commas in strings count too: to tell them apart would be the work that this spares."""
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_STRUCTURE:
        message = f"The request body has more than {_MOST_STRUCTURE} commas and opening brackets. Send it in parts."
        raise TooLarge(message, code="request_too_large")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
