"""The Prefer header, as clients and RFC 7240's own examples spell it."""

import pytest

from api.prefer import Preference, parse

ASYNC = Preference(respond_async=True)


@pytest.mark.parametrize(
    ("headers", "preference"),
    [
        ([], Preference()),
        ([""], Preference()),
        (["return=minimal"], Preference()),
        (["respond-async"], ASYNC),
        (["Respond-Async"], ASYNC),
        (["respond-async, wait=20"], Preference(True, 20)),
        (["respond-async,wait=0"], Preference(True, 0)),
        (['respond-async, wait="20"'], Preference(True, 20)),
        (["wait = 20 , respond-async"], Preference(True, 20)),
        (["respond-async", "wait=20"], Preference(True, 20)),
        (["respond-async; foo=bar, wait=20; a; b"], Preference(True, 20)),
        (['foo="respond-async, wait=3"'], Preference()),
        (['foo="a\\"b"; bar, respond-async'], ASYNC),
        (["wait=5, respond-async, wait=9"], Preference(True, 5)),
        (["respond-async, wait=soon"], ASYNC),
        (["respond-async, wait=-1"], ASYNC),
        (["respond-async, wait=1.5"], ASYNC),
        (["respond-async, wait=99999"], Preference(True, 600)),
        (["wait=20"], Preference()),
        ([",,;=, respond-async,"], ASYNC),
    ],
)
def test_preferences_are_read_as_rfc_7240_spells_them(headers: list[str], preference: Preference) -> None:
    assert parse(headers, longest_wait=600) == preference


def test_what_was_applied_is_said_in_the_same_words() -> None:
    assert ASYNC.applied == "respond-async"
    assert Preference(True, 20).applied == "respond-async, wait=20"


@pytest.mark.parametrize("text", ['"', "\\", ';"', "a=;", '"\\'])
def test_a_hostile_header_is_read_in_no_time(text: str) -> None:
    assert parse([text * 30_000], longest_wait=600) == Preference()
