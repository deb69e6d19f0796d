"""The official SDK, unchanged, against the API behind real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from jobs.database import Database
from jobs.records import Outcome, Tier
from jobs.states import Status
from tests.api.conftest import Key, Worker, becomes, chat, jobs_written, served, url_of

COMPLETION: Any = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello!"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
MESSAGES: Any = chat()["messages"]


@pytest.fixture
async def sdk(app: FastAPI, worker: Worker, key: Key) -> AsyncIterator[AsyncOpenAI]:
    async with served(app) as server, AsyncOpenAI(base_url=f"{url_of(server)}/v1", api_key=key) as sdk:
        yield sdk


async def test_a_chat_just_works(sdk: AsyncOpenAI, worker: Worker) -> None:
    asked = asyncio.create_task(sdk.chat.completions.create(model="tiny", messages=MESSAGES))
    [job] = await worker.answer(body=COMPLETION)
    answer = await asked
    assert answer.choices[0].message.content == "Hello!"
    assert answer._request_id == f"req_{job.id.hex}"


async def test_what_the_sdk_offers_is_accepted_or_refused_by_name(sdk: AsyncOpenAI, worker: Worker) -> None:
    asked = asyncio.create_task(
        sdk.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            store=True,
            metadata={"a": "b"},
            user="me",
            safety_identifier="me",
            prompt_cache_key="k",
            prompt_cache_retention="24h",
            prediction={"type": "content", "content": "x"},
            service_tier="priority",
            temperature=0.5,
            logit_bias={"5": 1},
        )
    )
    [job] = await worker.answer(body=COMPLETION, tier=Tier.PRIORITY)
    await asked
    assert json.loads(job.body)["store"] is True
    refused: list[dict[str, Any]] = [
        {"functions": [{"name": "f"}]},
        {"modalities": ["audio"], "audio": {"voice": "x", "format": "wav"}},
        {"verbosity": "low"},
    ]
    for more in refused:
        with pytest.raises(openai.BadRequestError) as caught:
            await sdk.chat.completions.create(model="tiny", messages=MESSAGES, **more)
        assert caught.value.code == "unsupported_parameter"
        assert caught.value.param in more


async def test_errors_are_the_sdks_own(sdk: AsyncOpenAI, key: Key) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await sdk.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"
    assert unknown.value.request_id and unknown.value.request_id.startswith("req_")
    with pytest.raises(openai.BadRequestError) as bad:
        await sdk.chat.completions.create(model="tiny", messages=[])
    assert (bad.value.code, bad.value.param) == ("empty_array", "messages")
    with pytest.raises(openai.AuthenticationError) as nobody:
        await sdk.with_options(api_key="sk-wrong").models.list()
    assert nobody.value.code == "invalid_api_key"


async def test_an_engines_400_is_a_bad_request(sdk: AsyncOpenAI, worker: Worker) -> None:
    asked = asyncio.create_task(sdk.chat.completions.create(model="tiny", messages=MESSAGES))
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "x"}
    await worker.answer(400, {"error": error})
    with pytest.raises(openai.BadRequestError) as caught:
        await asked
    assert caught.value.body == error


async def test_a_lost_job_is_not_asked_for_again(sdk: AsyncOpenAI, worker: Worker, database: Database) -> None:
    asked = asyncio.create_task(sdk.chat.completions.create(model="tiny", messages=MESSAGES))
    [job] = await worker.claim_next()
    await worker.finish(job, Outcome(Status.FAILED, error_code="worker_lost", error_message="lost"))
    with pytest.raises(openai.InternalServerError):
        await asked
    assert await jobs_written(database) == 1


async def test_the_sdks_own_repeats_find_the_job(sdk: AsyncOpenAI, worker: Worker, database: Database) -> None:
    impatient = sdk.with_options(timeout=0.5, max_retries=8)
    asked = asyncio.create_task(impatient.chat.completions.create(model="tiny", messages=MESSAGES))
    [job] = await worker.claim_next()
    await becomes(database, "SELECT taken FROM repeats", 2)
    await worker.finish(job, Outcome(Status.COMPLETED, 200, json.dumps(COMPLETION).encode()))
    assert (await asked).id == "chatcmpl-1"
    assert await jobs_written(database) == 1


async def test_models_are_listed_and_retrieved(sdk: AsyncOpenAI) -> None:
    assert [model.id async for model in sdk.models.list()] == ["org/tiny", "tiny", "tiny-lora"]
    assert (await sdk.models.retrieve("org/tiny")).id == "org/tiny"
    with pytest.raises(openai.NotFoundError):
        await sdk.models.retrieve("nobody")
