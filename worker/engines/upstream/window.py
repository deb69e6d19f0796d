"""How many requests a server gets at once: as many as were set, or as many as it turns out to be the better for."""

from typing import Final, Protocol

_FIRST: Final = 8
_MOST: Final = 1024
_FULL: Final = 0.75
"""A window that is less full than this says nothing about the server."""
_GAIN: Final = 1.1
"""Twice the requests at once have to bring a tenth more answers a second, else they only wait longer."""
_SLOWER: Final = 1.5
_REFUSED_CUT: Final = 0.5
_SLOWER_CUT: Final = 0.75
_SEARCH_CUT: Final = 0.25
_INSTANT: Final = 1e-6
_STEPS: Final = 16
"""In so many steps a window grows by what it was when it was last found right."""


class Window(Protocol):
    """What a server's answers are told to. Times are of one clock, in seconds."""

    @property
    def size(self) -> int:
        """How many requests may be under way, now."""
        ...

    def answered(self, sent_at: float, now: float, under_way: int) -> None:
        """A request that was sent then is answered; with it, so many were under way."""
        ...

    def refused(self, sent_at: float, now: float) -> None:
        """The server did not want a request that was sent then."""
        ...


class Fixed:
    """A window that somebody chose."""

    def __init__(self, size: int) -> None:
        self.size = size

    def answered(self, sent_at: float, now: float, under_way: int) -> None: ...

    def refused(self, sent_at: float, now: float) -> None: ...


class Adaptive:
    """Additive increase, multiplicative decrease (Chiu and Jain, 1989), a step for each full window of answers.

    It begins small and doubles, as TCP does (RFC 5681), while that brings more answers a second. From then on it grows
    by little steps, and is cut where the server refuses (429, 503) or where answers take half again as long as when it
    was found right. If they do so although it has not grown since, the server is slower or the answers are longer: it
    is made small and doubles again, since nobody can tell one from the other without trying.
    """

    def __init__(self) -> None:
        self._size = float(_FIRST)
        self._since = -float("inf")
        self._seconds = 0.0
        self._answers = 0
        self._searching = True
        self._last: tuple[float, float] | None = None
        """While searching: the window before the last doubling, and the seconds that an answer took."""
        self._right: tuple[float, float] | None = None
        """Afterwards: the window that was found right, and the seconds that an answer took."""

    @property
    def size(self) -> int:
        return max(1, int(self._size))

    def answered(self, sent_at: float, now: float, under_way: int) -> None:
        if under_way < _FULL * self._size or sent_at < self._since:
            return
        self._seconds += now - sent_at
        self._answers += 1
        if self._answers < self._size:
            return
        took = self._seconds / self._answers
        self._seconds, self._answers = 0.0, 0
        if self._searching:
            self._double(took, now)
        else:
            self._creep(took, now)

    def refused(self, sent_at: float, now: float) -> None:
        if sent_at >= self._since:  # what was sent to a larger window says nothing about this one
            self._searching, self._right = False, None
            self._change(max(1.0, self._size * _REFUSED_CUT), now)

    def _double(self, took: float, now: float) -> None:
        """A full window whose answers take so long brings size / took answers a second (Little's law)."""
        took = max(took, _INSTANT)
        if self._last and self._size / took < _GAIN * self._last[0] / self._last[1]:
            self._searching, self._right = False, self._last
            self._change(self._last[0], now)
        elif self._size >= _MOST:
            self._searching, self._right = False, (self._size, took)
        else:
            self._last = self._size, took
            self._change(min(_MOST, self._size * 2), now)

    def _creep(self, took: float, now: float) -> None:
        right, usual = self._right or (self._size, took)
        if took > _SLOWER * usual and self._size > right:
            self._change(max(right, self._size * _SLOWER_CUT), now)
        elif took > _SLOWER * usual:
            self._searching, self._last = True, None
            self._change(max(1.0, self._size * _SEARCH_CUT), now)
        else:
            if self._right is None or (self._size >= right and took < usual):
                self._right = self._size, took
            self._size = min(_MOST, self._size + max(1.0, self._right[0] / _STEPS))

    def _change(self, size: float, now: float) -> None:
        self._size, self._since = size, now
        self._seconds, self._answers = 0.0, 0
