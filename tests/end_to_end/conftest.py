"""The whole stack, started once: API, control, and two workers with real vLLM, one that chats and one that embeds."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from longhaul import tiny_model
from longhaul.embedded import free_port
from tests.end_to_end import models
from tests.processes import Deployment, deployed

TINY: Final = "tiny"
ALIASES: Final = ("org/tiny", "/srv/models/tiny")
EMBED: Final = "org/embed"
ADAPTER: Final = "org/embed-lora"
VLLM: Final = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
_CHATS: Final = (
    *("--served-model-name", TINY, *ALIASES, "--max-num-seqs", "32"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)
_EMBEDS: Final = ("--served-model-name", EMBED, "--runner", "pooling", "--enable-lora", "--max-lora-rank", "8")


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs. By its model's name, `engines` has the base URL of each engine's own app, and `metrics` the URL of its
    worker's."""

    deployment: Deployment
    model: Path
    engines: Mapping[str, str]
    metrics: Mapping[str, str]

    @property
    def base_url(self) -> str:
        return f"{self.deployment.base_url}/v1"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    model = await asyncio.to_thread(tiny_model.build, folder / "model")
    async with deployed(folder, LONGHAUL_LEASE="60", **VLLM) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        lora = await asyncio.to_thread(models.adapter, model, folder / "lora")
        embeds = (*_EMBEDS, "--lora-modules", f"{ADAPTER}={lora}")
        ports = {TINY: free_port(), EMBED: free_port()}
        watched = {TINY: free_port(), EMBED: free_port()}
        await asyncio.gather(
            *(
                deployment.start_worker(
                    name.replace("/", "-"),
                    *("--", "--model", str(model), "--enforce-eager", *arguments),
                    LONGHAUL_ENGINE="tests.end_to_end.served:factory",
                    LONGHAUL_TEST_PORT=str(ports[name]),
                    LONGHAUL_METRICS_PORT=str(watched[name]),
                )
                for name, arguments in ((TINY, _CHATS), (EMBED, embeds))
            )
        )
        yield Stack(
            deployment,
            model,
            engines={name: f"http://127.0.0.1:{port}" for name, port in ports.items()},
            metrics={name: f"http://127.0.0.1:{port}/metrics" for name, port in watched.items()},
        )


@pytest.fixture(scope="session")
def to_the_point(stack: Stack) -> dict[str, int]:
    """The bias without which random weights fill the room between two braces with blanks for ever, and, asked for one
    tool call or more, never end."""
    tokens = json.loads((stack.model / "tokenizer.json").read_text())
    blanks = {str(number): -100 for token, number in tokens["model"]["vocab"].items() if set(token) <= set("ĠĊĉč")}
    return blanks | {str(token["id"]): 100 for token in tokens["added_tokens"] if token["content"] == tiny_model.END}


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    """Plain HTTP to the API, with a key."""
    headers = {"Authorization": f"Bearer {stack.deployment.key}"}
    with httpx.Client(base_url=stack.deployment.base_url, headers=headers, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture
def sdk(stack: Stack) -> Iterator[OpenAI]:
    """OpenAI's SDK, which must not need its repeats."""
    plain = openai.DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=stack.base_url, api_key=stack.deployment.key, max_retries=0, http_client=plain) as client:
        yield client


@pytest.fixture
def strict(stack: Stack) -> Iterator[OpenAI]:
    """OpenAI's SDK, which validates every chunk."""
    with OpenAI(
        base_url=stack.base_url,
        api_key=stack.deployment.key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
        _strict_response_validation=True,
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def async_sdk(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    plain = openai.DefaultAsyncHttpxClient(trust_env=False)
    key = stack.deployment.key
    async with AsyncOpenAI(base_url=stack.base_url, api_key=key, max_retries=0, http_client=plain) as client:
        yield client
