"""The bell: one ring is heard by one who listens and has room, and none is lost but with Redis itself."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import redis

from jobs import bell
from longhaul.embedded import EmbeddedRedis
from tests.until import until

PREFIX, QUEUE = "longhaul", "model-a"


class Listener:
    """Counts what it hears, while it has room."""

    def __init__(self) -> None:
        self.heard = 0
        self.room = asyncio.Event()
        self.room.set()
        self.over = False

    async def ready(self) -> bool:
        await self.room.wait()
        return not self.over

    async def hear(self) -> bool:
        self.heard += self.room.is_set()
        return self.room.is_set()

    async def listen(self, url: str) -> None:
        await bell.listen(url, PREFIX, QUEUE, self.ready, self.hear)


@asynccontextmanager
async def listening(url: str, count: int = 1) -> AsyncIterator[list[Listener]]:
    listeners = [Listener() for _ in range(count)]
    tasks = [asyncio.create_task(listener.listen(url)) for listener in listeners]
    with redis.Redis.from_url(url) as client:
        await until(lambda: blocked(client) == count)
    yield listeners
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def blocked(client: "redis.Redis") -> int:
    return int(client.info("clients")["blocked_clients"])


Ring = Callable[[], int]


@pytest.fixture
def ring(redis_url: str) -> Ring:
    def once() -> int:
        with redis.Redis.from_url(redis_url) as client:
            return bell.ring(client, PREFIX, QUEUE)

    return once


async def test_who_listens_hears_each_ring(redis_url: str, ring: Ring) -> None:
    async with listening(redis_url) as [listener]:
        for count in (1, 2, 3):
            ring()
            await until(lambda count=count: listener.heard == count)


async def test_one_ring_stands_until_somebody_listens(redis_url: str, ring: Ring) -> None:
    for _ in range(3):
        ring()
    async with AsyncExitStack() as stack:
        listener = Listener()
        stack.callback(asyncio.create_task(listener.listen(redis_url)).cancel)
        await until(lambda: listener.heard == 1)
        await asyncio.sleep(0.1)
        assert listener.heard == 1


async def test_one_of_many_hears_a_ring(redis_url: str, ring: Ring) -> None:
    async with listening(redis_url, 3) as listeners:
        for count in range(1, 7):
            ring()
            await until(lambda count=count: sum(one.heard for one in listeners) == count)
        assert [one.heard for one in listeners] == [2, 2, 2]


async def test_who_has_no_room_passes_the_ring_on(redis_url: str, ring: Ring) -> None:
    async with listening(redis_url, 2) as [busy, idle]:
        busy.room.clear()
        for count in (1, 2, 3):
            ring()
            await until(lambda count=count: idle.heard == count)
        assert busy.heard == 0


async def test_listening_ends_with_the_work(redis_url: str, ring: Ring) -> None:
    listener = Listener()
    task = asyncio.create_task(listener.listen(redis_url))
    listener.over = True
    ring()
    await asyncio.wait_for(task, 20)


async def test_it_says_how_many_tickets_stand(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.rpush(f"{{{PREFIX}}}:{QUEUE}", "one", "two")
        assert bell.ring(client, PREFIX, QUEUE) == 2


async def test_a_redis_that_comes_back_is_listened_to_again(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    try:
        async with listening(server.url) as [listener]:
            server.stop()
            server.start()

            def heard() -> bool:
                with redis.Redis.from_url(server.url) as client:
                    bell.ring(client, PREFIX, QUEUE)
                return listener.heard > 0

            await until(heard)
    finally:
        server.stop()
