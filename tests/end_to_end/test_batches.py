"""Batches on real vLLM, by OpenAI's SDK: every endpoint that the engines serve, and what only an engine refuses."""

import json
import time
from typing import Any

import pytest
from openai import OpenAI
from openai.types import Batch

from jobs.records import Json
from tests.end_to_end.conftest import EMBED, TINY

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HELLO = [{"role": "user", "content": "hello"}]
BODIES: dict[str, Json] = {
    "/v1/chat/completions": {"model": TINY, "messages": HELLO, "max_tokens": 4, "ignore_eos": True},
    "/v1/completions": {"model": TINY, "prompt": "once", "max_tokens": 4, "ignore_eos": True},
    "/v1/responses": {"model": TINY, "input": "hello", "max_output_tokens": 4},
    "/v1/embeddings": {"model": EMBED, "input": "hello"},
    "/v1/score": {"model": EMBED, "text_1": "hello", "text_2": "there"},
}


def run(sdk: OpenAI, endpoint: str, bodies: list[Json]) -> Batch:
    """A batch of these bodies, once it has ended."""
    lines = [
        {"custom_id": f"line {number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = sdk.files.create(file=content, purpose="batch")
    made = sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")  # type: ignore[arg-type]
    while made.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
        made = sdk.batches.retrieve(made.id)
    return made


def content(sdk: OpenAI, file_id: str | None) -> list[Any]:
    assert file_id is not None
    return [json.loads(line) for line in sdk.files.content(file_id).text.split("\n") if line]


@pytest.mark.parametrize("endpoint", BODIES)
def test_a_batch_for_every_endpoint(sdk: OpenAI, endpoint: str) -> None:
    batch = run(sdk, endpoint, [BODIES[endpoint]] * 5)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 5, "completed": 5, "failed": 0}
    assert batch.usage is not None and batch.usage.input_tokens > 0
    lines = content(sdk, batch.output_file_id)
    assert [line["custom_id"] for line in lines] == [f"line {number}" for number in range(5)]
    assert {line["response"]["status_code"] for line in lines} == {200}


def test_what_only_the_engine_refuses_is_a_failed_line_with_its_words(sdk: OpenAI) -> None:
    good = BODIES["/v1/chat/completions"]
    too_long = good | {"messages": [{"role": "user", "content": "much " * 5000}]}
    batch = run(sdk, "/v1/chat/completions", [good, too_long, good])
    assert batch.status == "completed"
    assert [line["custom_id"] for line in content(sdk, batch.output_file_id)] == ["line 0", "line 2"]
    [failed] = content(sdk, batch.error_file_id)
    assert (failed["custom_id"], failed["response"]["status_code"]) == ("line 1", 400)
    assert "2048" in failed["response"]["body"]["error"]["message"]


def test_identical_deterministic_lines_are_answered_by_one_run(sdk: OpenAI) -> None:
    body = BODIES["/v1/chat/completions"] | {"temperature": 0, "metadata": {"run": str(time.time())}}
    batch = run(sdk, "/v1/chat/completions", [body] * 4)
    lines = content(sdk, batch.output_file_id)
    assert len({line["response"]["body"]["choices"][0]["message"]["content"] for line in lines}) == 1
    assert [line["response"].get("copy_of") for line in lines] == [None, *["line 0"] * 3]
    assert batch.usage is not None
    assert batch.usage.output_tokens == 4
