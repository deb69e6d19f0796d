"""How many requests a server gets at once, against servers that are made up: so many at once, so many seconds each."""

import pytest

from worker.engines.upstream.window import Adaptive, Fixed


class Queue:
    """A server that runs `capacity` requests at once and has the rest wait. The window is kept full."""

    def __init__(self, window: Adaptive, capacity: int, seconds: float = 1.0) -> None:
        self.window = window
        self.capacity = capacity
        self.seconds = seconds
        self.now = 0.0
        self._sent: list[float] = []

    def answer(self, count: int) -> None:
        """So many answers, one after the other."""
        for _ in range(count):
            while len(self._sent) < self.window.size:
                self._sent.append(self.now)
            self.now += self.seconds / min(self.capacity, len(self._sent))
            under_way = len(self._sent)
            self.window.answered(self._sent.pop(0), self.now, under_way)

    def refuse_beyond(self, limit: int, count: int) -> int:
        """The same for one that refuses what is beyond its limit; how many it refused."""
        refused = 0
        for _ in range(count):
            while len(self._sent) < self.window.size:
                self._sent.append(self.now)
            while len(self._sent) > limit:
                self.window.refused(self._sent.pop(), self.now)
                refused += 1
            self.answer(1)
        return refused


@pytest.mark.parametrize("capacity", [1, 4, 24, 100, 256])
def test_it_finds_what_a_server_runs_at_once(capacity: int) -> None:
    server = Queue(Adaptive(), capacity)
    server.answer(20_000)
    assert 0.9 * capacity <= server.window.size <= max(12, 2.5 * capacity)


def test_it_is_there_soon() -> None:
    server = Queue(Adaptive(), 256)
    server.answer(1500)
    assert server.window.size >= 200


def test_a_refusal_halves_it_once_for_all_that_was_sent_before() -> None:
    window = Adaptive()
    Queue(window, 64).answer(2000)
    before = window.size
    for _ in range(10):
        window.refused(sent_at=1e6, now=1e6 + 1)
    assert window.size == before // 2


def test_it_stays_near_the_limit_of_a_server_that_refuses() -> None:
    server = Queue(Adaptive(), 1000)
    refused = server.refuse_beyond(40, 20_000)
    assert 15 <= server.window.size <= 45
    assert refused < 2000


def test_a_server_that_becomes_slow_gets_less() -> None:
    server = Queue(Adaptive(), 64)
    server.answer(10_000)
    before = server.window.size
    server.capacity = 16
    server.answer(2_000)
    assert server.window.size < 0.6 * before


def test_longer_answers_are_no_overload_for_long() -> None:
    server = Queue(Adaptive(), 64)
    server.answer(10_000)
    server.seconds = 10.0
    server.answer(10_000)
    assert server.window.size >= 58


def test_what_leaves_it_half_empty_teaches_nothing() -> None:
    window = Adaptive()
    for second in range(1000):
        window.answered(second, second + 1, under_way=2)
    assert window.size == 8


def test_a_window_that_was_set_stays() -> None:
    window = Fixed(17)
    window.refused(0, 1)
    window.answered(0, 1, 17)
    assert window.size == 17
