"""A worker's metrics beside real vLLM's own."""

import re
from typing import Final

import httpx
import pytest
from openai import OpenAI

from tests.deploy import promql
from tests.deploy.test_watching import EXPRESSIONS
from tests.end_to_end.conftest import TINY, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

NAMED: Final = {
    name for _, expression in EXPRESSIONS for name in promql.metrics(expression) if name.startswith("vllm:")
}


def shown(stack: Stack) -> dict[str, float]:
    """The sum of each time series of the worker that chats."""
    page = httpx.get(stack.metrics[TINY], trust_env=False).text
    found: dict[str, float] = {}
    for name, value in re.findall(r"^([a-z_:]+)(?:\{.*\})? (\S+)$", page, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def test_every_metric_of_vllm_that_the_dashboard_names_is_there_and_counts(stack: Stack, sdk: OpenAI) -> None:
    before = shown(stack)
    assert before.keys() >= NAMED
    answer = sdk.completions.create(model=TINY, prompt="one two", max_tokens=7, extra_body={"ignore_eos": True})
    assert answer.usage is not None
    after = shown(stack)
    assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 7
    assert after["longhaul_tokens_total"] - before["longhaul_tokens_total"] >= answer.usage.total_tokens
    assert after["longhaul_worker_info"] == 1
