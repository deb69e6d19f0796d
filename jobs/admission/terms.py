"""What a submit says beside its inference: tier, metadata, expiry, time limit, webhook, idempotency key."""

from dataclasses import dataclass
from typing import Any, Final

from jobs import events
from jobs.admission import parameters, webhook
from jobs.admission.webhook import Webhook
from jobs.errors import BadRequest
from jobs.records import Json, Tier
from jobs.webhook_url import Reach

_LONGEST_KEY: Final = 255
_MOST_METADATA: Final = 16
_LONGEST_NAME: Final = 64
_LONGEST_TEXT: Final = 512
_LONGEST_EXPIRY_SECONDS: Final = 30 * 86_400
_LONGEST_TIMEOUT_SECONDS: Final = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Terms:
    """Checked. Seconds are whole; None means that the client said nothing."""

    tier: Tier = Tier.DEFAULT
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    expires_after: int | None = None
    timeout: int | None = None
    webhook: Webhook | None = None


_EVENTS: Final = (*events.JOB, events.STARTED, *events.RESPONSE)
_NOTHING: Final = Terms()
_NAMES: Final = frozenset({"service_tier", "metadata", "expires_after", "timeout", "webhook"})


def read(fields: Json, reach: Reach) -> Terms:
    """The terms among the fields of a body or of an item of `POST /v1/jobs`; `reach` says where webhooks may go.

    Raises:
        BadRequest: naming the field.
    """
    if _NAMES.isdisjoint(fields):
        return _NOTHING
    service_tier = fields.get("service_tier")
    return Terms(
        tier=parameters.tier(service_tier),
        service_tier=service_tier,
        metadata=_metadata(fields.get("metadata")),
        expires_after=_seconds("expires_after", fields.get("expires_after"), _LONGEST_EXPIRY_SECONDS),
        timeout=_seconds("timeout", fields.get("timeout"), _LONGEST_TIMEOUT_SECONDS),
        webhook=webhook.read(fields.get("webhook"), reach, "webhook", _EVENTS, events.JOB),
    )


def idempotency_key(value: Any, param: str = "idempotency_key") -> str | None:
    """A key of 1 to 255 characters, or None where there is none.

    Raises:
        BadRequest: it is too long, empty, or cannot be stored.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_KEY:
        raise BadRequest(
            f"Invalid '{param}': expected a string of 1 to {_LONGEST_KEY} characters.",
            param=param,
            code="invalid_value",
        )
    return storable(value, param)


def storable(value: str, param: str) -> str:
    """The same text, if the database can hold it as text.

    Raises:
        BadRequest: it has NUL or a lone surrogate.
    """
    if "\0" in value or not (value.isascii() or _encodes(value)):
        message = f"Invalid '{param}': the characters U+0000 and lone surrogates cannot be stored."
        raise BadRequest(message, param=param, code="invalid_value")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _seconds(name: str, value: Any, longest: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        message = f"Invalid type for '{name}': expected a whole number of seconds."
        raise BadRequest(message, param=name, code="invalid_type")
    if not 1 <= value <= longest:
        message = f"Invalid '{name}': expected 1 to {longest} seconds, but got {value}."
        code = "integer_below_min_value" if value < 1 else "integer_above_max_value"
        raise BadRequest(message, param=name, code=code)
    return value


def _metadata(value: Any) -> dict[str, str] | None:
    """At most 16 pairs of strings, as OpenAI has it."""
    if value is None:
        return None
    if not isinstance(value, dict):
        message = "Invalid type for 'metadata': expected an object."
        raise BadRequest(message, param="metadata", code="invalid_type")
    if len(value) > _MOST_METADATA:
        message = f"Invalid 'metadata': too many properties. Expected at most {_MOST_METADATA}, but got {len(value)}."
        raise BadRequest(message, param="metadata", code="object_above_max_properties")
    for name, text in value.items():
        storable(name, "metadata")
        place = f"metadata.{name}"
        if not isinstance(text, str):
            raise BadRequest(f"Invalid type for '{place}': expected a string.", param=place, code="invalid_type")
        if len(name) > _LONGEST_NAME or len(text) > _LONGEST_TEXT:
            message = f"Invalid '{place[:100]}': names have at most {_LONGEST_NAME} characters, values {_LONGEST_TEXT}."
            raise BadRequest(message, param=place[:100], code="string_above_max_length")
        storable(text, place)
    return value
