"""The items of a conversation, as engines get them and as lists show them."""

from typing import Any

import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from jobs import ids, payload, response_items
from jobs.records import Json

ID = ids.new()
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}


def listed(*items: Any) -> list[Json]:
    return response_items.listed(ID, items)


def without_id(item: Json) -> Json:
    return {name: value for name, value in item.items() if name != "id"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hi", [{"role": "user", "content": "hi"}]),
        ([{"role": "user", "content": "hi"}, CALL], [{"role": "user", "content": "hi"}, CALL]),
        (None, []),
    ],
)
def test_what_a_request_said_is_a_list_of_what_it_brought(given: Any, said: list[Any]) -> None:
    assert response_items.said({"input": given}) == said


@pytest.mark.parametrize(
    ("body", "items"), [(b'{"output":[{"id":"msg_1"}]}', [{"id": "msg_1"}]), (b"null", []), (b"{}", []), (None, [])]
)
def test_what_was_answered_is_the_output_if_there_is_one(body: bytes | None, items: list[Any]) -> None:
    assert response_items.output(body) == items


def test_a_text_is_a_users_message() -> None:
    [item] = listed(*response_items.said({"input": "hi"}))
    assert without_id(item) == {
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}],
    }


@pytest.mark.parametrize(
    ("item", "prefix"),
    [
        ({"role": "user", "content": "hi"}, "msg"),
        ({"role": "developer", "content": [{"type": "input_text", "text": "x"}]}, "msg"),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}, "msg"),
        ({"role": "assistant", "content": "hello"}, "msg"),
        ({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}, "msg"),
        (CALL, "fc"),
        (CALL | {"id": None, "status": None}, "fc"),
        ({"type": "function_call_output", "call_id": "c", "output": "3"}, "fco"),
        ({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}]}, "rs"),
    ],
)
def test_every_item_is_one_to_the_sdk_and_has_an_id_that_stays(item: Json, prefix: str) -> None:
    [full] = listed(item)
    TypeAdapter(ResponseItem).validate_python(full, strict=True)
    assert full["id"].startswith(f"{prefix}_")
    assert listed(item) == [full]
    assert listed({}, item)[1]["id"] != full["id"]


def test_an_item_keeps_the_id_and_the_status_that_it_came_with() -> None:
    [item] = listed(CALL | {"id": "fc_mine", "status": "incomplete"})
    assert (item["id"], item["status"]) == ("fc_mine", "incomplete")


def test_what_was_begun_is_put_together_from_events_as_far_as_they_are_there() -> None:
    call = {"id": "fc_1", "type": "function_call", "status": "in_progress", "name": "f", "arguments": ""}
    ended = {"id": "rs_1", "type": "reasoning", "summary": []}
    events: list[Json] = [
        {
            "type": "response.output_text.delta",
            "output_index": 0,
            "content_index": 0,
            "delta": "whose beginning is lost",
        },
        {"type": "response.output_item.added", "output_index": 1, "item": ended},
        {"type": "response.output_item.done", "output_index": 1, "item": ended},
        {"type": "response.output_item.added", "output_index": 2, "item": call},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "1"},
    ]
    said = [b"event: %s\ndata: %s\n\n" % (event["type"].encode(), payload.write(event)) for event in events]
    assert response_items.begun(said) == [ended, call | {"status": "incomplete", "arguments": '{"a":1'}]
