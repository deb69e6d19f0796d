"""Looks at Redis."""

from collections.abc import Iterator

import pytest
import redis
from redis.exceptions import RedisError

from longhaul.doctor import redis as doctor
from longhaul.doctor.finding import Level
from tests.longhaul.doctor.conftest import faults, said


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """To set what the doctor is to see; it is set back."""
    names = ("maxmemory-policy", "maxmemory", "appendonly", "save")
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        before = {name: client.config_get(name)[name] or "" for name in names}
        yield client
        for name, value in before.items():
            client.config_set(name, value)


async def test_one_that_keeps_all_it_gets_is_well(redis_url: str, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "yes")
    found = await doctor.examine(redis_url, "longhaul")
    assert faults(found) == []
    assert "Redis 6.2" in said(found, "redis")


async def test_one_that_throws_away_what_it_holds_is_trouble(redis_url: str, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    found = await doctor.examine(redis_url, "longhaul")
    assert ("redis policy", Level.TROUBLE) in faults(found)
    assert "allkeys-lru" in said(found, "redis policy")


async def test_one_that_forgets_all_at_a_restart_is_a_warning(redis_url: str, client: redis.Redis) -> None:
    client.config_set("appendonly", "no")
    client.config_set("save", "")
    found = await doctor.examine(redis_url, "longhaul")
    assert ("redis persistence", Level.WARNING) in faults(found)
    assert said(found, "redis persistence") == "A restart empties it."
    client.config_set("save", "3600 1")
    assert "last snapshot" in said(await doctor.examine(redis_url, "longhaul"), "redis persistence")


async def test_one_that_is_nearly_full_is_a_warning(redis_url: str, client: redis.Redis) -> None:
    client.config_set("maxmemory", client.info()["used_memory"])
    assert ("redis memory", Level.WARNING) in faults(await doctor.examine(redis_url, "longhaul"))


async def test_messages_that_nobody_acknowledges_are_a_warning(redis_url: str, client: redis.Redis) -> None:
    client.hset("{longhaul}:unacked", mapping={str(number): "message" for number in range(1001)})
    assert ("redis", Level.WARNING) in faults(await doctor.examine(redis_url, "longhaul"))
    assert ("redis", Level.WARNING) not in faults(await doctor.examine(redis_url, "another"))


async def test_one_that_does_not_answer_is_trouble() -> None:
    with pytest.raises(RedisError) as failed:
        await doctor.examine("redis://127.0.0.1:1/0", "longhaul")
    assert doctor.silent(failed.value).level is Level.TROUBLE
