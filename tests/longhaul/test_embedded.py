"""The embedded PostgreSQL and Redis: what survives which end."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import redis

from longhaul.embedded import EmbeddedPostgres, EmbeddedRedis, ServerFailed


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "postgres", {"shared_buffers": "16MB"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


def ask(url: str, statement: str) -> str:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        cursor = connection.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return str(row[0]) if row else ""


def key(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def test_postgres_asks_every_local_user_for_the_password(postgres: EmbeddedPostgres) -> None:
    url = urlsplit(postgres.url.replace("+psycopg", ""))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url.replace("+psycopg", "").replace(str(url.password), "guess"))


def test_postgres_data_is_private_and_the_folders_above_stay_closed(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    for folder in (postgres.data, postgres.folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((postgres.folder / "password").stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_postgres_keeps_its_url_and_data_over_a_crash(postgres: EmbeddedPostgres) -> None:
    url = postgres.url
    ask(url, "CREATE TABLE kept AS SELECT 7 AS n")
    postgres.stop(immediate=True)
    assert not postgres.alive()
    assert postgres.start() == url
    assert ask(url, "SELECT n FROM kept") == "7"


def test_postgres_left_behind_by_a_killed_parent_is_ended_first(postgres: EmbeddedPostgres) -> None:
    ask(postgres.url, "CREATE TABLE kept AS SELECT 7 AS n")
    child = os.fork()
    if child == 0:  # a parent that starts the server and is killed
        EmbeddedPostgres(postgres.folder).start()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert postgres.process is not None and postgres.process.wait(5) == 0
    postgres.start()
    assert ask(postgres.url, "SELECT n FROM kept") == "7"


def test_a_stranger_with_the_number_of_the_old_server_is_left_alone(postgres: EmbeddedPostgres) -> None:
    postgres.stop()
    (postgres.data / "postmaster.pid").write_text(f"{os.getpid()}\n")
    postgres.start()
    assert ask(postgres.url, "SELECT 1") == "1"


def test_postgres_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="no_such_setting"):
        EmbeddedPostgres(tmp_path, {"no_such_setting": "1"}).start()


def test_settings_of_the_caller_are_laid_over_ours(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path, {"autovacuum": "off", "shared_buffers": "16MB"})
    try:
        url = server.start()
        assert [ask(url, f"SHOW {name}") for name in ("autovacuum", "fsync", "jit")] == ["off", "on", "off"]
        assert ask(url, "SHOW server_encoding") == "UTF8"
    finally:
        server.stop()


def test_redis_keeps_its_data_over_a_clean_stop_and_never_evicts(redis_server: EmbeddedRedis) -> None:
    with key(redis_server.url) as client:
        client.set("kept", "7")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    redis_server.stop()
    redis_server.start()
    with key(redis_server.url) as client:
        assert client.get("kept") == "7"


def test_redis_can_come_back_without_its_data_at_the_same_address(redis_server: EmbeddedRedis) -> None:
    url = redis_server.url
    with key(url) as client:
        client.set("lost", "7")
    redis_server.stop(immediate=True)
    redis_server.clear()
    assert redis_server.start() == url
    with key(url) as client:
        assert client.get("lost") is None


def test_redis_asks_for_the_password(redis_server: EmbeddedRedis) -> None:
    port = urlsplit(redis_server.url).port
    with redis.Redis(port=port or 0) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_redis_left_behind_is_ended_first(redis_server: EmbeddedRedis) -> None:
    again = EmbeddedRedis(redis_server.folder)
    again.start()
    assert redis_server.process is not None and redis_server.process.wait(5) == 0
    again.stop()


def test_stopping_twice_or_before_the_start_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "never")
    server.stop()
    server.start()
    server.stop()
    server.stop()
