"""What an attempt to deliver a webhook means: taken, tried again after a pause, or given up."""

import random
from datetime import UTC, datetime
from typing import Final

from control.egress import Answer, Undelivered
from jobs.deliveries import DeliveryStatus
from jobs.outbox import Due, Mark

PAUSES: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds before the second attempt, the third, and so on to the tenth and last: the schedule of Standard Webhooks."""
_LONGEST_PAUSE_SECONDS: Final = 86_400.0
_GONE: Final = 410
_TROUBLE: Final = frozenset({429, 502, 503, 504})


def of_answer(due: Due, began: datetime, answer: Answer, jitter: float) -> Mark:
    """2xx is success and 410 the end; whatever else is tried again, not before the receiver's `Retry-After`."""
    latency = round(answer.seconds * 1000)
    if 200 <= answer.status < 300:
        return Mark(due, DeliveryStatus.SUCCEEDED, 0, began, latency, answer.status, None, answer.body)
    error = "a redirect is not followed" if 300 <= answer.status < 400 else None
    status, delay = _again(due, jitter, answer.retry_after or 0)
    if answer.status == _GONE:
        status = DeliveryStatus.FAILED
    return Mark(due, status, delay, began, latency, answer.status, error, answer.body)


def of_silence(due: Due, began: datetime, silence: Undelivered, jitter: float) -> Mark:
    """No answer: it is tried again."""
    status, delay = _again(due, jitter)
    return Mark(due, status, delay, began, round(silence.seconds * 1000), error=silence.reason)


def of_nowhere(due: Due, jitter: float) -> Mark:
    """A delivery that cannot be sent at all, by what is stored of its receiver."""
    status, delay = _again(due, jitter)
    if due.final:
        status = DeliveryStatus.FAILED
    return Mark(due, status, delay, datetime.now(UTC), error=due.reason)


def put_off(due: Due, seconds: float) -> Mark:
    """Nothing was tried: its receiver is down."""
    return Mark(due, DeliveryStatus.PENDING, seconds)


def is_trouble(answer: Answer) -> bool:
    """Whether the receiver as a whole is in trouble, rather than at odds with one delivery."""
    return answer.status in _TROUBLE or answer.status >= 500


def _again(due: Due, jitter: float, at_least: float = 0) -> tuple[DeliveryStatus, float]:
    if due.test or due.attempts >= len(PAUSES):
        return DeliveryStatus.FAILED, 0
    pause = PAUSES[due.attempts] * random.uniform(1 - jitter, 1 + jitter)
    return DeliveryStatus.PENDING, min(max(pause, at_least), _LONGEST_PAUSE_SECONDS * (1 + jitter))
