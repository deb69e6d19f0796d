"""One run of a stream: what is said of it, what is held back, and what it comes to."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from jobs import streams
from jobs.admission.parameters import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from jobs.records import ClaimedJob, Flags, Outcome, Usage
from jobs.states import Status
from tests.worker.test_assemble import JOB
from worker.stream import Stream, hides_usage

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Ear:
    """A channel that publishes to nobody: what was said, in order."""

    def __init__(self, first: int = 0) -> None:
        self.run, self.first, self.count, self.tokens = 1, first, first, 0
        self.said: list[bytes] = []
        self.ended = False

    def append(self, event: bytes, tokens: int = 0) -> None:
        self.said.append(event)
        self.count += 1
        self.tokens += tokens

    def end(self) -> None:
        self.ended = True


def job(endpoint: str = CHAT, body: bytes = b'{"stream":true}', **fields: Any) -> ClaimedJob:
    return replace(JOB, endpoint=endpoint, body=body, flags=Flags.STREAMS, **fields)


def event(data: Any, name: str = "") -> bytes:
    head = b"event: %s\n" % name.encode() if name else b""
    return head + b"data: %s\n\n" % json.dumps(data, separators=(",", ":")).encode()


def chunk(delta: Any, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return event({"id": "x", "created": 1, "model": "m", "choices": [choice], **more})


ROLE = chunk({"role": "assistant", "content": ""})
HELLO = [ROLE, chunk({"content": "he"}), chunk({"content": "llo"}, "stop")]


def usage_chunk(**more: Any) -> bytes:
    return event({"id": "x", "created": 1, "model": "m", "choices": [], "usage": USAGE, **more})


def run(asked: ClaimedJob, chunks: Sequence[bytes], ear: Ear | None = None) -> tuple[Ear, Outcome]:
    """Feed a whole response and close it with what it comes to."""
    ear = ear or Ear()
    stream = Stream(asked, ear)  # type: ignore[arg-type]
    for each in chunks:
        stream.feed(each)
    return ear, stream.close(stream.outcome())


@pytest.mark.parametrize("blank", [b"", b" "])
def test_blanks_are_any_servers_own_choice(blank: bytes) -> None:
    chunks = [
        part.replace(b"data: ", b"data:" + blank).replace(b'":', b'":' + blank) for part in (*HELLO, usage_chunk())
    ]
    ear, outcome = run(job(), [*chunks, b"data:" + blank + b"[DONE]\n\n"])
    assert [json.loads(said[6:])["choices"] for said in ear.said[:-1]] == [json.loads(c[6:])["choices"] for c in HELLO]
    assert ear.said[-1] == DONE
    assert (outcome.status, outcome.usage) == (Status.COMPLETED, Usage(3, 0, 2, 0))


def test_every_event_is_said_as_the_engine_said_it() -> None:
    asked = job(body=b'{"stream_options":{"include_usage":true}}')
    ear, outcome = run(asked, [*HELLO, usage_chunk(), DONE])
    assert ear.said == [*HELLO, usage_chunk(), DONE]
    assert ear.ended
    assert (outcome.status, outcome.status_code) == (Status.COMPLETED, 200)
    assert outcome.usage == Usage(input=3, output=2)
    assert json.loads(outcome.body or b"")["choices"][0]["message"]["content"] == "hello"


def test_the_log_has_what_was_said() -> None:
    ear, outcome = run(job(), [*HELLO, DONE], Ear(first=7))
    assert outcome.log is not None
    assert (outcome.log.run, outcome.log.first) == (1, 7)
    assert b"".join(streams.unpack(outcome.log.body)) == b"".join(ear.said)


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_a_usage_that_only_we_asked_for_is_kept_for_the_result(endpoint: str) -> None:
    text = event({"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "text": "a", "finish_reason": "x"}]})
    events = HELLO if endpoint == CHAT else [text]
    ear, outcome = run(job(endpoint), [*events, usage_chunk(), DONE])
    assert ear.said == [*events, DONE]
    assert outcome.usage == Usage(input=3, output=2)


def test_the_fingerprint_that_came_with_it_is_where_it_would_have_been() -> None:
    ear, _ = run(job(), [*HELLO, usage_chunk(system_fingerprint="fp"), DONE])
    assert ear.said == [*HELLO[:-1], chunk({"content": "llo"}, "stop", system_fingerprint="fp"), DONE]


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        (b'{"stream":true}', True),
        (b'{"stream_options":{"include_usage":true}}', False),
        (b'{"stream_options":{"include_usage":false}}', True),
        (b'{"stream_options":null,"prompt":"\\"include_usage\\""}', True),
    ],
)
def test_usage_is_hidden_from_who_did_not_ask_for_it(body: bytes, hidden: bool) -> None:
    assert hides_usage(job(body=body)) is hidden
    assert not hides_usage(job(MESSAGES, body=body))


def test_the_end_is_said_last_and_with_the_end() -> None:
    ear = Ear()
    stream = Stream(job(), ear)  # type: ignore[arg-type]
    for each in (*HELLO, usage_chunk(), DONE):
        stream.feed(each)
    assert ear.said == HELLO
    assert not ear.ended
    stream.close(stream.outcome())
    assert ear.said == [*HELLO, DONE]


def test_tokens_are_counted_as_they_come() -> None:
    ear, _ = run(job(), [*HELLO, usage_chunk(), DONE])
    assert ear.tokens == 2


def test_a_chunk_may_be_any_part_of_the_body() -> None:
    whole = b"".join([*HELLO, b": keep-alive\n\n", DONE]).replace(b"\n\n", b"\r\n\r\n")
    ear, outcome = run(job(), [whole[start : start + 7] for start in range(0, len(whole), 7)])
    assert ear.said == [*HELLO, DONE]
    assert outcome.status is Status.COMPLETED


@pytest.mark.parametrize(("reason", "told"), [("abort", "length"), ("repetition", "stop")])
def test_finish_reasons_that_openai_does_not_know_are_mapped(reason: str, told: str) -> None:
    ear, outcome = run(job(), [ROLE, chunk({"content": "a"}, reason), DONE])
    choice = json.loads(ear.said[1][6:])["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == (told, reason)
    assert json.loads(outcome.body or b"")["choices"][0]["finish_reason"] == told


def test_a_service_tier_that_was_asked_for_is_in_every_chunk_and_the_result() -> None:
    ear, outcome = run(job(service_tier="auto"), [*HELLO, DONE])
    assert [json.loads(each[6:])["service_tier"] for each in ear.said[:-1]] == ["default"] * 3
    assert json.loads(outcome.body or b"")["service_tier"] == "default"


def test_an_error_in_the_middle_ends_the_stream_in_openais_form() -> None:
    error = event({"error": {"message": "broke", "type": "InternalServerError", "param": None, "code": 500}})
    ear, outcome = run(job(), [*HELLO[:2], error, DONE])
    envelope = {"error": {"message": "broke", "type": "server_error", "param": None, "code": "server_error"}}
    assert ear.said == [*HELLO[:2], event(envelope), DONE]
    assert (outcome.status, outcome.status_code, json.loads(outcome.body or b"")) == (Status.FAILED, 500, envelope)


def test_an_error_before_the_first_event_is_no_streams() -> None:
    error = event({"error": {"message": "no", "type": "BadRequestError", "param": None, "code": 400}})
    ear, outcome = run(job(), [error, DONE])
    assert (ear.said, ear.ended, outcome.log) == ([], False, None)
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 400)


@pytest.mark.parametrize(
    ("endpoint", "first", "last"),
    [
        (CHAT, ROLE, [b'data: {"error":', DONE]),
        (COMPLETIONS, ROLE, [b'data: {"error":', DONE]),
        (MESSAGES, event({"type": "message_start", "message": {}}, "message_start"), [b'event: error\ndata: {"type"']),
        (RESPONSES, event({"type": "response.created"}, "response.created"), [b'event: error\ndata: {"type"']),
    ],
)
def test_a_run_that_ended_otherwise_tells_why(endpoint: str, first: bytes, last: list[bytes]) -> None:
    ear = Ear()
    stream = Stream(job(endpoint), ear)  # type: ignore[arg-type]
    stream.feed(first)
    late = Outcome(Status.FAILED, error_code="request_timeout", error_message="It took too long.")
    assert stream.close(late).error_code == "request_timeout"
    assert len(ear.said) == 1 + len(last)
    assert all(said.startswith(start) for said, start in zip(ear.said[1:], last, strict=True))
    assert b"It took too long." in ear.said[1]
    assert ear.ended


def test_the_numbers_of_a_response_go_on_where_the_lost_run_ended() -> None:
    ear, outcome = run(
        job(RESPONSES),
        [
            event({"type": "response.created", "sequence_number": 0}, "response.created"),
            event({"type": "response.completed", "response": {"id": "r"}, "sequence_number": 1}, "response.completed"),
        ],
        Ear(first=40),
    )
    assert [json.loads(said.partition(b"data: ")[2])["sequence_number"] for said in ear.said] == [40, 41]
    assert json.loads(outcome.body or b"")["status"] == "completed"


def test_a_stream_of_nothing_is_a_failure() -> None:
    ear, outcome = run(job(), [DONE])
    assert ear.said == []
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 500)
