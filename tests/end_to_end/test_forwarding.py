"""vLLM's own app as a server that somebody else runs: a second deployment forwards to it, and answers as the first."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

import httpx
import pytest
import pytest_asyncio

from jobs.records import Json
from longhaul import tiny_model
from tests.end_to_end.conftest import ALIASES, TINY, Stack
from tests.end_to_end.test_dialect import (
    CHAT,
    COMPLETIONS,
    GREEDY,
    HELLO,
    HOT,
    ROUND,
    answered,
    chatted,
    streamed,
    text_of,
)
from tests.end_to_end.test_metrics import shown
from tests.end_to_end.test_vllm_answers import named_alike
from tests.processes import Deployment, deployed

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

RUNNING: Final = "vllm:num_requests_running"
GENERATED: Final = "vllm:generation_tokens_total"
SAID: Final[Json] = {"messages": HELLO}
ASKED: Final[dict[str, tuple[str, Json]]] = {
    "chat": (CHAT, SAID | {"logprobs": True, "top_logprobs": 2}),
    "chat with extras": (CHAT, SAID | {"top_k": 5, "structured_outputs": {"choice": ["yes", "no"]}}),
    "completions": (COMPLETIONS, {"prompt": ["once upon", "a time"], "logprobs": 1}),
    "white list": (CHAT, SAID | {"white_list_token": [" the", " of"]}),
    "bias": (CHAT, SAID | {"logit_bias": ROUND}),
    "forced": (CHAT, SAID | {"force_prompt": "Sure, the"}),
    "loop": (COMPLETIONS, {"prompt": "once", "logit_bias": ROUND, "max_tokens": 200, "enable_repeat_stopper": True}),
    "no stop": (COMPLETIONS, {"prompt": "once", "logit_bias": {tiny_model.END: 100}, "add_default_stop": False}),
    "best": (CHAT, SAID | HOT | {"temperature": 1, "best_of": 8, "n": 2}),
    "gap": (COMPLETIONS, {"prompt": "def add(a, b):", "suffix": "return c"}),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def forwarding(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path_factory.mktemp("forwarding"), LONGHAUL_LEASE="60") as deployment:
        await deployment.start_api()
        await deployment.start_worker("forwarding", "--engine", f"{stack.engines[TINY]}/v1")
        yield deployment


@pytest.fixture
def forwarded(forwarding: Deployment) -> Iterator[httpx.Client]:
    """Plain HTTP to the deployment that forwards."""
    headers = {"Authorization": f"Bearer {forwarding.key}"}
    with httpx.Client(base_url=forwarding.base_url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def test_it_is_known_by_what_vllm_says_of_itself(forwarded: httpx.Client) -> None:
    listed = {model["id"] for model in forwarded.get("/v1/models").json()["data"]}
    assert listed == {TINY, *ALIASES}


@pytest.mark.parametrize("case", ASKED)
def test_what_is_forwarded_is_answered_as_in_process(http: httpx.Client, forwarded: httpx.Client, case: str) -> None:
    path, asked = ASKED[case]
    answers = [named_alike(answered(client, path, GREEDY | asked)) for client in (http, forwarded)]
    assert answers[0] == answers[1]


def test_a_stream_says_what_the_whole_answer_does(forwarded: httpx.Client) -> None:
    assert streamed(forwarded) == text_of(chatted(forwarded))
    assert streamed(forwarded, force_prompt="Sure thing") == text_of(chatted(forwarded, force_prompt="Sure thing"))


def test_a_cancel_ends_the_request_in_vllm(stack: Stack, forwarded: httpx.Client) -> None:
    body = GREEDY | SAID | {"max_tokens": 1900}
    before = shown(stack)[GENERATED]
    accepted = forwarded.post("/v1/jobs", json={"endpoint": CHAT, "body": body})
    assert accepted.status_code == 202, accepted.text
    job = accepted.json()["id"]
    until_running(stack, 1)
    assert forwarded.post(f"/v1/jobs/{job}/cancel").json()["status"] == "cancelled"
    until_running(stack, 0)
    assert shown(stack)[GENERATED] - before < 1900


def until_running(stack: Stack, count: int) -> None:
    """Return when vLLM runs so many requests."""
    deadline = time.monotonic() + 20
    while shown(stack)[RUNNING] != count:
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
