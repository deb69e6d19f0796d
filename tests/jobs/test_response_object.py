"""The object of a response: OpenAI's fields, from its first moment to its end."""

from typing import Any
from uuid import UUID

import pytest
from openai.types.responses import Response

from jobs import ids, response_object
from jobs.records import Flags, Json

ID = ids.new()
PREVIOUS = ids.new()
WITHOUT_A_VALUE = {
    "completed_at",
    "error",
    "incomplete_details",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt",
    "prompt_cache_key",
    "safety_identifier",
    "usage",
    "user",
}
"""The fields that are null at OpenAI too, of a queued response to a request that says nothing."""


def begun(
    service_tier: str | None = None, flags: Flags = Flags.NONE, previous: UUID | None = None, **said: Any
) -> Json:
    return response_object.begun(ID, {"model": "m", "input": "hi", **said}, "known", service_tier, flags, previous)


def test_nothing_is_null_that_has_a_value_at_openai() -> None:
    assert {name for name, value in begun().items() if value is None} == WITHOUT_A_VALUE


def test_a_queued_response_is_one_to_the_sdk() -> None:
    response = Response.model_validate(begun(tools=[{"type": "function", "name": "f"}]), strict=True)
    assert (response.id, response.status, response.output) == (f"resp_{ID.hex}", "queued", [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instructions", "be short"),
        ("max_output_tokens", 4),
        ("metadata", {"a": "b"}),
        ("parallel_tool_calls", False),
        ("temperature", 0),
        ("tool_choice", "required"),
        ("tools", [{"type": "function", "name": "f"}]),
        ("top_p", 0.5),
        ("top_logprobs", 2),
        ("truncation", "auto"),
        ("user", "me"),
    ],
)
def test_what_the_request_said_is_echoed_and_null_is_nothing_said(name: str, value: Any) -> None:
    said: Json = {name: value}
    assert begun(**said)[name] == value
    said[name] = None
    assert begun(**said) == begun()


def test_of_an_object_what_was_not_said_is_filled_in() -> None:
    assert begun(text={"verbosity": "low"})["text"] == {"format": {"type": "text"}, "verbosity": "low"}
    assert begun(reasoning={"effort": "low"})["reasoning"] == {"effort": "low", "summary": None}


def test_ours_are_the_place_the_keeping_and_the_tier() -> None:
    response = begun("fast", Flags.BACKGROUND, PREVIOUS)
    assert (response["background"], response["store"], response["service_tier"]) == (True, True, "priority")
    assert response["previous_response_id"] == f"resp_{PREVIOUS.hex}"
    assert not begun(flags=Flags.UNSTORED)["store"]
    assert response["created_at"] == int(ids.seconds(ID))


def test_a_model_that_was_not_named_is_the_one_that_was_found() -> None:
    assert begun(model=None)["model"] == "known"


def test_an_answer_has_the_same_fields_and_what_the_engine_found() -> None:
    usage = {"input_tokens": 1, "output_tokens": 2}
    answer = {"id": "x", "status": "completed", "output": [{}], "temperature": 0.7, "usage": usage, "model": "primary"}
    echoes = {"background": False, "store": None, "tool_choice": "none", "text": None, "max_output_tokens": 2047}
    response = response_object.answered(begun(flags=Flags.BACKGROUND), answer | echoes | {"metrics": {"a": 1}})
    assert response.keys() == begun().keys() | {"metrics"}
    assert {name: response[name] for name in answer} == answer | {"id": f"resp_{ID.hex}"}
    assert (response["background"], response["store"], response["tool_choice"]) == (True, True, "auto")
    assert (response["text"], response["max_output_tokens"]) == ({"format": {"type": "text"}}, None)
    assert response["completed_at"] >= response["created_at"]


def test_only_what_is_complete_was_completed_at_some_time() -> None:
    cut = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    response = response_object.answered(begun(), cut)
    assert (response["status"], response["completed_at"]) == ("incomplete", None)
    assert response["incomplete_details"] == cut["incomplete_details"]


def test_a_failure_says_why() -> None:
    response = response_object.failed(begun(), "server_error", "It ran too long.")
    assert response == begun() | {
        "status": "failed",
        "error": {"code": "server_error", "message": "It ran too long."},
    }
