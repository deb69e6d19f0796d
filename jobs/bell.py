"""A bell per engine's queue: rung when jobs came, heard by one worker that has a slot free.

A ticket goes through two threads of Celery before it reaches a worker's loop, this is a blocking pop on that loop. One
ring at most stands in Redis, for whoever has a slot free next, and who cannot take all that came passes it on.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
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


async def listen(
    redis_url: str,
    prefix: str,
    queue: str,
    ready: Callable[[], Awaitable[bool]],
    hear: Callable[[], Awaitable[bool]],
) -> None:
    """Await `hear()` at each ring that comes to us, across reconnections, until `ready()`, which is awaited before
    listening, answers False. Where `hear()` does, there may be more than we can take: the ring goes on to another."""
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
                reachable = True
                if rung and not await hear():
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        await redis.rpush(_key(prefix, queue), b"")
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
