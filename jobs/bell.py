"""A bell per engine's queue: rung when jobs came, heard by one worker that has a slot free.

A ticket goes through two threads of Celery before it reaches a worker's loop, this is a blocking pop on that loop. One
ring at most stands in Redis: whoever has a slot free next hears it at once, so it says all that a ticket would.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import structlog
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

_LISTEN_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 5
"""So long after it should have answered, Redis is taken for lost."""
_RETRY_SECONDS: Final = 0.5
_log = structlog.get_logger()


def ring(redis: "Redis", prefix: str, queue: str) -> int:
    """Ring once, and say in the same round trip how many tickets stand in the queue."""
    with redis.pipeline(transaction=False) as pipeline:
        pipeline.rpush(_key(prefix, queue), b"")
        pipeline.ltrim(_key(prefix, queue), 0, 0)
        pipeline.llen(f"{{{prefix}}}:{queue}")
        _, _, tickets = pipeline.execute()
    return int(tickets)


async def rings(
    redis_url: str, prefix: str, queue: str, ready: Callable[[], Awaitable[bool]], free: Callable[[], bool]
) -> AsyncGenerator[None, None]:
    """Yield at each ring that is for us, across reconnections, until `ready()`, which is awaited before listening,
    answers False. A ring that comes when we are no longer `free()` is passed on to another."""
    reachable = True
    while True:
        # No socket timeout: with it redis-py uses `wait_for`, which in Python 3.11 can swallow a cancellation.
        redis = AsyncRedis.from_url(
            redis_url, socket_timeout=None, socket_connect_timeout=2, socket_keepalive=True, retry=Retry(NoBackoff(), 0)
        )
        try:
            while await ready():
                async with asyncio.timeout(_LISTEN_SECONDS + _SILENCE_SECONDS):
                    rung = await redis.blpop([_key(prefix, queue)], timeout=_LISTEN_SECONDS)
                    if rung and not free():
                        await redis.rpush(_key(prefix, queue), b"")
                        continue
                reachable = True
                if rung:
                    yield
            return
        except (RedisError, OSError, TimeoutError) as error:
            if reachable:
                _log.warning("the bell is not heard, Redis does not answer", error=str(error))
            reachable = False
        finally:
            with contextlib.suppress(RedisError, OSError):
                await redis.aclose()
        await asyncio.sleep(_RETRY_SECONDS)


def _key(prefix: str, queue: str) -> str:
    return f"{{{prefix}}}:bell:{queue}"
