"""Tokens of a response, counted in columns."""

import json
from typing import Any

import pytest

from jobs.records import Usage
from worker import usage as usages


def find(body: Any) -> Usage:
    """As it is found in compact JSON and in JSON with spaces."""
    if isinstance(body, bytes):
        return usages.find(body)
    found = {usages.find(json.dumps(body, separators=form).encode()) for form in ((",", ":"), (", ", ": "))}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, Usage(input=5, output=7)),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(input=5, cached=2, output=7, reasoning=3),
        ),
        (
            {
                "input_tokens": 5,
                "input_tokens_details": {"cached_tokens": 1},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(input=5, cached=1, output=7, reasoning=2),
        ),
        (
            {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 1},
            Usage(input=16, cached=10, output=7),
        ),
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(input=5)),
        ({"total_tokens": 5}, Usage(input=5)),
        ({"prompt_tokens": 5, "completion_tokens": 7, "completion_tokens_details": None}, Usage(input=5, output=7)),
        (None, Usage()),
    ],
    ids=["chat", "chat with details", "responses", "messages", "embeddings", "rerank", "details null", "none"],
)
def test_usage_is_counted_in_columns(usage: Any, counted: Usage) -> None:
    assert find({"id": "x", "usage": usage}) == counted


def test_a_usage_that_is_someone_elses_is_not_counted() -> None:
    body = {"usage": {"input_tokens": 5, "output_tokens": 7}, "tools": [{"properties": {"usage": {"type": "string"}}}]}
    assert find(body) == Usage(input=5, output=7)


def test_a_text_that_speaks_of_usage_is_not_counted() -> None:
    body = {"usage": {"prompt_tokens": 5, "completion_tokens": 7}, "note": '"usage":{"prompt_tokens":99}'}
    assert find(body) == Usage(input=5, output=7)


@pytest.mark.parametrize("body", [b"null", b"[1]", b"plain text", b'"usage":', b'{"usage" : 3}', b""])
def test_a_body_without_usage_counts_nothing(body: bytes) -> None:
    assert find(body) == Usage()
