"""How many traces begin by themselves."""

from opentelemetry.sdk.trace.sampling import Decision

from jobs.trace_pace import Pace


class Asked:
    """A sampler on a clock of its own."""

    def __init__(self, a_second: float) -> None:
        self.now = 0.0
        self._pace = Pace(a_second, lambda: self.now)

    def recorded(self, requests: int) -> int:
        """How many of so many requests at one moment are."""
        decisions = [self._pace.should_sample(None, number, "any").decision for number in range(requests)]
        return decisions.count(Decision.RECORD_AND_SAMPLE)


def test_a_flood_is_recorded_at_its_pace() -> None:
    asked = Asked(20)
    assert asked.recorded(1000) == 20
    asked.now += 0.5
    assert asked.recorded(1000) == 10
    asked.now += 1
    assert asked.recorded(1000) == 20


def test_a_few_are_all_recorded() -> None:
    asked = Asked(20)
    for _ in range(100):
        asked.now += 0.06
        assert asked.recorded(1) == 1


def test_no_more_is_saved_than_a_second_is_worth() -> None:
    asked = Asked(20)
    asked.now += 3600
    assert asked.recorded(1000) == 20
