"""One server that somebody else runs: where its endpoints are, and for how long it wants to be left alone."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.engines.upstream.server import Server, retry_after
from worker.engines.upstream.window import Fixed


def server(url: str) -> Server:
    return Server(url, "", Fixed(4))


@pytest.mark.parametrize(
    ("url", "endpoint", "path"),
    [
        ("http://host:8000/v1", "/v1/chat/completions", "/v1/chat/completions"),
        ("http://host:8000/v1/", "/tokenize", "/tokenize"),
        ("http://host/llm/v1", "/v1/embeddings", "/llm/v1/embeddings"),
        ("http://host/llm/v1", "/v2/rerank", "/llm/v2/rerank"),
        ("https://host/v1beta/openai", "/v1/chat/completions", "/v1beta/openai/chat/completions"),
    ],
)
def test_an_endpoint_is_below_the_base_url(url: str, endpoint: str, path: str) -> None:
    assert server(url).path(endpoint) == path


def test_what_is_beside_openais_api_is_only_known_where_the_url_says_v1() -> None:
    assert (server("http://host/v1").root, server("http://host/llm/v1").root) == ("", "/llm")
    assert server("https://host/v1beta/openai").root is None


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3), ("1.5", 1.5), (" 7 ", 7), ("soon", None), ("", None), ("-1", None)]
)
def test_retry_after_is_in_seconds(value: str, seconds: float | None) -> None:
    assert retry_after([(b"retry-after", value.encode())]) == seconds
    assert retry_after([]) is None


def test_or_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert retry_after([(b"retry-after", at.encode())]) == pytest.approx(60, abs=2)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    assert retry_after([(b"retry-after", past.encode())]) == 0


def test_what_was_sent_before_a_refusal_does_not_lengthen_the_pause() -> None:
    refusing = server("http://host/v1")
    sent_at = time.monotonic()
    for _ in range(20):
        refusing.refused(sent_at, 503, ())
    assert refusing.held <= 1


def test_a_server_is_left_alone_for_ten_minutes_at_most() -> None:
    refusing = server("http://host/v1")
    refusing.refused(time.monotonic(), 429, [(b"retry-after", b"86400")])
    assert refusing.held == pytest.approx(600, abs=1)


def test_there_is_room_only_while_it_is_there_speaks_and_takes_requests() -> None:
    one = server("http://host/v1")
    assert one.room == 0
    one.up = True
    assert one.room == 4
    one.silent = True
    assert one.room == 0
    one.heard()
    assert one.room == 4
    one.refused(time.monotonic(), 503, ())
    assert one.room == 0
