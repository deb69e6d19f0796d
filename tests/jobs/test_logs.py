"""Log lines: ours and the libraries', with the ids that are bound."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from jobs import logs
from jobs.settings import Settings


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_of_ours_carries_what_is_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "worker")
    with structlog.contextvars.bound_contextvars(job_id="job_1"):
        structlog.get_logger().info("done", tokens=3)
    [line] = lines(capsys)
    assert {"part": "worker", "event": "done", "job_id": "job_1", "tokens": 3, "level": "info"}.items() <= line.items()
    assert str(line["timestamp"]).endswith("Z")


def test_a_librarys_line_looks_like_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "api")
    logging.getLogger("uvicorn.error").warning("Invalid %s", "request", extra={"peer": "me"})
    [line] = lines(capsys)
    assert {"part": "api", "event": "Invalid request", "logger": "uvicorn.error", "peer": "me"}.items() <= line.items()


def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"), "control")
    try:
        raise ValueError("odd")
    except ValueError:
        structlog.get_logger().exception("failed")
    [line] = lines(capsys)
    assert "ValueError: odd" in str(line["exception"])


def test_what_is_below_the_level_is_not_said(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_level="WARNING"), "api")
    structlog.get_logger().info("small talk")
    logging.getLogger("celery").info("small talk")
    assert lines(capsys) == []


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="text"), "api")
    structlog.get_logger().info("ready", port=8000)
    said = capsys.readouterr().err
    assert "ready" in said and "8000" in said and not said.startswith("{")
    assert sys.stderr.isatty() or "\x1b" not in said
