"""The port of a worker or of control says whether it is ready, beside what it counts."""

from collections.abc import Iterator

import httpx
import pytest

from jobs import probes

READY = {"now": False}


@pytest.fixture(scope="module")
def address() -> str:
    return f"http://127.0.0.1:{probes.serve(0, lambda: READY['now'])}"


@pytest.fixture(autouse=True)
def not_ready_yet() -> Iterator[None]:
    yield
    READY["now"] = False


def test_it_lives_before_it_is_ready(address: str) -> None:
    assert httpx.get(f"{address}/livez").status_code == 200
    assert httpx.get(f"{address}/readyz").status_code == 503


def test_it_is_ready_only_while_it_says_so(address: str) -> None:
    READY["now"] = True
    assert httpx.get(f"{address}/readyz").status_code == 200
    READY["now"] = False
    assert httpx.get(f"{address}/readyz").status_code == 503


def test_metrics_are_prometheus_s(address: str) -> None:
    answer = httpx.get(f"{address}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# HELP longhaul_running Jobs in this worker's engine." in answer.text


def test_nothing_else_is_there(address: str) -> None:
    assert httpx.get(f"{address}/").status_code == 404
