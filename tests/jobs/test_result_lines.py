"""Lines of result files: OpenAI's four keys, whatever became of the request."""

import json
from typing import Any
from uuid import UUID

import pytest

from jobs import ids, result_lines
from jobs.records import Json, Line, Usage
from jobs.states import BatchStatus, Status

BATCH = ids.new()
JOB = ids.new()
BATCH_CANCELLED = {"code": "batch_cancelled", "message": "This request was not executed: its batch was cancelled."}
BATCH_EXPIRED = {
    "code": "batch_expired",
    "message": "This request could not be executed before the completion window expired.",
}


def line(**fields: Any) -> Line:
    plain: Json = {
        "line": 7,
        "custom_id": "a",
        "job_id": JOB,
        "ended": 1,
        "status": Status.COMPLETED,
        "ending": BatchStatus.COMPLETED,
        "copy_of": None,
        "status_code": 200,
        "body": b'{"id":"x"}',
        "error_code": None,
        "error_message": None,
        "usage": Usage(),
    }
    return Line(**plain | fields)


def written(batch: UUID = BATCH, **fields: Any) -> Json:
    raw = result_lines.write(batch, line(**fields))
    assert b"\n" not in raw and b"\r" not in raw
    found: Json = json.loads(raw)
    assert set(found) == {"id", "custom_id", "response", "error"}
    return found


def test_a_response_is_there_with_its_status_and_its_request_id() -> None:
    assert written() == {
        "id": f"batch_req_{BATCH.hex}00000007",
        "custom_id": "a",
        "response": {"status_code": 200, "request_id": f"req_{JOB.hex}", "body": {"id": "x"}},
        "error": None,
    }


def test_an_engines_refusal_is_a_response_too() -> None:
    found = written(status=Status.FAILED, status_code=400, body=b'{"error":{"message":"no"}}')
    assert found["response"]["status_code"] == 400
    assert found["response"]["body"] == {"error": {"message": "no"}}
    assert found["error"] is None


def test_ids_of_lines_are_unique_and_stay() -> None:
    assert written()["id"] == written(custom_id="b")["id"]
    assert len({written()["id"], written(line=8)["id"], written(ids.new())["id"]}) == 3


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"status": Status.CANCELLED, "ending": BatchStatus.CANCELLED}, BATCH_CANCELLED),
        ({"status": Status.CANCELLED, "ending": BatchStatus.EXPIRED}, BATCH_EXPIRED),
        ({"status": Status.EXPIRED, "ending": BatchStatus.EXPIRED}, BATCH_EXPIRED),
        ({"status": Status.CANCELLED}, {"code": "cancelled", "message": "This request was cancelled."}),
        ({"status": Status.EXPIRED}, {"code": "expired", "message": "This request expired before it ran."}),
        (
            {"status": Status.FAILED, "error_code": "request_timeout", "error_message": "It ran too long."},
            {"code": "request_timeout", "message": "It ran too long."},
        ),
        ({"status": Status.FAILED}, {"code": "server_error", "message": "The request failed."}),
    ],
)
def test_without_a_response_the_error_says_why(fields: Json, error: Json) -> None:
    found = written(status_code=None, body=None, **fields)
    assert found["response"] is None
    assert found["error"] == error


def test_a_body_of_several_lines_becomes_one() -> None:
    assert written(body=b'{\r\n  "a": "b\\nc"\n}')["response"]["body"] == {"a": "b\nc"}


def test_a_body_that_is_not_there_is_null() -> None:
    assert written(body=None)["response"]["body"] is None
    assert written(body=b"")["response"]["body"] is None


def test_a_copy_names_the_line_that_ran_and_bills_nothing() -> None:
    usage = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1}, "x": None, "total_tokens": 5}
    body = json.dumps({"id": "x", "usage": usage}).encode()
    response = written(copy_of="first", body=body)["response"]
    assert response["copy_of"] == "first"
    zeros = {"prompt_tokens": 0, "prompt_tokens_details": {"cached_tokens": 0}, "x": None, "total_tokens": 0}
    assert response["body"] == {"id": "x", "usage": zeros}


def test_a_copy_of_what_has_no_usage_is_as_it_is() -> None:
    for body in (b'{"id":"x"}', b"[1]", b'{"usage":null}'):
        assert written(copy_of="first", body=body)["response"]["body"] == json.loads(body)
    assert written(copy_of="first", body=None)["response"]["body"] is None


def test_any_custom_id_survives() -> None:
    for custom_id in ('"', "\\", "ü\n\u2028", "}"):
        assert written(custom_id=custom_id)["custom_id"] == custom_id
        assert written(custom_id=custom_id, status_code=None)["custom_id"] == custom_id
