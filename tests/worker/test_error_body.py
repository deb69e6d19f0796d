"""Every form of error that engines use, in OpenAI's one envelope."""

import json
from typing import Any

import pytest

from worker.error_body import normalise


def error(status: int, body: Any, endpoint: str = "/v1/chat/completions") -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    parsed: dict[str, Any] = json.loads(normalise(endpoint, status, raw))
    return parsed


def test_vllms_error_becomes_openais() -> None:
    body = {"error": {"message": "bad", "type": "BadRequestError", "param": "body.messages", "code": 400}}
    assert error(400, body) == {
        "error": {"message": "bad", "type": "invalid_request_error", "param": "messages", "code": None}
    }


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, "invalid_request_error", None),
        (404, "invalid_request_error", "model_not_found"),
        (422, "invalid_request_error", None),
        (429, "rate_limit_error", "rate_limit_exceeded"),
        (500, "server_error", "server_error"),
        (501, "server_error", None),
        (503, "service_unavailable_error", "server_is_overloaded"),
    ],
)
def test_type_and_code_follow_the_status(status: int, kind: str, code: str | None) -> None:
    told = error(status, {"error": {"message": "m", "type": "NotFoundError", "param": None, "code": status}})
    assert told == {"error": {"message": "m", "type": kind, "param": None, "code": code}}


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    message = "This model's maximum context length is 2048 tokens. However, your prompt contains 2049."
    told = error(400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}})
    assert told["error"]["code"] == "context_length_exceeded"


def test_an_error_in_openais_form_stays() -> None:
    body = {"error": {"message": "m", "type": "tokens_error", "param": "n", "code": "too_much"}}
    assert error(400, body) == body


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"error": "Unauthorized"}, "Unauthorized", None),
        ({"detail": "Not Found"}, "Not Found", None),
        (
            {"detail": [{"loc": ["body", "n"], "msg": "too big"}, {"loc": ["body"], "msg": "odd"}]},
            "body.n: too big; body: odd",
            "n",
        ),
        ({"object": "error", "message": "old form", "type": "X", "code": 400}, "old form", None),
        ({"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}, "no such model", None),
        (b"Internal Server Error", "Internal Server Error", None),
        (b"", "Bad Request", None),
        (b"null", "Bad Request", None),
    ],
)
def test_other_forms_of_errors_are_understood(body: Any, message: str, param: str | None) -> None:
    told = (error(400, body))["error"]
    assert (told["message"], told["param"]) == (message, param)
    assert told["type"] in ("invalid_request_error", "not_found_error")


def test_messages_gets_an_error_that_anthropics_clients_read_too() -> None:
    told = error(404, {"type": "error", "error": {"type": "NotFoundError", "message": "no"}}, "/v1/messages")
    assert told["type"] == "error"
    assert told["error"] == {"type": "not_found_error", "message": "no", "param": None, "code": "model_not_found"}


def test_a_missing_chat_template_names_the_argument_that_gives_one() -> None:
    message = "default chat template is no longer allowed, so you must provide a chat template if there is none."
    told = error(400, {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}})
    assert "--chat-template" in told["error"]["message"]
