"""2,000 chats as jobs through the forwarding engine, over the same chats sent straight to the server behind it.

One vLLM API server of its own serves both sides in turn: ours by a worker that knows it as a URL, theirs by a load
generator that keeps 256 connections busy. The chats of the two sides differ in their first word, so neither finds the
other's in the prefix cache; each pair has chats of its own.
"""

from bench import model, work
from bench.batch import seconds_of
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.load import generate, post
from bench.model import Served
from bench.serve import vllm_server
from bench.stack import Stores, deployment, stores
from jobs.records import Json

_JOBS = 2000
_CONNECTIONS = 256


async def run(scale: Scale) -> list[Figure]:
    """With the tiny model."""
    with stores() as servers:
        return [await measure(scale, servers, model.tiny(servers.folder), "tiny model")]


async def measure(scale: Scale, servers: Stores, served: Served, name: str) -> Figure:
    """Jobs/s over requests/s, in turn."""
    count = scale.of(_JOBS)
    environment = {**served.environment, "LONGHAUL_ENGINE_CONCURRENCY": str(_CONNECTIONS)}
    async with deployment(servers, "forward", environment) as ours:
        upstream = await vllm_server(ours, served)
        for part in ("control", "api"):
            await ours.start(part)
        await ours.start("worker", "--engine", f"{upstream}/v1")

        async def our_rate(pair: int) -> float:
            return count / await seconds_of(ours, _chats(count, pair, "ours"))

        async def their_rate(pair: int) -> float:
            bodies = work.encoded(_chats(count, pair, "theirs"))
            requests = [post(work.CHAT, body, ours.key) for body in bodies]
            return (await generate(upstream, requests, _CONNECTIONS, count=count)).rate

        for rate in (our_rate, their_rate):
            await rate(1000)
        pairs = await alternate(scale.pairs, our_rate, their_rate)
    what = f"{count:,} chat jobs forwarded to vLLM's server, {name}: jobs/s over {_CONNECTIONS} at once sent straight"
    return ratios(what, pairs, "/s", Goal(0.95))


def _chats(count: int, seed: int, side: str) -> list[Json]:
    chats = work.chats(count, model.NAME, seed)
    for chat in chats:
        [message] = chat["messages"]
        message["content"] = f"{side} {message['content']}"
    return chats
