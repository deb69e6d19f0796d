"""What every finding owes its reader."""

from longhaul.doctor.finding import Level, ok, trouble, warning


def test_only_what_is_not_well_says_what_to_do() -> None:
    assert (ok("a", "Well.").level, ok("a", "Well.").do) == (Level.OK, None)
    assert warning("a", "Odd.", "Look.").do == trouble("a", "Bad.", "Look.").do == "Look."
