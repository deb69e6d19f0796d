"""What `longhaul batch check` finds in a file, and what it says the file costs."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.records import Json
from jobs.settings import Settings
from longhaul.batch_check import Check, in_words

CHAT = "/v1/chat/completions"


def line(custom_id: str, content: str = "Hi.", url: str = CHAT, **body: Any) -> Json:
    body = {"model": "m", "messages": [{"role": "user", "content": content}]} | body
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


async def checked(path: Path, lines: list[Any], **options: Any) -> tuple[Check, list[Json]]:
    path = path / "in.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    check = Check(CHAT, Settings(), **options)
    return check, [fault async for fault in check.faults(path)]


async def test_a_good_file_has_no_faults(tmp_path: Path) -> None:
    check, faults = await checked(tmp_path, [line("a"), "", line("b", temperature=1)])
    assert faults == []
    assert check.good
    assert check.estimate(1)["requests"] == 2


@pytest.mark.parametrize(
    ("bad", "code", "param", "fails"),
    [
        ("{", "invalid_json_line", None, "batch"),
        (line("a") | {"custom_id": None}, "missing_required_parameter", "custom_id", "batch"),
        (line("a") | {"custom_id": 7}, "invalid_value", "custom_id", "batch"),
        (line("first"), "duplicate_custom_id", "custom_id", "batch"),
        (line("a") | {"method": "GET"}, "invalid_method", "method", "batch"),
        (line("a", url="/v1/completions"), "invalid_url", "url", "batch"),
        (line("a") | {"body": "text"}, "invalid_type", "body", "batch"),
        (line("a", stream=True), "streaming_unsupported", "body.stream", "batch"),
        (line("a", messages=None), "invalid_request", "body.messages", "batch"),
        (line("a", model="other"), "mismatched_model", "body.model", "batch"),
        (line("a", temperature=-1), "integer_below_min_value", "temperature", "line"),
        (line("a", top_p=2), "integer_above_max_value", "top_p", "line"),
        (line("a", service_tier="best"), "invalid_value", "service_tier", "line"),
        (line("a", priority=1), "unsupported_parameter", "priority", "line"),
    ],
)
async def test_a_bad_line_is_told_as_the_server_tells_it(
    tmp_path: Path, bad: Any, code: str, param: str | None, fails: str
) -> None:
    check, faults = await checked(tmp_path, [line("first"), "", bad, line("last")])
    [fault] = faults
    assert fault["message"]
    assert (fault["line"], fault["code"], fault["param"], fault["fails"]) == (3, code, param, fails)
    assert not check.good
    assert f"1 fail{' alone' if fails == 'line' else ' the whole batch'}" in in_words(check.estimate(1))


async def test_every_line_must_ask_for_the_model_that_is_given(tmp_path: Path) -> None:
    _, faults = await checked(tmp_path, [line("a"), line("b", model="n")], model="n")
    assert [(fault["line"], fault["code"]) for fault in faults] == [(1, "model_not_found")]


async def test_a_schema_knows_what_the_engine_takes(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"messages": {"type": "array"}, "top_k": {"type": "integer"}}}
    lines = [line("a", top_k=2), line("b", top_k="2"), line("c", tip_k=2)]
    _, by_openai = await checked(tmp_path, lines)
    assert by_openai == []
    check, faults = await checked(tmp_path, lines, schemas={CHAT: schema})
    assert [(fault["line"], fault["param"], fault["fails"]) for fault in faults] == [
        (2, "top_k", "line"),
        (3, "tip_k", "line"),
    ]
    assert "--schemas" not in in_words(check.estimate(1))


async def test_an_endpoint_that_is_not_served_fails_the_batch(tmp_path: Path) -> None:
    check, faults = await checked(tmp_path, [line("a")], schemas={"/v1/embeddings": {}})
    assert [fault["param"] for fault in faults] == ["endpoint"]
    assert not check.good


async def test_an_empty_file_is_not_good(tmp_path: Path) -> None:
    check, faults = await checked(tmp_path, ["", ""])
    assert [fault["code"] for fault in faults] == ["empty_file"]
    assert not check.good


async def test_repeats_of_deterministic_requests_are_counted_as_copies(tmp_path: Path) -> None:
    lines = [line(str(number), temperature=0, max_tokens=10) for number in range(4)]
    lines += [line(f"random {number}", max_tokens=10) for number in range(4)]
    check, _ = await checked(tmp_path, lines)
    estimate = check.estimate(1)
    assert estimate["copies"] == 3
    assert estimate["max_output_tokens"] == 50


async def test_the_beginnings_that_prompts_share_are_measured(tmp_path: Path) -> None:
    document = "".join(f"{number} is a word of the document. " for number in range(600))
    alone, _ = await checked(tmp_path, [line(str(number), f"{number} {document}") for number in range(4)])
    shared, _ = await checked(tmp_path, [line(str(number), f"{document} {number}") for number in range(4)])
    assert alone.estimate(1)["shared_prefix"] == 0
    assert 0.2 < shared.estimate(1)["shared_prefix"] < 0.75
    seconds = [check.estimate(1, 1000)["seconds"] for check in (alone, shared)]
    assert seconds[1] < seconds[0]


async def test_output_without_a_limit_is_said(tmp_path: Path) -> None:
    check, _ = await checked(tmp_path, [line("a"), line("b", max_tokens=7, n=2), line("c", max_completion_tokens=5)])
    estimate = check.estimate(2, 10)
    assert (estimate["max_output_tokens"], estimate["without_output_limit"]) == (19, 1)
    words = in_words(estimate)
    assert "1 requests without a limit" in words
    assert "splits into 2 batches" in words
