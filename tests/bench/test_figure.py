"""A figure is the median of alternating pairs."""

from bench.figure import Figure, Goal, alternate, ratios, said


async def test_who_begins_changes_from_pair_to_pair() -> None:
    asked: list[str] = []

    async def measure(side: str) -> float:
        asked.append(side)
        return 1.0

    await alternate(3, lambda pair: measure(f"ours {pair}"), lambda pair: measure(f"theirs {pair}"))

    assert asked == ["ours 0", "theirs 0", "theirs 1", "ours 1", "ours 2", "theirs 2"]


def test_a_ratio_is_taken_pair_by_pair() -> None:
    figure = ratios("jobs", [(90, 100), (330, 300), (50, 40)], "/s", Goal(1.1))

    assert list(figure.judged) == [0.9, 1.1, 1.25]
    assert figure.median == 1.1
    assert (figure.ours, figure.theirs) == ("90.0/s", "100.0/s")


def test_the_median_decides_whether_a_goal_is_met() -> None:
    assert Figure("jobs", [1, 100, 100], "/s", Goal(100)).met
    assert not Figure("jobs", [1, 99, 1000], "/s", Goal(100)).met
    assert Figure("added", [7, 8, 900], "ms", Goal(8, at_most=True)).met
    assert not Figure("added", [1, 9, 9], "ms", Goal(8, at_most=True)).met


def test_values_are_said_with_as_many_digits_as_matter() -> None:
    assert [said(0.97345, "x"), said(3204.4, "/s"), said(48.26, "ms"), said(6.104, "ms")] == [
        "0.973x",
        "3,204/s",
        "48.3 ms",
        "6.10 ms",
    ]
