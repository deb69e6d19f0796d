"""Synchronous chat at concurrency 128 on real vLLM, over vLLM's own API server with the same engine arguments.

One load generator drives both sides with the same requests, and neither writes a line for each. The engine of the side
that is not measured is idle and uses no CPU. Each pair has prompts of its own, so both prefix caches are cold.
"""

import sys

from bench import model, work
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.load import generate, post
from bench.model import Served
from bench.stack import Child, Deployment, Stores, answers, deployment, stores, until
from longhaul.embedded import free_port

_CONNECTIONS = 128
_REQUESTS = 1024
"""Of one window: eight for each connection."""


async def run(scale: Scale) -> list[Figure]:
    """With the tiny model. A machine with a GPU has cores to spare for the database."""
    goal = Goal(0.97 if await model.has_gpu() else 0.9)
    with stores() as servers:
        return [await measure(scale, servers, model.tiny(servers.folder), "tiny model", goal)]


async def measure(scale: Scale, servers: Stores, served: Served, name: str, goal: Goal) -> Figure:
    """Requests/s of both sides in turn."""
    async with deployment(servers, "serve", served.environment) as ours:
        for part in ("control", "api"):
            await ours.start(part)
        await ours.start("worker", "--", *served.arguments)
        theirs = await vllm_server(ours, served)

        async def rate(base_url: str, seed: int) -> float:
            bodies = work.encoded(work.chats(scale.of(_REQUESTS), model.NAME, seed))
            load = await generate(
                base_url, [post(work.CHAT, body, ours.key) for body in bodies], _CONNECTIONS, count=len(bodies)
            )
            return load.rate

        for base_url in (ours.base_url, theirs):
            await rate(base_url, seed=1000)
        pairs = await alternate(scale.pairs, lambda pair: rate(ours.base_url, pair), lambda pair: rate(theirs, pair))
    return ratios(f"synchronous chat, {_CONNECTIONS} at once, {name}: requests/s over vLLM's server", pairs, "/s", goal)


async def vllm_server(ours: Deployment, served: Served) -> str:
    """The base URL of vLLM's own API server, which ends with our deployment."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--disable-uvicorn-access-log", *served.arguments]
    child = ours.children["vllm"] = await Child.start("vllm", command, served.environment, ours.home)
    base_url = f"http://127.0.0.1:{port}"
    await until(lambda: answers(f"{base_url}/health"), child)
    return base_url
