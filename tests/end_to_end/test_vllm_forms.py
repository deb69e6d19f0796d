"""Admission against the request classes of the installed vLLM: what passes, what is refused, how faults are named."""

from typing import Any

import pytest

from jobs.admission.forms import Form, compile_form
from jobs.admission.parameters import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    DIALECT,
    EMBEDDINGS,
    HINTS,
    IMPOSSIBLE,
    KNOWN,
    MESSAGES,
    RESPONSES,
    refuse_strangers,
)
from jobs.endpoints import STEERING
from jobs.errors import BadRequest
from jobs.records import Json

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

USER: Json = {"role": "user", "content": "Hello"}
PIXEL = "data:image/png;base64,AAAA"


@pytest.fixture(scope="module")
def forms() -> dict[str, Form]:
    from pydantic import TypeAdapter
    from vllm.entrypoints.anthropic.protocol import AnthropicCountTokensRequest, AnthropicMessagesRequest
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.entrypoints.openai.completion.protocol import CompletionRequest
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.pooling.embed.protocol import EmbeddingRequest

    kinds: dict[str, Any] = {
        CHAT: ChatCompletionRequest,
        COMPLETIONS: CompletionRequest,
        RESPONSES: ResponsesRequest,
        EMBEDDINGS: EmbeddingRequest,
        MESSAGES: AnthropicMessagesRequest,
        COUNT_TOKENS: AnthropicCountTokensRequest,
    }
    return {path: compile_form(path, TypeAdapter(kind).json_schema()) for path, kind in kinds.items()}


def test_every_openai_parameter_that_vllm_does_not_know_has_its_rule(forms: dict[str, Form]) -> None:
    ruled = HINTS | IMPOSSIBLE.keys() | DIALECT.keys() | {"stream_options"}
    for path, form in forms.items():
        assert KNOWN[path] - form.names <= ruled, path


def test_everything_of_vllms_own_passes_but_what_steers_it(forms: dict[str, Form]) -> None:
    for path, form in forms.items():
        for name in form.names - STEERING - {"stream_options"}:
            refuse_strangers(path, {name: "x"}, form.names)
        for name in STEERING:
            with pytest.raises(BadRequest):
                refuse_strangers(path, {name: "x"}, form.names)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [USER], "temperature": 0, "max_tokens": 5, "stop": ["a"], "logit_bias": {"5": 1}}),
        (CHAT, {"messages": [{"role": "developer", "content": [{"type": "text", "text": "x"}]}, USER]}),
        (CHAT, {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": []}]}),
        (CHAT, {"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]}),
        (CHAT, {"messages": [USER], "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
        (CHAT, {"messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}),
        (CHAT, {"messages": [USER], "top_k": 5, "structured_outputs": {"regex": "a"}, "ignore_eos": True}),
        (CHAT, {"messages": [USER], "service_tier": "fast", "metadata": None, "store": None}),
        (COMPLETIONS, {"prompt": "x", "max_tokens": 0, "echo": True, "logprobs": 1}),
        (COMPLETIONS, {"prompt": [[1, 2], [3]]}),
        (RESPONSES, {"input": "x", "service_tier": "ultrafast", "instructions": "y", "max_output_tokens": 5}),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}], "service_tier": None},
        ),
        (EMBEDDINGS, {"input": ["a", "b"], "encoding_format": "base64"}),
        (EMBEDDINGS, {"messages": [USER]}),
        (MESSAGES, {"model": "m", "max_tokens": 5, "messages": [USER], "service_tier": "auto"}),
    ],
)
def test_what_clients_send_by_habit_passes(forms: dict[str, Form], path: str, body: Json) -> None:
    refuse_strangers(path, body, forms[path].names)
    forms[path].check(body)


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        (CHAT, {}, "messages", "missing_required_parameter"),
        (CHAT, {"messages": []}, "messages", "empty_array"),
        (CHAT, {"messages": [{"content": "x"}]}, "messages.0.role", "missing_required_parameter"),
        (CHAT, {"messages": [{"role": "x", "content": "y"}]}, "messages.0.role", "invalid_value"),
        (CHAT, {"messages": [USER, {"role": "user", "content": 3}]}, "messages.1.content", "invalid_type"),
        (CHAT, {"messages": [USER], "max_tokens": "8"}, "max_tokens", "invalid_type"),
        (CHAT, {"messages": [USER], "max_tokens": 10**30}, "max_tokens", "integer_above_max_value"),
        (CHAT, {"messages": [USER], "temperature": -1}, "temperature", "integer_below_min_value"),
        (CHAT, {"messages": [USER], "tool_choice": "maybe"}, "tool_choice", "invalid_value"),
        (CHAT, {"messages": [USER], "tools": [{"type": "function", "function": {}}]}, "tools.0.function.name", None),
        (CHAT, {"messages": [USER], "response_format": {"type": "jsn"}}, "response_format.type", "invalid_value"),
        (COMPLETIONS, {"prompt": 3}, "prompt", "invalid_type"),
        (RESPONSES, {"input": 3}, "input", "invalid_type"),
        (EMBEDDINGS, {"input": 3}, "input", "invalid_type"),
        (EMBEDDINGS, {}, "input", "missing_required_parameter"),
        (MESSAGES, {"model": "m", "messages": [USER]}, "max_tokens", "missing_required_parameter"),
    ],
)
def test_faults_are_named_where_they_are(
    forms: dict[str, Form], path: str, body: Json, param: str, code: str | None
) -> None:
    with pytest.raises(BadRequest) as caught:
        forms[path].check(body)
    assert caught.value.param == param
    assert code is None or caught.value.code == code
