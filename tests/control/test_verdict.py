"""What an answer means for a delivery."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from control import verdict
from control.egress import Answer, Undelivered
from jobs.deliveries import DeliveryStatus
from jobs.outbox import Due

NOW = datetime.now(UTC)
PENDING, SUCCEEDED, FAILED = DeliveryStatus


def due(attempts: int = 0, test: bool = False, final: bool = False) -> Due:
    return Due(uuid4(), 1, 0, 1, uuid4(), "job.completed", b"{}", attempts, test, False, None, "why", final)


def answer(status: int, retry_after: float | None = None) -> Answer:
    return Answer(status, retry_after, b"said", 0.012)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_success(status: int) -> None:
    mark = verdict.of_answer(due(), NOW, answer(status), 0)
    assert (mark.status, mark.status_code, mark.latency_ms, mark.answer) == (SUCCEEDED, status, 12, b"said")


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 503])
def test_everything_else_is_tried_again(status: int) -> None:
    mark = verdict.of_answer(due(), NOW, answer(status), 0)
    assert (mark.status, mark.delay, mark.status_code) == (PENDING, 5, status)
    assert mark.error == ("a redirect is not followed" if status < 400 else None)


def test_410_is_the_end() -> None:
    assert verdict.of_answer(due(), NOW, answer(410), 0).status is FAILED


def test_ten_attempts_are_made_in_three_days() -> None:
    pauses = []
    for attempts in range(10):
        mark = verdict.of_silence(due(attempts), NOW, Undelivered("no answer", 15), 0)
        assert (mark.error, mark.latency_ms) == ("no answer", 15_000)
        pauses.append(mark.delay if mark.status is PENDING else None)
    minute, hour = 60, 3600
    hours = [2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert pauses == [5, 5 * minute, 30 * minute, *hours, None]


def test_jitter_spreads_them() -> None:
    delays = {verdict.of_answer(due(), NOW, answer(500), 0.2).delay for _ in range(100)}
    assert len(delays) > 50 and 4 <= min(delays) < max(delays) <= 6


@pytest.mark.parametrize(("asked", "delay"), [(60, 60), (1, 5), (10**9, 86_400)])
def test_the_receivers_own_wish_is_honoured_within_reason(asked: float, delay: float) -> None:
    assert verdict.of_answer(due(), NOW, answer(429, asked), 0).delay == delay


def test_a_test_is_made_once() -> None:
    assert verdict.of_answer(due(test=True), NOW, answer(500), 0).status is FAILED
    assert verdict.of_silence(due(test=True), NOW, Undelivered("no answer", 1), 0).status is FAILED


def test_what_cannot_be_sent_is_given_up_only_where_nothing_can_change_that() -> None:
    assert verdict.of_nowhere(due(final=True), 0).status is FAILED
    mark = verdict.of_nowhere(due(), 0)
    assert (mark.status, mark.error, mark.latency_ms) == (PENDING, "why", None)


@pytest.mark.parametrize(("status", "trouble"), [(200, False), (404, False), (429, True), (500, True), (504, True)])
def test_a_receiver_is_in_trouble_when_it_says_so(status: int, trouble: bool) -> None:
    assert verdict.is_trouble(answer(status)) is trouble
