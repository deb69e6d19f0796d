"""What a client says about a webhook, checked: URL, events, headers, secret."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from jobs import events, signing
from jobs.errors import BadRequest
from jobs.records import Json
from jobs.webhook_url import Reach, Target, check

BATCH_FIELDS: Final = ("webhook", "callback_url")
_FIELDS: Final = ("url", "events", "secret", "headers", "include")
_RESULT: Final = "result"
_LONGEST_SECRET: Final = 256
_LONGEST_NAME: Final = 256
_MOST_HEADERS: Final = 20
_MOST_HEADER_BYTES: Final = 4096
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?|")
_OURS: Final = ("content-", "webhook-", "proxy-")
_OURS_OR_HOP_BY_HOP: Final = frozenset(
    {
        *("host", "user-agent"),
        *("connection", "expect", "keep-alive", "te", "trailer", "trailers", "transfer-encoding", "upgrade"),
    }
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook as a request or a batch asked for it, checked; `param` is the field that said so."""

    param: str
    url: str
    target: Target
    event_types: tuple[str, ...]
    secret: str | None
    headers: dict[str, str]
    includes_result: bool


def read(value: Any, reach: Reach, param: str, known: Sequence[str], default: Sequence[str]) -> Webhook | None:
    """A webhook of one's own: a URL, or `{url, events, secret, headers, include}`; None where there is none.

    `known` are the events that it may ask for, `default` those that it gets when it asks for none.

    Raises:
        BadRequest: naming the field.
    """
    if value is None:
        return None
    fields = {"url": value} if isinstance(value, str) else value
    if not isinstance(fields, dict):
        _refuse(f"Invalid type for '{param}': expected a URL, or an object with one.", param, "invalid_type")
    for name in fields.keys() - set(_FIELDS):
        place = f"{param}.{name}"[:100]
        _refuse(f"Unrecognized request argument supplied: {place}", place, "unknown_parameter")
    place = param if isinstance(value, str) else f"{param}.url"
    url = address(fields.get("url"), reach, place)
    wanted, secret, include = fields.get("events"), fields.get("secret"), fields.get("include")
    if include not in (None, _RESULT):
        _refuse(f"Invalid value: '{include!s:.100}'. Supported values are: 'result'.", f"{param}.include")
    return Webhook(
        param=param,
        url=url,
        target=check(url, reach, place),
        event_types=tuple(default) if wanted is None else event_types(wanted, f"{param}.events", known),
        secret=None if secret is None else signing_secret(secret, f"{param}.secret"),
        headers=headers(fields.get("headers"), f"{param}.headers"),
        includes_result=include == _RESULT,
    )


def of_batch(fields: Json, reach: Reach) -> Webhook | None:
    """The webhook among the fields of a new batch, by the name `webhook` or `callback_url`.

    Raises:
        BadRequest: naming the field.
    """
    given = [name for name in BATCH_FIELDS if fields.get(name) is not None]
    if len(given) > 1:
        _refuse("Give either 'webhook' or 'callback_url', not both.", given[1])
    for name in given:
        webhook = read(fields[name], reach, name, events.BATCH, events.BATCH)
        if webhook is not None and webhook.includes_result:
            place = f"{name}.include"
            _refuse(f"Unsupported parameter: '{place}': a batch's results are files.", place, "unsupported_parameter")
        return webhook
    return None


def address(value: Any, reach: Reach, param: str) -> str:
    """A URL to which webhooks may go, as far as its form shows.

    Raises:
        BadRequest: it is none.
    """
    if value is None:
        _refuse(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if not isinstance(value, str):
        _refuse(f"Invalid type for '{param}': expected a string.", param, "invalid_type")
    check(value, reach, param)
    return value


def event_types(value: Any, param: str, known: Sequence[str] = events.TYPES) -> tuple[str, ...]:
    """The types of events to be told of, each once, at least one.

    Raises:
        BadRequest: naming the one that does not exist.
    """
    if not isinstance(value, list):
        _refuse(f"Invalid type for '{param}': expected an array of strings.", param, "invalid_type")
    if not value:
        _refuse(f"Invalid '{param}': empty array. Expected an array with minimum length 1.", param, "empty_array")
    for index, each in enumerate(value):
        if each not in known:
            supported = ", ".join(map(repr, known))
            _refuse(f"Invalid value: '{each!s:.100}'. Supported values are: {supported}.", f"{param}[{index}]")
    return tuple(dict.fromkeys(value))


def endpoint_name(value: Any, param: str = "name") -> str:
    """An endpoint's name.

    Raises:
        BadRequest: it is none.
    """
    if value is None:
        _refuse(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_NAME or not value.isprintable():
        _refuse(f"Invalid '{param}': expected 1 to {_LONGEST_NAME} visible characters.", param)
    return value


def signing_secret(value: Any, param: str) -> str:
    """A secret to sign with: `whsec_` and base64, or any other text.

    Raises:
        BadRequest: it is none.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_SECRET:
        _refuse(f"Invalid '{param}': expected a string of at most {_LONGEST_SECRET} characters.", param)
    try:
        signing.key_of(value)
    except ValueError as error:  # also where a lone surrogate cannot be encoded
        _refuse(f"Invalid '{param}': {error}." if type(error) is ValueError else f"Invalid '{param}'.", param)
    return value


def headers(value: Any, param: str) -> dict[str, str]:
    """Headers that a receiver's gateway wants, such as `Authorization`; not those that we or the connection set.

    Raises:
        BadRequest: naming the header.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse(f"Invalid type for '{param}': expected an object of strings.", param, "invalid_type")
    if len({name.lower() for name in value}) < len(value) or len(value) > _MOST_HEADERS:
        _refuse(f"Invalid '{param}': expected at most {_MOST_HEADERS} headers, each once.", param)
    for name, text in value.items():
        _check_header(name, text, f"{param}.{name}"[:100])
    if sum(len(name) + len(text) for name, text in value.items()) > _MOST_HEADER_BYTES:
        _refuse(f"Invalid '{param}': more than {_MOST_HEADER_BYTES} bytes.", param)
    return value


def _check_header(name: str, text: Any, place: str) -> None:
    lower = name.lower()
    if not _HEADER.fullmatch(name):
        _refuse(f"Invalid '{place}': this is no name of a header.", place)
    if lower.startswith(_OURS) or lower in _OURS_OR_HOP_BY_HOP:
        _refuse(f"Unsupported parameter: '{place}' is set by this server.", place, "unsupported_parameter")
    if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
        _refuse(f"Invalid '{place}': expected a string of visible ASCII characters.", place)


def refuse_of_line(webhook: Webhook | None) -> None:
    """Raises BadRequest if a line of a batch brings a webhook: it is the batch that tells."""
    if webhook is not None:
        message = "Unsupported parameter: 'webhook' is not told of single lines; give it to the batch."
        _refuse(message, "webhook", "unsupported_parameter")


def _refuse(message: str, param: str, code: str = "invalid_value") -> NoReturn:
    raise BadRequest(message, param=param, code=code)
