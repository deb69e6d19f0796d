"""The wire objects of webhooks: an endpoint, a test of it, a delivery with its attempts."""

from typing import Final

from api.objects import unix
from jobs import ids
from jobs.deliveries import Attempt, Delivery
from jobs.records import Json
from jobs.webhooks import Endpoint

_SUBJECTS: Final = {"batch": "batch_", "response": "resp_", "job": "job_"}
"""What the id begins with that an event is about, by the first word of its type."""


def endpoint(stored: Endpoint) -> Json:
    """The endpoint object: OpenAI's keys, and ours. Secrets and the values of headers are not among them."""
    return {
        "id": ids.endpoint_id(stored.id),
        "object": "webhook_endpoint",
        "created_at": unix(stored.created_at),
        "updated_at": unix(stored.updated_at),
        "name": stored.name,
        "url": stored.url,
        "event_types": stored.event_types,
        "signing_secret_hint": f"whsec_****{stored.secret_hint}",
        "header_names": stored.header_names,
        "disabled": stored.disabled_at is not None,
        "disabled_at": unix(stored.disabled_at),
        "disabled_reason": stored.disabled_reason,
        "failing_since": unix(stored.failing_since),
    }


def endpoint_with_secret(stored: Endpoint, secret: str) -> Json:
    """The endpoint object where its secret was just made: nothing else ever shows it."""
    return endpoint(stored) | {"signing_secret": secret}


def test_result(stored: Delivery, status_code: int) -> Json:
    """What a receiver answered to a test. `success` says that it answered at all, as OpenAI has it."""
    assert stored.endpoint_id is not None
    return {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": ids.endpoint_id(stored.endpoint_id),
        "event_type": stored.type,
        "status_code": status_code,
        "success": True,
    }


def delivery(stored: Delivery) -> Json:
    """The delivery object. `id` is the `webhook-id` that its receiver sees."""
    subject = _SUBJECTS[stored.type.partition(".")[0]] + stored.subject_id.hex
    return {
        "id": ids.delivery_id(stored.id),
        "object": "webhook_delivery",
        "created_at": unix(stored.created_at),
        "webhook_endpoint_id": None if stored.endpoint_id is None else ids.endpoint_id(stored.endpoint_id),
        "event": {"id": stored.event_id, "type": stored.type, "data": {"id": subject}},
        "test": stored.test,
        "status": stored.status,
        "next_attempt_at": unix(stored.next_at),
        "attempts": [_attempt(attempt) for attempt in stored.attempts],
    }


def _attempt(attempt: Attempt) -> Json:
    return {
        "attempted_at": unix(attempt.at),
        "status_code": attempt.status_code,
        "latency_ms": attempt.latency_ms,
        "error": attempt.error,
        "response_body": None if attempt.answer is None else attempt.answer.decode(errors="replace"),
    }
