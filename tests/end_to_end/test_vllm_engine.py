"""Jobs on real vLLM, as a worker runs them: no socket, no queue, a tiny model."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
import pytest_asyncio

from jobs import ids
from jobs.endpoints import INFERENCE
from jobs.records import ClaimedJob, Json, Outcome, Registration, Tier
from jobs.settings import Settings
from jobs.states import Status
from jobs.streams import Writer
from longhaul import tiny_model
from tests.end_to_end.models import without_chat_template
from tests.worker.test_assemble import JOB
from worker.attempt import attempt
from worker.dialect import Dialect
from worker.engines import EngineArgumentError, EngineDead
from worker.engines.vllm import VllmEngine

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
]

MODEL = "tiny"
CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
REQUESTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO, "max_tokens": 4},
    "/v1/completions": {"prompt": "once upon", "max_tokens": 4},
    "/v1/responses": {"input": "hello", "max_output_tokens": 4},
    "/v1/responses/input_tokens": {"input": "hello"},
    "/v1/messages": {"model": MODEL, "messages": HELLO, "max_tokens": 4},
    "/v1/messages/count_tokens": {"model": MODEL, "messages": HELLO},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [300, 301]},
}
POOLING: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["hello", "there"]},
    "/v1/score": {"text_1": "hello", "text_2": ["hello", "there"]},
    "/score": {"text_1": "hello", "text_2": "there"},
    "/v1/rerank": {"query": "hello", "documents": ["hello", "there"]},
    "/v2/rerank": {"query": "hello", "documents": ["hello", "there"]},
    "/rerank": {"query": "hello", "documents": ["hello", "there"]},
    "/pooling": {"input": "hello", "task": "embed"},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [300, 301]},
}


class Running:
    """An engine that is up, with what a worker knows of it."""

    def __init__(self, engine: VllmEngine, registration: Registration) -> None:
        self.engine = engine
        self.registration = registration
        self._dialect = Dialect(registration, engine, _nothing_before, separate_caches=False)
        self._writer = Writer("redis://127.0.0.1:1/0", "unused")

    async def run(self, job: ClaimedJob) -> Outcome:
        """One attempt, on which the engine does not back off."""
        outcome = await attempt(self.engine, self._dialect, self._writer, job)
        assert isinstance(outcome, Outcome)
        return outcome


async def _nothing_before(job_id: UUID) -> list[Json]:
    return []


def job(endpoint: str, body: dict[str, Any], tier: Tier = Tier.DEFAULT, service_tier: str | None = None) -> ClaimedJob:
    return replace(
        JOB, id=ids.new(), endpoint=endpoint, body=json.dumps(body).encode(), tier=tier, service_tier=service_tier
    )


def parsed(outcome: Outcome) -> dict[str, Any]:
    assert outcome.body is not None
    body: dict[str, Any] = json.loads(outcome.body)
    return body


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that vLLM's own tasks do; the test's time limit ends it."""
    while not condition():  # noqa: ASYNC110, nothing tells
        await asyncio.sleep(0.01)


def lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_API_KEY", "a key that guards a server, which this is not")
        yield


@pytest.fixture(scope="module")
def settings(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("vllm")
    return Settings(home=folder, model=str(tiny_model.build(folder / "model")), log_format="text")


async def running(settings: Settings, *arguments: str) -> AsyncIterator[Running]:
    engine = VllmEngine(settings, ["--enforce-eager", "--served-model-name", MODEL, "second-name", *arguments])
    try:
        await engine.start()
        yield Running(engine, await engine.describe())
    finally:
        pids = engine.pids()
        await engine.stop()
        assert not any(map(lives, pids))
        assert list((settings.home / "run").iterdir()) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vllm(settings: Settings) -> AsyncIterator[Running]:
    async for one in running(settings, "--max-num-seqs", "32"):
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def vllm_without_chat_template(settings: Settings, tmp_path: Path) -> AsyncIterator[Running]:
    bare = without_chat_template(Path(settings.model or ""), tmp_path / "bare")
    async for one in running(settings, "--model", str(bare)):
        yield one


@pytest_asyncio.fixture(loop_scope="module")
async def pooling(settings: Settings) -> AsyncIterator[Running]:
    async for one in running(settings, "--runner", "pooling"):
        yield one


async def test_it_describes_itself(vllm: Running) -> None:
    assert vllm.registration.model == MODEL
    assert vllm.registration.aliases == ("second-name",)
    assert vllm.registration.context_length == tiny_model.CONTEXT
    assert (vllm.registration.slots, vllm.registration.spare) == (32 + 16, 16)
    assert set(vllm.registration.endpoints) == set(REQUESTS)
    assert set(vllm.registration.endpoints) <= INFERENCE


async def test_it_runs_with_what_is_not_the_users_to_choose(vllm: Running) -> None:
    config = vllm.engine.app.state.vllm_config  # type: ignore[attr-defined]
    assert config.scheduler_config.policy == "priority"
    assert config.model_config.allowed_media_domains == ["media.invalid"]


@pytest.mark.parametrize("endpoint", REQUESTS)
async def test_every_endpoint_takes_what_its_schema_allows(vllm: Running, endpoint: str) -> None:
    validator = jsonschema_rs.validator_for(vllm.registration.endpoints[endpoint])
    assert [error.message for error in validator.iter_errors(REQUESTS[endpoint])] == []
    outcome = await vllm.run(job(endpoint, REQUESTS[endpoint]))
    assert (outcome.status, outcome.status_code) == (Status.COMPLETED, 200)


@pytest.mark.parametrize("endpoint", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_answers_are_named_by_us_and_their_tokens_counted(vllm: Running, endpoint: str) -> None:
    one = job(endpoint, REQUESTS[endpoint] | {"ignore_eos": True})
    outcome = await vllm.run(one)
    assert one.id.hex in parsed(outcome)["id"]
    assert outcome.usage.input > 0
    assert outcome.usage.output == 4


async def test_the_service_tier_is_echoed(vllm: Running) -> None:
    asked = job(CHAT, REQUESTS[CHAT] | {"service_tier": "fast"}, Tier.PRIORITY, "fast")
    assert parsed(await vllm.run(asked))["service_tier"] == "priority"
    asked = job("/v1/responses", REQUESTS["/v1/responses"] | {"service_tier": "ultrafast"}, Tier.PRIORITY, "ultrafast")
    assert parsed(await vllm.run(asked))["service_tier"] == "priority"


async def test_what_vllm_refuses_is_a_failed_job_with_openais_error(vllm: Running) -> None:
    outcome = await vllm.run(job("/v1/completions", {"prompt": "word " * 3000}))
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 400)
    error = parsed(outcome)["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "context_length_exceeded")


async def test_a_cancelled_job_leaves_the_engine(vllm: Running) -> None:
    endless = {"messages": HELLO, "max_tokens": 2000, "ignore_eos": True}
    tasks = [asyncio.create_task(vllm.run(job(CHAT, endless))) for _ in range(20)]
    processor = vllm.engine.app.state.engine_client.output_processor  # type: ignore[attr-defined]
    await until(lambda: processor.get_num_unfinished_requests() == len(tasks))
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await until(lambda: processor.get_num_unfinished_requests() == 0)


async def test_a_job_over_its_time_limit_fails(vllm: Running) -> None:
    endless = job(CHAT, {"messages": HELLO, "max_tokens": 2000, "ignore_eos": True})
    outcome = await vllm.run(replace(endless, timeout_seconds=0))
    assert (outcome.status, outcome.error_code) == (Status.FAILED, "request_timeout")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--no-such-option"], "no-such-option"),
        (["--max-model-len", "long"], "max-model-len"),
        (["--max-model-len", "99999999"], "max_model_len"),
        (["--enable-auto-tool-choice"], "--tool-call-parser"),
        (["--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
async def test_wrong_arguments_are_refused_in_vllms_words(
    settings: Settings, arguments: list[str], message: str
) -> None:
    engine = VllmEngine(settings, arguments)
    with pytest.raises(EngineArgumentError, match=message):
        await engine.start()
    await engine.stop()
    assert not engine.alive()


async def test_no_model_is_refused_by_name(settings: Settings) -> None:
    with pytest.raises(EngineArgumentError, match="LONGHAUL_MODEL"):
        await VllmEngine(settings.model_copy(update={"model": None}), []).start()


async def test_it_can_be_stopped_while_it_loads(settings: Settings) -> None:
    engine = VllmEngine(settings, ["--enforce-eager"])
    starting = asyncio.create_task(engine.start())
    await until(lambda: starting.done() or bool(engine.pids()))
    pids = engine.pids()
    assert pids
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await engine.stop()
    assert not any(map(lives, pids))


async def test_a_dead_engine_core_gives_no_results(vllm_without_chat_template: Running) -> None:
    running = vllm_without_chat_template
    outcome = await running.run(job(CHAT, REQUESTS[CHAT]))
    assert outcome.status_code == 400
    assert "--chat-template" in parsed(outcome)["error"]["message"]

    endless = {"prompt": "hello", "max_tokens": 2000, "ignore_eos": True}
    tasks = [asyncio.create_task(running.run(job("/v1/completions", endless))) for _ in range(20)]
    processor = running.engine.app.state.engine_client.output_processor  # type: ignore[attr-defined]
    await until(lambda: processor.get_num_unfinished_requests() == len(tasks))
    for pid in running.engine.pids():
        os.kill(pid, signal.SIGKILL)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, EngineDead) for result in results)
    assert not running.engine.alive()
    with pytest.raises(EngineDead):
        await running.run(job("/v1/completions", endless))


async def test_a_pooling_model_embeds_scores_and_reranks(pooling: Running) -> None:
    assert set(pooling.registration.endpoints) == set(POOLING)
    for endpoint, body in POOLING.items():
        validator = jsonschema_rs.validator_for(pooling.registration.endpoints[endpoint])
        assert [error.message for error in validator.iter_errors(body)] == []
        outcome = await pooling.run(job(endpoint, body))
        assert (endpoint, outcome.status_code) == (endpoint, 200)
        assert outcome.usage.input > 0 or endpoint in ("/tokenize", "/detokenize")
