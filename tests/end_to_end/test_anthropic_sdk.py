"""Anthropic's official SDK, unchanged, on real vLLM behind the queue."""

from collections.abc import Iterator
from typing import Any, Final

import anthropic
import pytest
from anthropic import Anthropic

from tests.end_to_end.conftest import ALIASES, TINY, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HELLO: Final[list[Any]] = [{"role": "user", "content": "hello"}]
COLD: Final = {"temperature": 0}


@pytest.fixture
def claude(stack: Stack) -> Iterator[Anthropic]:
    """It sends its key as `x-api-key`."""
    plain = anthropic.DefaultHttpxClient(trust_env=False)
    address, key = stack.deployment.base_url, stack.deployment.key
    with Anthropic(base_url=address, api_key=key, max_retries=0, http_client=plain) as client:
        yield client


def test_a_message(claude: Anthropic) -> None:
    answer = claude.messages.create(
        model=TINY, max_tokens=8, messages=HELLO, system="be short", metadata={"user_id": "me"}, service_tier="auto"
    )
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", TINY)
    assert answer.content[0].type == "text"
    assert answer.stop_reason in ("max_tokens", "end_turn")
    assert answer.usage.input_tokens > 0
    assert 0 < answer.usage.output_tokens <= 8


def test_several_turns_in_blocks(claude: Anthropic) -> None:
    turns: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "text", "text": "and then?"}]},
    ]
    answers = [claude.messages.create(model=TINY, max_tokens=4, messages=some) for some in (HELLO, turns)]
    assert answers[1].usage.input_tokens > answers[0].usage.input_tokens


def test_tokens_are_counted_as_they_are_billed(claude: Anthropic) -> None:
    counted = claude.messages.count_tokens(model=ALIASES[0], messages=HELLO)
    answer = claude.messages.create(model=ALIASES[0], max_tokens=1, messages=HELLO)
    assert counted.input_tokens == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)


def test_a_sequence_stops(claude: Anthropic) -> None:
    whole = claude.messages.create(model=TINY, max_tokens=8, messages=HELLO, extra_body=COLD)
    assert whole.content[0].type == "text"
    sequence = whole.content[0].text[3:6]
    answer = claude.messages.create(
        model=TINY, max_tokens=8, messages=HELLO, extra_body=COLD, stop_sequences=[sequence]
    )
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", sequence)


def test_the_result_of_a_tool_is_read(claude: Anthropic) -> None:
    colour: Any = {"type": "object", "properties": {"colour": {"type": "string"}}}
    told: list[Any] = [
        *HELLO,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "1", "name": "paint", "input": {"colour": "red"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "painted"}]},
    ]
    tools: list[Any] = [{"name": "paint", "input_schema": colour}]
    answer = claude.messages.create(model=TINY, max_tokens=4, messages=told, tools=tools)
    assert answer.role == "assistant"


def test_errors_are_its_own_kinds(claude: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="does not exist") as unknown:
        claude.messages.create(model="claude", max_tokens=4, messages=HELLO)
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError, match="temperature"):
        claude.messages.create(model=TINY, max_tokens=4, messages=HELLO, extra_body={"temperature": 2})
    with pytest.raises(anthropic.BadRequestError, match="max_model_len"):
        claude.messages.create(model=TINY, max_tokens=5000, messages=HELLO)
    with pytest.raises(anthropic.AuthenticationError):
        claude.with_options(api_key="wrong").messages.create(model=TINY, max_tokens=4, messages=HELLO)
