"""A real llama.cpp server behind the forwarding engine: jobs, a batch, streams, cancels, its death and its return."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from jobs.records import Json
from longhaul import tiny_model
from longhaul.embedded import free_port
from tests.end_to_end import llama_cpp
from tests.end_to_end.llama_cpp import NAME
from tests.faults import invariants
from tests.processes import ROOT, Deployment, deployed, eventually

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
]

JOBS = 500
SLOTS = 4
CHAT = "/v1/chat/completions"
ENDLESS: Json = {"logit_bias": {"1": -100}}
"""Random weights end now and then by themselves; this forbids the token."""


class LlamaCpp:
    """The server's process, always on the same port."""

    def __init__(self, model: Path, log: Path) -> None:
        self._model = model
        self._log = log
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def spawn(self) -> None:
        """Start it, not waiting for it to be of use."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.end_to_end.llama_cpp", str(self._model), str(self._port), str(SLOTS)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self) -> None:
        """Return when it serves."""
        self.spawn()

        async def healthy() -> bool:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            async with httpx.AsyncClient(trust_env=False) as client:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get(f"{self.url}/health")).status_code == 200
            return False

        await eventually(healthy, 60, "llama.cpp serves")

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def slots(self) -> list[Json]:
        """What each of its slots does."""
        async with httpx.AsyncClient(trust_env=False) as client:
            slots: list[Json] = (await client.get(f"{self.url}/slots", timeout=30)).json()
        return slots


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs: Longhaul, and the server that it forwards to."""

    deployment: Deployment
    server: LlamaCpp


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("forwarding")
    model = await asyncio.to_thread(tiny_model.build, folder / "model")
    server = LlamaCpp(await asyncio.to_thread(llama_cpp.convert, model, folder / "tiny.gguf"), folder / "llama.log")
    async with deployed(folder, LONGHAUL_LEASE="60") as deployment:
        await server.start()
        try:
            deployment.spawn("control")
            await deployment.start_api()
            await deployment.start_worker("forwarding", "--engine", f"{server.url}/v1")
            yield Stack(deployment, server)
        finally:
            server.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def sdk(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    plain = openai.DefaultAsyncHttpxClient(trust_env=False)
    base_url = f"{stack.deployment.base_url}/v1"
    async with AsyncOpenAI(base_url=base_url, api_key=stack.deployment.key, max_retries=0, http_client=plain) as client:
        yield client


def chat(number: int, tokens: int, **more: object) -> Json:
    """A chat that runs for so many tokens."""
    said = {"role": "user", "content": f"Tell me about the number {number}."}
    return {"model": NAME, "messages": [said], "max_tokens": tokens, **ENDLESS, **more}


async def submit(client: httpx.AsyncClient, count: int, tokens: int) -> list[str]:
    """The ids of so many jobs."""
    jobs = [{"endpoint": CHAT, "body": chat(number, tokens)} for number in range(count)]
    response = await client.post("/v1/jobs", json=jobs)
    assert response.status_code == 202, response.text
    return [job["id"] for job in response.json()["data"]]


async def ended(client: httpx.AsyncClient, jobs: list[str]) -> list[Json]:
    """These jobs, once each has ended."""
    return [(await client.get(f"/v1/jobs/{job}", params={"wait": 50})).json() for job in jobs]


async def busy(server: LlamaCpp, count: int) -> bool:
    """Whether so many of its slots work."""
    return len([slot for slot in await server.slots() if slot["is_processing"]]) == count


async def test_it_is_known_by_what_it_says_of_itself(stack: Stack, sdk: AsyncOpenAI) -> None:
    async with stack.deployment.client() as client:
        model = (await client.get(f"/v1/models/{NAME}")).json()
        unknown = await client.post(CHAT, json=chat(1, 1, top_k=5))
        untranslatable = await client.post(CHAT, json=chat(1, 1, force_prompt="Sure"))
        absent = await client.post("/v1/embeddings", json={"model": NAME, "input": "x"})
    assert (model["workers"], model["max_model_len"]) == (1, llama_cpp.CONTEXT)
    assert (unknown.status_code, unknown.json()["error"]["param"]) == (400, "top_k")
    assert (untranslatable.status_code, untranslatable.json()["error"]["param"]) == (400, "force_prompt")
    assert absent.status_code == 404


async def test_five_hundred_jobs_complete(stack: Stack) -> None:
    async with stack.deployment.client() as client:
        done = await ended(client, await submit(client, JOBS, tokens=8))
    assert Counter(job["status"] for job in done) == {"completed": JOBS}
    assert {(job["attempts"], job["usage"]["output_tokens"]) for job in done} == {(1, 8)}


async def test_a_batch_completes(stack: Stack, sdk: AsyncOpenAI) -> None:
    lines = [
        {"custom_id": f"row-{number}", "method": "POST", "url": CHAT, "body": chat(number, 4)} for number in range(40)
    ]
    source = ("in.jsonl", "\n".join(map(json.dumps, lines)).encode())
    file = await sdk.files.create(purpose="batch", file=source)
    batch = await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")  # type: ignore[arg-type]

    async def completed() -> bool:
        return (await sdk.batches.retrieve(batch.id)).status == "completed"

    await eventually(completed, 60, "the batch completes")
    output = (await sdk.batches.retrieve(batch.id)).output_file_id
    assert output is not None
    results = [json.loads(line) for line in (await sdk.files.content(output)).text.splitlines()]
    assert [result["custom_id"] for result in results] == [line["custom_id"] for line in lines]
    assert {result["response"]["body"]["usage"]["completion_tokens"] for result in results} == {4}


async def test_a_stream_comes_token_by_token(sdk: AsyncOpenAI) -> None:
    said = await sdk.chat.completions.create(
        model=NAME, messages=[{"role": "user", "content": "hi"}], max_tokens=20, stream=True, extra_body=ENDLESS
    )
    chunks = [chunk async for chunk in said]
    assert len(chunks) >= 10
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"


async def test_a_response_is_streamed_with_numbered_events(sdk: AsyncOpenAI) -> None:
    events = [
        event async for event in await sdk.responses.create(model=NAME, input="hi", max_output_tokens=5, stream=True)
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


async def test_a_cancel_frees_its_slot(stack: Stack) -> None:
    """llama.cpp looks whether a client that waits is still there in every second in which it answers nobody."""
    tokens = llama_cpp.CONTEXT - 200
    async with stack.deployment.client() as client:
        jobs = await submit(client, SLOTS, tokens)
        await eventually(lambda: busy(stack.server, SLOTS), 30, "the jobs run")
        for job in jobs:
            assert (await client.post(f"/v1/jobs/{job}/cancel")).json()["status"] == "cancelled"
        await asyncio.sleep(3)
        assert await busy(stack.server, 0), "their slots are free"
        assert max(slot["n_prompt_tokens"] for slot in await stack.server.slots()) < tokens, "none ran to its end"
        [again] = await ended(client, await submit(client, 1, tokens=4))
    assert again["status"] == "completed"


async def test_its_death_costs_no_job_and_its_return_is_awaited(stack: Stack) -> None:
    deployment, server = stack.deployment, stack.server
    worker = deployment.parts["forwarding"]
    async with deployment.client() as client:
        jobs = await submit(client, 60, tokens=200)
        await eventually(lambda: busy(server, SLOTS), 30, "its slots are full")
        server.kill()
        assert await worker.ended(30) == 1

        async def nobody_works() -> bool:
            return bool((await client.get(f"/v1/models/{NAME}")).json()["workers"] == 0)

        await eventually(nobody_works, 10, "the worker has left")
        successor = deployment.spawn("worker", "successor", "--engine", f"{server.url}/v1")

        async def waits() -> bool:
            return "waiting for an upstream server" in successor.log.read_text()

        await eventually(waits, 30, "the next worker waits for it")
        await server.start()
        done = await ended(client, jobs)
    assert Counter(job["status"] for job in done) == {"completed": 60}
    assert {job["usage"]["output_tokens"] for job in done} == {200}
    attempts = await invariants.attempts(deployment.database)
    assert max(attempts.values()) == 2, "what ran when it died has run twice, and the loss is counted"
