"""Interactive requests while a batch of 50,000 lines runs, and what they cost the batch.

First an engine of 64 slots that takes 50 ms for each request: the p95 of chats, ten a second, over their p95 on the
idle system. Then real vLLM and the tiny model: the p95 of a chat of 32 tokens each second while a batch runs, over its
p95 while such lines run as plain concurrent requests to vLLM's own API server, 256 at once: twice what its engine runs,
as a client must who wants it to be full, and cannot know how many that are. And the batch's pace meanwhile, over its
pace alone.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable

from bench import model, work
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.files import Batches, write
from bench.load import Connection, generate, post
from bench.serve import vllm_server
from bench.stack import Deployment, deployment, stores
from jobs.records import Json

_SCRIPTED = {
    "LONGHAUL_ENGINE": "tests.engines.scripted:factory",
    "LONGHAUL_TEST_SLOTS": "64",
    "LONGHAUL_TEST_DELAY": "0.05",
}
_LINES = 50_000
_CHATS = 200
_PAUSE_SECONDS = 0.1
_CONCURRENT = 256


async def run(scale: Scale) -> list[Figure]:
    """Three ratios, all about medians of rounds."""
    with stores() as servers:
        async with deployment(servers, "mixed", _SCRIPTED) as ours:
            for part in ("control", "api", "worker"):
                await ours.start(part)
            figures = [await _scripted(scale, ours)]
        served = model.tiny(servers.folder)
        async with deployment(servers, "real", served.environment) as ours:
            for part in ("control", "api"):
                await ours.start(part)
            await ours.start("worker", "--", *served.arguments)
            figures += await _real(scale, ours, await vllm_server(ours, served))
    return figures


async def _scripted(scale: Scale, ours: Deployment) -> Figure:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    batches = Batches.of(ours)
    path = ours.home / "mixed.jsonl"
    write(path, ({**body, "messages": [{"role": "user", "content": f"{n}"}]} for n in range(scale.of(_LINES))))
    file_id = await batches.upload(path)
    chats = scale.of(_CHATS)

    async def busy(pair: int) -> float:
        batch_id = await batches.create(file_id)
        await batches.until(batch_id, "in_progress")
        p95 = await _p95(ours.base_url, ours.key, body, chats, _PAUSE_SECONDS)
        if (await batches.http.get(f"/v1/batches/{batch_id}")).json()["status"] != "in_progress":
            raise RuntimeError("the batch ended before the chats did")
        await batches.http.post(f"/v1/batches/{batch_id}/cancel")
        await batches.until(batch_id, "cancelled")
        return p95

    async def idle(pair: int) -> float:
        return await _p95(ours.base_url, ours.key, body, chats, _PAUSE_SECONDS)

    pairs = await alternate(scale.pairs, busy, idle)
    await batches.close()
    what = f"chats while {scale.of(_LINES):,} lines run, 64 slots of 50 ms: p95 over the idle system's"
    return ratios(what, pairs, "ms", Goal(2, at_most=True))


async def _real(scale: Scale, ours: Deployment, theirs: str) -> list[Figure]:
    batches = Batches.of(ours)
    count = scale.of(2000)
    chat = work.chats(1, model.NAME, 5000)[0] | {"max_tokens": 32}
    rates: list[tuple[float, float]] = []
    p95s: list[tuple[float, float]] = []

    async def batch(seed: int) -> float:
        path = ours.home / "real.jsonl"
        lines = write(path, work.chats(count, model.NAME, seed))
        return count / await batches.seconds([await batches.upload(path)], lines)

    async def plain(seed: int) -> float:
        bodies = work.encoded(work.chats(count, model.NAME, seed))
        load = await generate(theirs, [post(work.CHAT, body, "") for body in bodies], _CONCURRENT, count=count)
        return load.rate

    for pair in range(scale.pairs):
        alone = await batch(10 * pair)
        ours_p95, together = await _beside(
            batch(10 * pair + 1), lambda: _chat_each_second(ours.base_url, ours.key, chat)
        )
        theirs_p95, _ = await _beside(plain(10 * pair + 2), lambda: _chat_each_second(theirs, "", chat))
        p95s.append((ours_p95, theirs_p95))
        rates.append((together, alone))
    await batches.close()
    return [
        ratios(
            "a chat each second beside a batch, tiny model: p95 over vLLM's server", p95s, "ms", Goal(0.5, at_most=True)
        ),
        ratios("the batch's jobs/s meanwhile, over its jobs/s alone", rates, "/s", Goal(0.9)),
    ]


async def _beside(work: Awaitable[float], chats: Callable[[], Awaitable[list[float]]]) -> tuple[float, float]:
    """The p95 of chats while something runs, and what that returned."""
    running = asyncio.ensure_future(work)
    took: list[float] = []
    while not running.done():
        took += await chats()
    return _95th(took), await running


async def _chat_each_second(base_url: str, key: str, body: Json) -> list[float]:
    connection = await Connection.open(base_url)
    sent = time.perf_counter()
    await connection.ask(post(work.CHAT, work.encoded([body])[0], key))
    took = time.perf_counter() - sent
    connection.close()
    await asyncio.sleep(max(0.0, 1 - took))
    return [took * 1000]


async def _p95(base_url: str, key: str, body: Json, count: int, pause: float) -> float:
    """ms of so many chats, one after the other with a pause."""
    connection = await Connection.open(base_url)
    data = post(work.CHAT, work.encoded([body])[0], key)
    took = []
    for _ in range(count):
        sent = time.perf_counter()
        status, answer = await connection.ask(data)
        took.append((time.perf_counter() - sent) * 1000)
        if status != 200:
            raise RuntimeError(f"{status}: {answer.decode()}")
        await asyncio.sleep(pause)
    connection.close()
    return _95th(took)


def _95th(took: list[float]) -> float:
    return statistics.quantiles(took, n=20, method="inclusive")[18] if len(took) > 1 else took[0]
