"""The forwarding engine before real servers: answers, streams, cancels, refusals, deaths and returns."""

import asyncio
import json
from pathlib import Path

import pytest

from jobs.records import Json, Outcome
from jobs.settings import Settings
from jobs.states import Status
from tests.engines.script import ENDPOINTS
from tests.engines.served import Served, card, openapi, served
from tests.journal import read
from tests.until import until
from tests.worker.test_assemble import JOB
from tests.worker.upstream.conftest import CHAT, MESSAGES, content, engine_of, run, started
from worker.attempt import BackOff
from worker.dialect import extended
from worker.engines import EngineArgumentError, EngineDead, JobLost, load
from worker.engines.upstream.forms import ENDPOINTS as OPENAIS
from worker.replay import Replay


async def test_a_chat_is_answered_by_the_server(server: Served) -> None:
    async with started(server) as engine:
        assert content(await run(engine, text="hello")) == "hello"
    [(path, headers, body)] = server.asked
    assert (path, body["request_id"], headers["x-request-id"]) == (CHAT, JOB.id.hex, JOB.id.hex)


async def test_it_describes_what_the_server_says_of_itself(server: Served) -> None:
    family = [card("scripted", root="/m", max_model_len=4096), card("other-name", root="/m")]
    server.gets["/v1/models"] = (200, {"data": [*family, card("lora", root="/l", parent="scripted")]})
    async with started(server) as engine:
        found = await engine.describe()
    assert (found.model, found.aliases, found.adapters, found.context_length) == (
        "scripted", ("other-name",), ("lora",), 4096,
    )  # fmt: skip
    assert set(found.endpoints) == {CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings"}
    assert "script" in found.endpoints[CHAT]["properties"]


async def test_a_server_without_schemas_gets_openais_for_what_it_serves(server: Served) -> None:
    server.gets["/openapi.json"] = (404, {})
    server.posts |= {CHAT: (400, {}, {}), "/v1/completions": (404, {}, {}), "/v1/embeddings": (501, {}, {})}
    server.posts["/v1/responses"] = (422, {}, {})
    async with started(server) as engine:
        found = await engine.describe()
    assert set(found.endpoints) == {CHAT, "/v1/responses"}
    assert "script" not in found.endpoints[CHAT]["properties"]
    assert "force_prompt" not in extended(found).endpoints[CHAT]["properties"]
    assert {"best_of", "conversation_id"} <= extended(found).endpoints[CHAT]["properties"].keys()


async def test_a_stream_comes_event_by_event(server: Served) -> None:
    body = {"model": "scripted", "messages": MESSAGES, "stream": True, "script": {"tokens": 3, "pace": 0.05}}
    async with (
        started(server) as engine,
        Replay(engine.app, CHAT, json.dumps(body).encode()) as response,
    ):
        assert (response.status, dict(response.headers)[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
        chunks = [chunk async for chunk in response]
    assert len(chunks) >= 4, "they were not held back"
    assert chunks[-1].endswith(b"data: [DONE]\n\n")


async def test_a_streams_outcome_is_that_of_the_plain_request(server: Served) -> None:
    async with started(server) as engine:
        assert content(await run(engine, {"stream": True}, text="hello you")) == "hello you"


async def test_who_is_cancelled_hangs_up(server: Served, journal: Path) -> None:
    async with started(server) as engine:
        for stream in (False, True):
            body = {"request_id": f"s{stream}", "stream": stream}
            job = asyncio.create_task(run(engine, body, delay=60))
            await until(lambda: [entry.event for entry in read(journal)][-1:] == ["start"])
            job.cancel()
            await until(lambda: [entry.event for entry in read(journal)][-1:] == ["abort"])


async def test_connections_are_kept_for_the_next_request(server: Served) -> None:
    async with started(server) as engine:
        for _ in range(5):
            await run(engine)
        assert server.connections == 1


async def test_a_key_of_its_own_goes_with_every_request(server: Served) -> None:
    async with started(server, engine_key="sk-upstream") as engine:
        await run(engine)
    assert server.asked[0][1]["authorization"] == "Bearer sk-upstream"


async def test_what_speaks_to_this_queue_is_not_passed_on(server: Served) -> None:
    async with started(server) as engine:
        await run(engine, {"metadata": {"row": "1"}, "service_tier": "flex", "user": "u"})
    assert server.asked[0][2].keys() >= {"user", "model"}
    assert server.asked[0][2].keys().isdisjoint({"metadata", "service_tier"})


async def test_a_refusal_of_the_request_is_its_result(server: Served) -> None:
    async with started(server) as engine:
        outcome = await run(engine, fail=400)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 400)


@pytest.mark.parametrize("status", [401, 402, 429, 502, 503, 504, 529])
async def test_trouble_hands_the_job_back_and_pauses_the_claims(server: Served, status: int) -> None:
    async with started(server) as engine:
        back = await run(engine, fail=status, retry_after=7)
        assert isinstance(back, BackOff)
        assert 6 < back.seconds <= 7


async def test_without_a_retry_after_the_pauses_grow(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.engines.upstream.server._SHORTEST_PAUSE", 0.1)
    async with started(server) as engine:

        async def pause() -> float:
            back = await run(engine, fail=503)
            assert isinstance(back, BackOff)
            await asyncio.sleep(back.seconds)
            return back.seconds

        assert await pause() <= 0.1 < await pause() <= 0.2 < await pause() <= 0.4
        await run(engine)
        assert await pause() <= 0.1


async def test_a_server_that_refuses_does_not_hold_up_another(server: Served) -> None:
    server.posts[CHAT] = (429, {}, {"retry-after": "60"})
    async with served() as other, started(server, other, engine_concurrency=4) as engine:
        assert engine.slots == 8
        outcomes = [await run(engine, text="hello") for _ in range(3)]
        assert engine.slots == 4
    assert BackOff(0) in outcomes
    assert [content(outcome) for outcome in outcomes if isinstance(outcome, Outcome)] == ["hello"] * 2


async def test_requests_go_where_the_most_room_is(server: Served) -> None:
    async with served() as other, started(server, other, engine_concurrency=4) as engine:
        jobs = [asyncio.create_task(run(engine, delay=60)) for _ in range(6)]
        await until(lambda: len(server.asked) == len(other.asked) == 3)
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)


async def test_a_lost_connection_loses_its_job_and_no_other(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Lost sooner, nobody could know that the server had taken it.
    monkeypatch.setattr("worker.engines.upstream.connection._STALE_SECONDS", 0)
    async with started(server) as engine:
        job = asyncio.create_task(run(engine, delay=60))
        await until(lambda: bool(server.asked))
        server.hang_up()
        with pytest.raises(JobLost):
            await job
        assert engine.alive()
        assert content(await run(engine, text="hello")) == "hello"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_dies_is_a_dead_engine(server: Served, stream: bool) -> None:
    async with started(server) as engine:
        job = asyncio.create_task(run(engine, {"stream": stream}, delay=0 if stream else 60, pace=60))
        await until(lambda: bool(server.asked))
        await server.die()
        with pytest.raises(EngineDead):
            await job
        assert not engine.alive()


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_dying_server_says_is_no_result(server: Served, stream: bool) -> None:
    """vLLM answers 500, or ends its streams with an error, and only then goes."""
    harm: Json = {"break_after": 1} if stream else {}
    async with started(server) as engine:
        server.gets["/health"] = (503, {})
        with pytest.raises(EngineDead):
            await run(engine, {"stream": stream}, fail=500, **harm)


async def test_a_500_of_a_healthy_server_is_the_jobs_result(server: Served) -> None:
    async with started(server) as engine:
        outcome = await run(engine, fail=500)
        assert isinstance(outcome, Outcome)
        assert (outcome.status_code, engine.alive()) == (500, True)


async def test_an_idle_server_that_goes_is_missed(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    async with started(server) as engine:
        await server.die()
        await until(lambda: not engine.alive())


async def test_one_server_of_two_goes_and_comes_back(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    async with served() as other, started(server, other, engine_concurrency=4) as engine:
        await server.die()
        await until(lambda: engine.slots == 4)
        assert engine.alive()
        assert content(await run(engine, text="hello")) == "hello"
        async with served(Served(server.port)):
            await until(lambda: engine.slots == 8)


async def test_a_server_that_does_not_answer_its_probe_gets_nothing_until_it_does(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    quickly(monkeypatch)
    async with served() as other, started(server, other, engine_concurrency=4) as engine:
        server.silent = True
        await until(lambda: engine.slots == 4)
        assert engine.alive()
        server.silent = False
        await until(lambda: engine.slots == 8)


async def test_a_server_is_met_while_another_keeps_silent(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    async with served() as silent:
        silent.silent = True
        late = Served()
        async with started(silent, server, late, engine_concurrency=4) as engine:
            monkeypatch.setattr("worker.engines.upstream.server._PROBE_SECONDS", 3600)
            assert engine.slots == 4
            async with served(late):
                await until(lambda: engine.slots == 8)


async def test_it_waits_for_a_server_that_is_not_there_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    late = Served()
    late.gets["/health"] = (503, {"error": {"message": "Loading model"}})
    engine = engine_of(late)
    starting = asyncio.create_task(engine.start())
    await asyncio.wait({starting}, timeout=0.1)
    assert not starting.done() and not engine.alive()
    async with served(late):
        await asyncio.wait({starting}, timeout=0.1)
        assert not starting.done()
        late.gets["/health"] = (200, {})
        await starting
        assert engine.alive()
        await engine.stop()


async def test_what_cannot_be_reached_was_not_sent(server: Served) -> None:
    async with started(server) as engine:
        await server.die()
        assert isinstance(await run(engine), BackOff)
        assert not engine.alive()


async def test_a_model_is_chosen_by_name(server: Served) -> None:
    server.gets["/v1/models"] = (200, {"data": [card("small"), card("large")]})
    for chosen in (engine_of(server, model="large"), engine_of(server, arguments=("--model", "large"))):
        await chosen.start()
        assert (await chosen.describe()).model == "large"
        await chosen.stop()


@pytest.mark.parametrize(
    ("models", "settings", "said"),
    [
        ((200, {"data": [card("small"), card("large")]}), {}, "2 models: name one in LONGHAUL_MODEL.*small, large"),
        ((200, {"data": [card("small")]}), {"model": "large"}, "no model 'large'.*small"),
        ((404, {}), {}, "does not list its models: name one"),
        ((401, {}), {}, "refuses the key.*LONGHAUL_ENGINE_KEY"),
        ((200, {"hello": "world"}), {}, "not the base URL of an OpenAI-compatible API"),
    ],
)
async def test_what_can_never_be_served_ends_the_start_with_a_message(
    server: Served, models: tuple[int, Json], settings: Json, said: str
) -> None:
    server.gets["/v1/models"] = models
    with pytest.raises(EngineArgumentError, match=said):
        await engine_of(server, **settings).start()


@pytest.mark.parametrize(
    ("engine", "arguments", "settings"),
    [
        ("http://127.0.0.1/v1", ["--tensor-parallel-size", "2"], {}),
        ("ftp://127.0.0.1/v1", [], {}),
        ("http://127.0.0.1/v1,other", [], {}),
        ("http://127.0.0.1:many/v1", [], {}),
        ("http://me:secret@127.0.0.1/v1", [], {}),
        ("http://127.0.0.1/v1", [], {"engine_key": "a,b"}),
    ],
)
def test_what_makes_no_engine_is_refused(engine: str, arguments: list[str], settings: Json) -> None:
    with pytest.raises(EngineArgumentError):
        load(Settings(engine=engine, **settings), arguments)


async def test_two_servers_have_to_serve_one_model(server: Served) -> None:
    async with served() as other:
        other.gets["/v1/models"] = (200, {"data": [card("another")]})
        with pytest.raises(EngineArgumentError, match=r"no model 'scripted'\. It has: another"):
            await engine_of(server, other).start()


async def test_a_server_that_comes_back_with_less_is_not_used(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)
    async with served() as other, started(server, other, engine_concurrency=4) as engine:
        await engine.describe()
        await server.die()
        await until(lambda: engine.slots == 4)
        lesser = Served(server.port)
        lesser.gets["/openapi.json"] = (404, {})
        lesser.posts |= {path: (404, {}, {}) for path in ENDPOINTS if path != CHAT}
        async with served(lesser):
            await until(lambda: len(lesser.asked) >= 2 * len(OPENAIS))
            assert engine.slots == 4
            lesser.gets["/openapi.json"] = (200, openapi())
            await until(lambda: engine.slots == 8)


async def test_llama_cpp_tells_its_slots_and_gets_a_few_more(server: Served) -> None:
    own = card("scripted", aliases=["scripted", "llama"], owned_by="llamacpp", meta={"n_ctx_train": 2048})
    server.gets["/v1/models"] = (200, {"data": [own]})
    server.gets["/props"] = (200, {"total_slots": 4, "default_generation_settings": {"n_ctx": 512}})
    async with started(server) as engine:
        found = await engine.describe()
        assert (engine.slots, found.context_length, found.aliases) == (5, 512, ("llama",))


def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the servers all the time."""
    monkeypatch.setattr("worker.engines.upstream.engine._LOOK_SECONDS", 0.02)
    monkeypatch.setattr("worker.engines.upstream.server._PROBE_SECONDS", 0.1)
