"""Streams: the time to the first token, tokens a second at concurrency 64, and what an open stream costs the API.

The first two on real vLLM over vLLM's own API server with the same engine arguments, as in `bench.serve`; the engine of
the side that is not measured is idle. The last with the scripted engine, whose streams are slow and all open at once.
"""

import asyncio
import statistics

from bench import model, work
from bench.figure import Figure, Goal, Scale, alternate, ratios, said, say
from bench.listen import Heard, listen
from bench.load import post
from bench.model import Served
from bench.serve import vllm_server
from bench.stack import Deployment, Stores, deployment, stores
from jobs.records import Json

_CONNECTIONS = 64
_REQUESTS = 512
"""Of one window: eight for each connection."""
_ALONE = 100
"""Of one round and side, one at a time."""
_OPEN = 500
_TOKENS = 40
_PACE = 0.25


async def run(scale: Scale) -> list[Figure]:
    """With the tiny model. A machine with a GPU has cores to spare for the database."""
    goal = Goal(0.97 if await model.has_gpu() else 0.75)
    with stores() as servers:
        figures = await _beside_vllm(scale, servers, model.tiny(servers.folder), goal)
        return [*figures, await _memory(scale, servers)]


async def _beside_vllm(scale: Scale, servers: Stores, served: Served, goal: Goal) -> list[Figure]:
    async with deployment(servers, "streaming", served.environment) as ours:
        for part in ("control", "api"):
            await ours.start(part)
        await ours.start("worker", "--", *served.arguments)
        theirs = await vllm_server(ours, served)

        async def rate(base_url: str, seed: int) -> float:
            chats = work.chats(scale.of(_REQUESTS), model.NAME, seed)
            heard = await _streamed(ours, base_url, chats, _CONNECTIONS)
            return work.tokens(chats) / heard.seconds

        async def first(base_url: str, seed: int) -> float:
            chats = work.chats(scale.of(_ALONE), model.NAME, seed)
            return (await _streamed(ours, base_url, chats, 1)).first_p50_ms

        for base_url in (ours.base_url, theirs):
            await rate(base_url, seed=1000)
        alone = await alternate(
            scale.pairs, lambda pair: first(ours.base_url, 2000 + pair), lambda pair: first(theirs, 2000 + pair)
        )
        pairs = await alternate(scale.pairs, lambda pair: rate(ours.base_url, pair), lambda pair: rate(theirs, pair))
    mine, other = (said(statistics.median(side), "ms") for side in zip(*alone, strict=True))
    added = [our - their for our, their in alone]
    return [
        Figure("streaming chat, one at a time: added p50 to the first token", added, "ms", Goal(10, True), mine, other),
        ratios(f"streaming chat, {_CONNECTIONS} at once: tokens/s over vLLM's server", pairs, "/s", goal),
    ]


async def _streamed(ours: Deployment, base_url: str, chats: list[Json], connections: int) -> Heard:
    bodies = work.encoded([chat | {"stream": True} for chat in chats])
    return await listen(base_url, [post(work.CHAT, body, ours.key) for body in bodies], connections)


async def _memory(scale: Scale, servers: Stores) -> Figure:
    """KB of the API for each open stream, while none of them misses a token."""
    count = scale.of(_OPEN)
    script = {"tokens": _TOKENS, "pace": _PACE}
    environment = {"LONGHAUL_ENGINE": "tests.engines.scripted:factory", "LONGHAUL_TEST_SLOTS": str(2 * _OPEN)}
    sizes: list[float] = []
    async with deployment(servers, "open_streams", environment) as ours:
        for part in ("control", "worker"):
            await ours.start(part)
        api = await ours.start("api")
        chats = [chat | {"model": "scripted", "script": script} for chat in work.chats(count, "scripted", seed=0)]
        await _streamed(ours, ours.base_url, chats[:2], 2)
        for _ in range(min(scale.pairs, 3)):
            before = api.resident_mb()
            hearing = asyncio.create_task(_streamed(ours, ours.base_url, chats, count))
            most = before
            while not hearing.done():
                most = max(most, api.resident_mb())
                await asyncio.wait({hearing}, timeout=_PACE)
            heard = hearing.result()
            expected = count * (_TOKENS + 1)
            if heard.events != expected:
                raise RuntimeError(f"{heard.events} events of {expected} arrived")
            sizes.append((most - before) * 1000 / count)
            say(f"  {count} streams: {sizes[-1]:.1f} KB each")
    return Figure(f"memory of an API process for each of {count} open streams", sizes, "KB", Goal(100, True))
