"""Clients that give up waiting: OpenAI's SDK asks again and finds its job, others are gone and their jobs end."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from tests import journal
from tests.faults import invariants
from tests.processes import Deployment, deployed, eventually


def sdk(deployment: Deployment, timeout: float, max_retries: int) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=f"{deployment.base_url}/v1",
        api_key=deployment.key,
        timeout=timeout,
        max_retries=max_retries,
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    )


async def ask(client: AsyncOpenAI, text: str = "hello", **script: object) -> ChatCompletion:
    return await client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": text}],
        max_tokens=4,
        extra_body={"script": script},
    )


def starts(deployment: Deployment) -> Counter[str]:
    return journal.starts(journal.read(deployment.journal))


async def begun(deployment: Deployment, jobs: int = 1) -> None:
    """Return when so many jobs were begun by the engine."""

    async def enough() -> bool:
        return len(starts(deployment)) == jobs

    await eventually(enough, 30, f"{jobs} jobs begun")


async def aborted(deployment: Deployment) -> None:
    """Return when the one job is cancelled and has left the engine."""

    async def over() -> bool:
        events = [entry.event for entry in journal.read(deployment.journal)]
        return events == ["start", "abort"] and await invariants.statuses(deployment.database) == {"cancelled": 1}

    await eventually(over, 30, "the job is cancelled and aborted")


async def test_the_sdks_repeats_end_with_the_answer_of_one_run(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        async with sdk(deployment, timeout=2, max_retries=8) as client:
            answer = await ask(client, delay=10)
        assert answer.choices[0].message.content == "word word word word"
        assert starts(deployment) == {answer.id.removeprefix("chatcmpl-"): 1}
        assert await invariants.statuses(deployment.database) == {"completed": 1}


async def test_two_equal_requests_that_both_repeat_find_two_jobs(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with sdk(deployment, timeout=1, max_retries=8) as one, sdk(deployment, timeout=1, max_retries=8) as other:
            answers = await asyncio.gather(ask(one, delay=4), ask(other, delay=4))
        assert len({answer.id for answer in answers}) == 2
        assert starts(deployment) == {answer.id.removeprefix("chatcmpl-"): 1 for answer in answers}
        assert await invariants.statuses(deployment.database) == {"completed": 2}


@pytest.mark.parametrize(("end", "delay"), [(signal.SIGTERM, 2), (signal.SIGKILL, 12)])
async def test_a_client_that_waits_while_the_api_restarts_gets_the_answer_of_one_run(
    tmp_path: Path, end: signal.Signals, delay: float
) -> None:
    """A kept job may end before its client is back; one whose API was killed is found while it runs."""
    async with deployed(tmp_path) as deployment:
        api = await deployment.start_api()
        await deployment.start_worker()
        async with sdk(deployment, timeout=60, max_retries=8) as client:
            waiting = asyncio.create_task(ask(client, delay=delay))
            await begun(deployment)
            api.send(end)
            await api.ended(20)
            await deployment.start_api()
            answer = await waiting
        assert starts(deployment) == {answer.id.removeprefix("chatcmpl-"): 1}
        assert await invariants.statuses(deployment.database) == {"completed": 1}


async def test_an_api_that_stops_tells_who_waits_to_come_back(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        api = await deployment.start_api()
        await deployment.start_worker()
        async with sdk(deployment, timeout=60, max_retries=0) as client:
            waiting = asyncio.create_task(ask(client, delay=3))
            await begun(deployment)
            api.send(signal.SIGTERM)
            with pytest.raises(openai.InternalServerError) as refused:
                await waiting
        assert refused.value.status_code == 503
        assert refused.value.response.headers["x-should-retry"] == "true"
        assert refused.value.response.headers["retry-after"] == "1"
        assert await api.ended(20) == 0


async def test_a_plain_client_that_runs_out_of_patience_aborts_its_job(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "script": {"hang": True}}
        async with deployment.client() as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/v1/chat/completions", json=body, timeout=2)
            await aborted(deployment)


async def test_a_job_whose_client_does_not_come_back_ends_after_the_grace(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_GRACE="1") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        async with sdk(deployment, timeout=2, max_retries=0) as client:
            with pytest.raises(openai.APITimeoutError):
                await ask(client, hang=True)
        await aborted(deployment)
