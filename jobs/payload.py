"""JSON as bytes, as it stands in a request's or a response's body."""

import json
from typing import Any, Final, NoReturn

from jobs.errors import BadRequest


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


def shown(body: bytes | None) -> Any:
    """A stored response's JSON; what is none is shown as text."""
    if body is None:
        return None
    try:
        return decode(body)
    except (ValueError, RecursionError):
        return body.decode(errors="replace")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse)
