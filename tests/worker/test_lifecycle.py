"""What an engine's stream says of the response itself, as OpenAI would have said it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from jobs import ids, response_events, response_object
from jobs.records import Flags, Json
from tests.worker.test_assemble import JOB
from worker.lifecycle import Lifecycle

PLAIN = replace(JOB, id=ids.new(), endpoint="/v1/responses", body=b'{"model":"m","input":"hi","stream":true}')
BACKGROUND = replace(PLAIN, flags=Flags.BACKGROUND)
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":4}\n\n'


def said(kind: str, number: int, **response: Any) -> bytes:
    """What vLLM says."""
    data = {"response": {"id": "x", "text": None, **response}, "sequence_number": number, "type": f"response.{kind}"}
    return b"event: response.%s\ndata: %s\n\n" % (kind.encode(), json.dumps(data).encode())


def data(event: bytes) -> Json:
    name, _, content = event.partition(b"\n")
    found: Json = json.loads(content.removeprefix(b"data: "))
    assert name == b"event: " + found["type"].encode()
    return found


def test_a_response_is_created_and_runs() -> None:
    begun = response_object.of_job(PLAIN) | {"status": "in_progress"}
    for number, kind in enumerate(("created", "in_progress")):
        [event] = Lifecycle(PLAIN).edit(said(kind, number))
        assert data(event) == {"type": f"response.{kind}", "sequence_number": number, "response": begun}


def test_a_response_in_the_background_is_queued_in_between() -> None:
    events = Lifecycle(BACKGROUND).edit(said("created", 0))
    begun = response_object.of_job(BACKGROUND)
    assert events == response_events.opening(begun)
    assert [(data(event)["type"], data(event)["response"]["status"]) for event in events] == [
        ("response.created", "queued"),
        ("response.queued", "queued"),
    ]


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_the_end_is_told_as_what_it_is(status: str) -> None:
    answer = {"status": status, "output": [{"type": "message"}], "usage": {"output_tokens": 1}}
    [event] = Lifecycle(PLAIN).edit(said("completed", 7, **answer))
    told = data(event)
    assert (told["type"], told["sequence_number"]) == (f"response.{status}", 7)
    assert {name: told["response"][name] for name in answer} == answer
    assert told["response"]["id"] == ids.response_id(PLAIN.id)
    assert told["response"]["text"] == {"format": {"type": "text"}}


def test_everything_else_is_the_engines_own() -> None:
    assert Lifecycle(BACKGROUND).edit(DELTA) == [DELTA]


def test_events_without_numbers_are_numbered_in_their_order() -> None:
    lifecycle = Lifecycle(PLAIN)
    bare = DELTA.replace(b',"sequence_number":4', b"")
    ended = said("completed", 0, status="completed").replace(b', "sequence_number": 0', b"")
    told = [lifecycle.edit(event) for event in (said("created", 0), said("in_progress", 1), bare, bare, ended)]
    assert [data(event)["sequence_number"] for [event] in told] == [0, 1, 2, 3, 4]
