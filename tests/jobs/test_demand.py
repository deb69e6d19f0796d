"""How many workers would make every window."""

import pytest

from jobs import demand
from jobs.demand import rate, workers_wanted
from jobs.records import Tier


def test_what_is_due_sooner_is_done_first_and_the_tightest_window_sets_the_pace() -> None:
    assert rate([(100, 1000)]) == 10
    assert rate([(100, 1000), (1000, 1000)]) == 10
    assert rate([(100, 1000), (200, 4000)]) == 25


def test_the_order_in_which_it_is_told_is_no_matter() -> None:
    assert rate([(200, 4000), (100, 1000)]) == rate([(100, 1000), (200, 4000)])


@pytest.mark.parametrize("seconds", [59, 0, -3600])
def test_a_window_that_is_over_asks_for_no_more_than_one_that_ends_in_a_minute(seconds: float) -> None:
    assert rate([(seconds, 600)]) == 10


def test_nothing_due_needs_no_pace() -> None:
    assert rate([]) == 0


@pytest.mark.parametrize(("tokens_per_second", "workers"), [(0, 1), (99, 1), (100, 1), (110, 2), (1000, 10)])
def test_so_many_workers_make_a_pace(tokens_per_second: float, workers: int) -> None:
    assert workers_wanted(tokens_per_second, 100, serving=1, busy=True) == workers


def test_a_hair_over_a_whole_worker_is_no_worker() -> None:
    assert workers_wanted(301, 100, serving=1, busy=True) == 3


def test_none_is_wanted_where_nothing_waits_or_runs() -> None:
    assert workers_wanted(0, 100, serving=5, busy=False) == 0


def test_the_first_job_of_all_wants_one_worker() -> None:
    assert workers_wanted(1e9, 0, serving=0, busy=True) == 1


def test_while_a_workers_speed_is_unknown_those_that_serve_are_kept() -> None:
    assert workers_wanted(1e9, 0, serving=3, busy=True) == 3


def test_every_tier_has_a_window() -> None:
    assert demand.WINDOWS.keys() == set(Tier)
