"""JSON as bytes, as it stands in a request's or a response's body."""

import json
from typing import Any, Final, NoReturn

from jobs.errors import BadRequest, TooLarge

_MOST_STRUCTURE: Final = 1_000_000
"""Each value in JSON has a comma or bracket of its own. Reading so many takes a second, in which all others wait."""


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


def refuse_crowds(body: bytes) -> None:
    """Raises TooLarge if a body that has not been read has too many values.

    Commas in strings count too: to tell them apart would be the work that this spares.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > _MOST_STRUCTURE:
        message = f"The request body has more than {_MOST_STRUCTURE} commas and opening brackets. Send it in parts."
        raise TooLarge(message, code="request_too_large")


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
