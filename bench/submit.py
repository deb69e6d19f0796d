"""Durable asynchronous submits/s on one API process: 64 keep-alive connections, a key, vLLM's own request schemas.

The load generator is a process of its own; where its idle share is near 0 it was the generator that was measured.
Every answer is a 202 whose job is committed, with fsync on.
"""

from bench import model, work
from bench.figure import Figure, Goal, Scale, say, windows
from bench.load import Load, generate, post
from bench.stack import Deployment, deployment, stores

CONNECTIONS = 64


async def run(scale: Scale) -> list[Figure]:
    """Submits/s in windows one after the other; nothing runs the jobs meanwhile."""
    registration = model.registration(model.NAME, await model.schemas())
    with stores() as servers:
        async with deployment(servers) as ours:
            await ours.know(registration)
            await ours.start("api")
            await window(ours, model.NAME, 1)

            async def rate(_: int) -> float:
                load = await window(ours, model.NAME, scale.seconds)
                say(f"  p50 {load.p50_ms:.1f} ms, p99 {load.p99_ms:.1f} ms, generator idle {load.idle:.0%}")
                return load.rate

            rates = await windows(scale.pairs, rate)
    return [
        Figure(f"durable asynchronous submits, one API process, {CONNECTIONS} connections", rates, "/s", Goal(3000))
    ]


async def window(ours: Deployment, name: str, seconds: float) -> Load:
    """Submit chats to this model for so long."""
    return await generate(ours.base_url, submits(name, ours.key), CONNECTIONS, seconds=seconds)


def submits(name: str, key: str) -> list[bytes]:
    """A thousand different chats that ask to be done later."""
    bodies = work.encoded(work.chats(1000, name, seed=0))
    return [post(work.CHAT, body, key, prefer="respond-async") for body in bodies]
