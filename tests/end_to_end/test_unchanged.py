"""Two hundred greedy answers with their probabilities: through the queue, in company, they are what vLLM says alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain, islice
from pydoc_data.topics import topics
from typing import Any

import httpx
import pytest

from jobs.records import Json
from tests.end_to_end.conftest import EMBED, TINY, Stack
from tests.end_to_end.test_streams import differing
from tests.end_to_end.test_vllm_answers import named_alike

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),
    # A GPU's sums depend on how many are added at once; a CPU's do not.
    pytest.mark.skipif("__import__('torch').cuda.is_available()", reason="answers are bit-equal on a CPU only"),
]

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
GREEDY: Json = {"model": TINY, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
PATIENCE_SECONDS = 200
"""Three engines compute on one core here, and two of them all the time."""
COMPANY: Json = {"model": TINY, "temperature": 1, "max_tokens": 1900, "ignore_eos": True, "stream": True}


def requests() -> list[tuple[str, Json]]:
    """A hundred chats and as many completions on prompts of 1 to 200 words of English, no two alike."""
    words = chain.from_iterable(topics[name].split() for name in sorted(topics))
    prompts = [" ".join(islice(words, length)) for length in range(1, 201)]
    chats = [
        (CHAT, GREEDY | {"messages": [{"role": "user", "content": prompt}], "logprobs": True, "top_logprobs": 5})
        for prompt in prompts[::2]
    ]
    return chats + [(COMPLETIONS, GREEDY | {"prompt": prompt, "logprobs": 5}) for prompt in prompts[1::2]]


async def answer(client: httpx.AsyncClient, path: str, body: Json) -> Any:
    response = await client.post(path, json=body)
    assert response.status_code == 200, response.text
    said = named_alike(response.json())
    said["usage"].pop("prompt_tokens_details", None)  # how much of the prompt was in the prefix cache: who comes second
    return said


@asynccontextmanager
async def company(client: httpx.AsyncClient) -> AsyncIterator[None]:
    """Six sampled streams and another model's embeddings that run all the time: one that fails fails the test."""
    speaking = [asyncio.Event() for _ in range(6)]

    async def speak(number: int) -> None:
        body = COMPANY | {"messages": [{"role": "user", "content": f"speaker {number}"}]}
        while True:
            async with client.stream("POST", CHAT, json=body) as response:
                assert response.status_code == 200, await response.aread()
                async for _ in response.aiter_lines():
                    speaking[number].set()

    async def embed() -> None:
        while True:
            await answer(client, "/v1/embeddings", {"model": EMBED, "input": ["once", "upon"]})

    async with asyncio.TaskGroup() as group:
        others = [group.create_task(speak(number)) for number in range(6)] + [group.create_task(embed())]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*(event.wait() for event in speaking))
        yield
        for task in others:
            task.cancel()


async def test_two_hundred_answers_and_their_probabilities_are_vllms_own(stack: Stack) -> None:
    asked = requests()
    async with httpx.AsyncClient(base_url=stack.engines[TINY], timeout=PATIENCE_SECONDS, trust_env=False) as vllm:
        alone = [await answer(vllm, path, body) for path, body in asked]
    async with stack.deployment.client() as ours, stack.deployment.client() as others:
        ours.timeout = others.timeout = PATIENCE_SECONDS
        async with company(others):
            together = await asyncio.gather(*(answer(ours, path, body) for path, body in asked))
    assert [differing(*pair) for pair in zip(alone, together, strict=True)] == [{}] * 200
