"""What one receiver can take: deliveries to it wait in its lane, few at a time are under way, none while it is down."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from jobs.outbox import FEW, LEASE_SECONDS, MANY, Due

AT_ONCE: Final = 4
"""POSTs to one receiver at the same time."""
_FAILURES: Final = 4
"""In a row: as many as were under way when a receiver went down."""
_FIRST_PAUSE_SECONDS: Final = 10.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_SEND_SECONDS: Final = 20.0
"""What must be left of a claim when its delivery is sent: the longest POST, and the mark."""
_QUICK_SECONDS: Final = 1.0
_FORGET_SECONDS: Final = 60.0


class Lane:
    """The deliveries in hand for one receiver, and its circuit breaker. Times are of `time.monotonic`.

    After failures in a row nothing is sent for a pause, then one delivery alone shows whether the receiver is back.
    """

    def __init__(self) -> None:
        self.sending = 0
        self.quick = False
        """Whether it answered well and soon, the last time: then more is claimed for it at once."""
        self._waiting: deque[tuple[float, Due]] = deque()
        self._failures = 0
        self._pause = 0.0
        self._open_until = 0.0
        self._used_at = 0.0
        self._has_more = False

    def put(self, several: Sequence[Due], now: float) -> None:
        """What was claimed now. Where that was as much as was asked for, there may be more."""
        self._waiting.extend((now, due) for due in several)
        self._used_at = now
        self._has_more = len(several) >= FEW

    def take(self, now: float) -> Due | None:
        """The next delivery to send now, if there may be one. Those whose claim is almost over are left to run out."""
        while self._waiting and self.sending < self._room(now):
            claimed_at, due = self._waiting.popleft()
            if now - claimed_at < LEASE_SECONDS - _SEND_SECONDS:
                self.sending += 1
                return due
        return None

    def ended(self, now: float, seconds: float, well: bool, pause: float = 0.0) -> None:
        """A POST ended after `seconds`; `well` unless the receiver is in trouble, which asks for a `pause` at least."""
        self.sending -= 1
        self._used_at = now
        self.quick = well and seconds < _QUICK_SECONDS
        if well:
            self._failures, self._pause = 0, 0.0
            return
        self._failures += 1
        if (pause or self._failures >= _FAILURES) and now >= self._open_until:
            self._failures = max(self._failures, _FAILURES)
            self._pause = min(pause or max(self._pause * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            self._open_until = now + self._pause

    def empty(self) -> list[Due]:
        """What waits here, which then does not any more."""
        waiting = [due for _, due in self._waiting]
        self._waiting.clear()
        return waiting

    def closed_for(self, now: float) -> float:
        """For how many seconds nothing may be sent; 0 if something may."""
        return 0.0 if self._failures < _FAILURES else max(0.0, self._open_until - now)

    def is_full(self, now: float) -> bool:
        """Whether nothing more should be claimed for it now."""
        return not self._room(now) or self.sending + len(self._waiting) > (MANY if self.quick else FEW) // 2

    def wants_more(self, now: float) -> bool:
        """Whether to claim for it now, because there was more than it took. Says so once."""
        if not self._has_more or self.is_full(now):
            return False
        self._has_more = False
        return True

    def is_idle(self, now: float) -> bool:
        """Whether there is nothing to be remembered of it."""
        return not (self.sending or self._waiting) and now - max(self._used_at, self._open_until) > _FORGET_SECONDS

    def _room(self, now: float) -> int:
        if self._failures < _FAILURES:
            return AT_ONCE
        return 0 if self.closed_for(now) else 1
