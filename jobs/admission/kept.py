"""What a request to `/v1/responses` says about keeping it: in the background, stored, as the next turn of another."""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from jobs import ids, responses
from jobs.admission import parameters
from jobs.errors import BadRequest, NotFound
from jobs.records import Flags, Json

_CONTINUING: Final = frozenset({parameters.RESPONSES, parameters.INPUT_TOKENS})


@dataclass(frozen=True, slots=True)
class Kept:
    """`flags` are `BACKGROUND` and `UNSTORED`; `previous` is the response that this one continues."""

    flags: Flags = Flags.NONE
    previous: UUID | None = None

    @property
    def background(self) -> bool:
        return Flags.BACKGROUND in self.flags


_NOTHING: Final = Kept()


def read(endpoint: str, body: Json, line: bool) -> Kept:
    """What this body says; nothing on other endpoints. `line` says that it is one of a batch.

    Raises:
        BadRequest: naming the field.
    """
    if endpoint not in _CONTINUING:
        return _NOTHING
    previous = _previous(body.get("previous_response_id"))
    if endpoint != parameters.RESPONSES:
        return Kept(previous=previous)
    background, stored = _truth(body, "background", False), _truth(body, "store", True)
    if background and line:
        raise _refused("the lines of a batch are in the background already", "unsupported_parameter")
    if background and not stored:
        raise _refused("a response in the background has to be stored, but 'store' is false", "invalid_value")
    flags = Flags.BACKGROUND if background else Flags.NONE
    return Kept(flags if stored else flags | Flags.UNSTORED, previous)


def _refused(why: str, code: str) -> BadRequest:
    return BadRequest(f"Invalid 'background': {why}.", param="background", code=code)


def _truth(body: Json, name: str, otherwise: bool) -> bool:
    value = body.get(name)
    if value is None:
        return otherwise
    if not isinstance(value, bool):
        raise BadRequest(f"Invalid type for '{name}': expected a boolean.", param=name, code="invalid_type")
    return value


def _previous(value: object) -> UUID | None:
    if value is None:
        return None
    if not isinstance(value, str):
        message = "Invalid type for 'previous_response_id': expected a string."
        raise BadRequest(message, param="previous_response_id", code="invalid_type")
    try:
        return ids.parse_response_id(value)
    except NotFound:
        raise responses.unknown_previous(value) from None
