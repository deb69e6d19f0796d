"""Tickets: how many there are, and what happens to them when Redis is away."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jobs.settings import Settings
from jobs.tickets import JOBS_PER_TICKET, Publisher
from longhaul.embedded import EmbeddedRedis


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def tickets(client: "redis.Redis", queue: str) -> int:
    length = client.llen(f"{{longhaul}}:{queue}")
    assert isinstance(length, int)
    return length


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def published(settings: Settings, *asked: tuple[str, int, int]) -> None:
    publisher = Publisher(settings)
    publisher.start()
    for queue, jobs, window in asked:
        publisher.publish(queue, jobs, window)
    publisher.stop()


def test_one_job_is_one_ticket(settings: Settings, client: "redis.Redis") -> None:
    published(settings, ("a", 1, 8))
    assert tickets(client, "a") == 1


def test_sixteen_jobs_share_a_ticket(settings: Settings, client: "redis.Redis") -> None:
    published(settings, ("a", JOBS_PER_TICKET, 8), ("b", JOBS_PER_TICKET + 1, 8))
    assert (tickets(client, "a"), tickets(client, "b")) == (1, 2)


def test_no_more_stand_in_the_list_than_the_window(settings: Settings, client: "redis.Redis") -> None:
    for _ in range(3):
        published(settings, ("a", 50_000, 8))
    assert tickets(client, "a") == 8


def test_without_a_worker_there_is_no_window_and_no_ticket(settings: Settings, client: "redis.Redis") -> None:
    published(settings, ("a", 100, 0))
    assert tickets(client, "a") == 0


def test_what_is_said_while_the_thread_is_busy_is_added_up(settings: Settings, client: "redis.Redis") -> None:
    publisher = Publisher(settings)
    for _ in range(10 * JOBS_PER_TICKET):
        publisher.publish("a", 1, 100)
    publisher.start()
    publisher.stop()
    assert tickets(client, "a") == 10


def test_the_bell_stands_for_the_first_ticket(settings: Settings, client: "redis.Redis") -> None:
    publisher = Publisher(settings)
    publisher.publish("a", JOBS_PER_TICKET, 8, bell=True)
    publisher.publish("b", JOBS_PER_TICKET + 1, 8, bell=True)
    publisher.start()
    publisher.stop()
    assert (tickets(client, "a"), tickets(client, "b")) == (0, 1)
    assert client.llen("{longhaul}:bell:a") == 1


def test_a_ring_that_nobody_heard_yet_is_as_good_as_a_new_one(settings: Settings, client: "redis.Redis") -> None:
    for _ in range(3):
        publisher = Publisher(settings)
        publisher.publish("a", 1, 8, bell=True)
        publisher.start()
        publisher.stop()
    assert (tickets(client, "a"), client.llen("{longhaul}:bell:a")) == (0, 1)


def test_stopping_before_the_start_is_harmless(settings: Settings) -> None:
    publisher = Publisher(settings)
    publisher.publish("a", 1, 1)
    publisher.stop()


def test_a_redis_that_went_away_loses_tickets_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    publisher = Publisher(settings.model_copy(update={"redis_url": server.url}))
    publisher.start()
    with redis.Redis.from_url(server.url) as client:
        publisher.publish("a", 1, 8)
        until(lambda: tickets(client, "a") == 1)
        server.stop()
        for _ in range(100):
            publisher.publish("a", 1, 8)  # returns, though nothing listens
        server.start()

        def again() -> bool:
            publisher.publish("b", 1, 8)
            return tickets(client, "b") > 0

        until(again)
        publisher.stop()
        server.stop()


def test_an_emptied_redis_takes_tickets_at_once(settings: Settings, client: "redis.Redis") -> None:
    publisher = Publisher(settings)
    publisher.start()
    publisher.publish("a", 1, 8)
    until(lambda: tickets(client, "a") == 1)
    client.flushall()
    publisher.publish("a", 1, 8)
    publisher.stop()
    assert tickets(client, "a") == 1


def test_with_a_redis_that_nobody_reaches_it_still_stops(settings: Settings) -> None:
    published(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}), ("a", 1, 8))
