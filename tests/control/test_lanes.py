"""What one receiver gets at once, and when it is left alone."""

from uuid import uuid4

from control.lanes import AT_ONCE, Lane
from jobs.outbox import LEASE_SECONDS, MANY, Due


def due() -> Due:
    return Due(uuid4(), 1, 0, 1, uuid4(), "job.completed", b"{}", 0, False, False, None)


def sent(lane: Lane, now: float) -> int:
    """How many deliveries it lets go now."""
    count = 0
    while lane.take(now):
        count += 1
    return count


def fail(lane: Lane, now: float, count: int = AT_ONCE) -> None:
    for _ in range(count):
        lane.ended(now, 15, well=False)


def down(now: float) -> Lane:
    """A lane whose receiver has just gone down, with nothing in hand."""
    lane = Lane()
    lane.put([due() for _ in range(AT_ONCE)], now)
    sent(lane, now)
    fail(lane, now)
    return lane


def test_four_go_at_once_and_one_more_for_each_that_ends() -> None:
    lane = Lane()
    lane.put([due() for _ in range(10)], 0)
    assert sent(lane, 0) == AT_ONCE
    lane.ended(1, 0.1, well=True)
    assert sent(lane, 1) == 1


def test_what_was_claimed_too_long_ago_is_left_to_others() -> None:
    lane = Lane()
    lane.put([due() for _ in range(5)], 0)
    assert sent(lane, LEASE_SECONDS / 2) == 0
    assert lane.empty() == []


def test_failures_in_a_row_leave_a_receiver_alone() -> None:
    lane = down(100)
    lane.put([due()], 100)
    assert sent(lane, 100) == 0
    assert lane.is_full(100) and lane.closed_for(100) == 10
    assert len(lane.empty()) == 1


def test_then_one_alone_shows_whether_it_is_back() -> None:
    lane = down(100)
    lane.put([due() for _ in range(5)], 110)
    assert sent(lane, 110) == 1
    lane.ended(111, 0.1, well=True)
    assert sent(lane, 111) == AT_ONCE


def test_the_pause_grows_to_a_minute() -> None:
    lane, now, pauses = down(100), 100.0, []
    for _ in range(5):
        pauses.append(lane.closed_for(now))
        now += pauses[-1]
        lane.put([due()], now)
        assert sent(lane, now) == 1
        fail(lane, now, 1)
    assert pauses == [10, 20, 40, 60, 60]


def test_those_that_were_under_way_when_it_closed_do_not_lengthen_the_pause() -> None:
    lane = Lane()
    lane.put([due() for _ in range(AT_ONCE)], 0)
    sent(lane, 0)
    lane.ended(1, 1, well=False, pause=5)
    fail(lane, 2, 3)
    assert lane.closed_for(2) == 4


def test_failures_with_successes_between_them_close_nothing() -> None:
    lane = Lane()
    for _ in range(10):
        lane.put([due() for _ in range(2)], 0)
        sent(lane, 0)
        lane.ended(0, 1, well=False)
        lane.ended(0, 1, well=True)
    assert lane.closed_for(0) == 0


def test_a_quick_receiver_has_more_claimed_for_it() -> None:
    lane = Lane()
    lane.put([due() for _ in range(8)], 0)
    assert lane.is_full(0) and not lane.wants_more(0)
    sent(lane, 0)
    lane.ended(0, 0.01, well=True)
    assert lane.quick and not lane.is_full(0)
    assert lane.wants_more(0) and not lane.wants_more(0)
    lane.put([due() for _ in range(MANY)], 0)
    assert lane.is_full(0)


def test_it_is_forgotten_when_there_is_nothing_to_remember() -> None:
    lane = down(100)
    assert not lane.is_idle(110) and not lane.is_idle(160)
    assert lane.is_idle(171)
