"""What a request says about keeping its response."""

from typing import Any

import pytest

from jobs import ids
from jobs.admission import kept
from jobs.admission.kept import Kept
from jobs.admission.parameters import CHAT, INPUT_TOKENS, RESPONSES
from jobs.errors import BadRequest
from jobs.records import Flags

PREVIOUS = ids.new()
NAME = ids.response_id(PREVIOUS)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, Kept()),
        ({"background": None, "store": None, "previous_response_id": None}, Kept()),
        ({"background": False, "store": True}, Kept()),
        ({"background": True}, Kept(Flags.BACKGROUND)),
        ({"store": False}, Kept(Flags.UNSTORED)),
        ({"store": False, "previous_response_id": NAME}, Kept(Flags.UNSTORED, PREVIOUS)),
    ],
)
def test_what_is_said(body: dict[str, Any], said: Kept) -> None:
    assert kept.read(RESPONSES, body, line=False) == said


def test_other_endpoints_know_none_of_it() -> None:
    assert kept.read(CHAT, {"store": 1, "background": 1, "previous_response_id": 1}, line=False) == Kept()


def test_tokens_are_counted_of_a_whole_conversation() -> None:
    assert kept.read(INPUT_TOKENS, {"previous_response_id": NAME}, line=False) == Kept(previous=PREVIOUS)


@pytest.mark.parametrize(
    ("body", "line", "param", "code"),
    [
        ({"background": "yes"}, False, "background", "invalid_type"),
        ({"store": 0}, False, "store", "invalid_type"),
        ({"background": True, "store": False}, False, "background", "invalid_value"),
        ({"background": True}, True, "background", "unsupported_parameter"),
        ({"previous_response_id": 1}, False, "previous_response_id", "invalid_type"),
        ({"previous_response_id": "resp_1"}, False, "previous_response_id", "previous_response_not_found"),
        ({"previous_response_id": ids.job_id(PREVIOUS)}, False, "previous_response_id", "previous_response_not_found"),
    ],
)
def test_what_cannot_be_is_named(body: dict[str, Any], line: bool, param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        kept.read(RESPONSES, body, line)
    assert (caught.value.param, caught.value.code) == (param, code)
