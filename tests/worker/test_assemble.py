"""Chunks to outcomes: what is completed, what failed, what is edited."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from jobs.records import ClaimedJob, Flags, Outcome, Tier, Usage
from jobs.states import Status
from worker.assemble import assemble

CHAT = "/v1/chat/completions"
JOB = ClaimedJob(
    id=UUID(int=1),
    lease_token=1,
    flow_id=1,
    tenant_id=1,
    tier=Tier.DEFAULT,
    cost=1,
    weight=1.0,
    attempts=1,
    timeout_seconds=60,
    flags=Flags.NONE,
    endpoint=CHAT,
    body=b"{}",
    service_tier=None,
    waited=False,
)


class Answer:
    """A response that is already there, in chunks."""

    def __init__(self, status: int, chunks: Sequence[bytes]) -> None:
        self.status = status
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def outcome(status: int, body: Any, endpoint: str = CHAT, service_tier: str | None = None) -> Outcome:
    whole = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    job = replace(JOB, endpoint=endpoint, service_tier=service_tier)
    return await assemble(job, Answer(status, [whole[:10], whole[10:]]))


def chat(finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": finish_reason}
    return {"id": "chatcmpl-1", "choices": [choice], "service_tier": None} | more


async def test_a_2xx_is_completed_with_the_engines_own_bytes() -> None:
    body = b'{ "id" : "x",\n"choices":[] , "usage": {"prompt_tokens": 3, "completion_tokens": 4}}'
    done = await outcome(200, body)
    assert done == Outcome(Status.COMPLETED, 200, body, Usage(input=3, output=4))


@pytest.mark.parametrize(("reason", "told"), [("abort", "length"), ("repetition", "stop")])
async def test_finish_reasons_that_openai_does_not_know_are_mapped(reason: str, told: str) -> None:
    done = await outcome(200, chat(reason, usage={"prompt_tokens": 1, "completion_tokens": 2}))
    choice = json.loads(done.body or b"")["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == (told, reason)
    assert done.usage == Usage(input=1, output=2)


@pytest.mark.parametrize(
    ("asked", "used"),
    [("auto", "default"), ("default", "default"), ("flex", "flex"), ("priority", "priority"), ("fast", "priority")],
)
async def test_a_service_tier_that_was_asked_for_is_echoed_as_used(asked: str, used: str) -> None:
    done = await outcome(200, chat(), CHAT, asked)
    assert json.loads(done.body or b"") == chat() | {"service_tier": used}
    done = await outcome(200, {"object": "response"}, "/v1/responses", asked)
    assert json.loads(done.body or b"")["service_tier"] == used


async def test_a_response_gets_what_openai_has_in_it_and_the_engine_has_not() -> None:
    done = await outcome(200, {"object": "response", "output": [], "text": None}, "/v1/responses")
    response = json.loads(done.body or b"")
    assert (response["store"], response["text"]) == (True, {"format": {"type": "text"}})
    assert response["completed_at"] >= response["created_at"]


async def test_no_service_tier_is_echoed_where_openai_has_none() -> None:
    assert (await outcome(200, b'{"data":[]}', "/v1/embeddings", "flex")).body == b'{"data":[]}'


async def test_another_status_is_failed_with_the_error_in_openais_form() -> None:
    failed = await outcome(400, {"error": {"message": "m", "type": "BadRequestError", "param": None, "code": 400}})
    assert (failed.status, failed.status_code, failed.usage) == (Status.FAILED, 400, Usage())
    assert json.loads(failed.body or b"") == {
        "error": {"message": "m", "type": "invalid_request_error", "param": None, "code": None}
    }
