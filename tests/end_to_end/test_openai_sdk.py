"""OpenAI's official SDK, unchanged, on real vLLM behind the queue."""

import asyncio
import json
from typing import Any, Final

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from longhaul import tiny_model
from tests.end_to_end.conftest import ADAPTER, ALIASES, EMBED, TINY, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HELLO: Final[list[Any]] = [{"role": "user", "content": "hello"}]
COLOUR: Final = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}
PAINT: Final[Any] = {"type": "function", "function": {"name": "paint", "parameters": COLOUR, "strict": True}}


def chat(sdk: OpenAI, **more: Any) -> ChatCompletion:
    """Ask the tiny model for four tokens."""
    answer: ChatCompletion = sdk.chat.completions.create(**{"model": TINY, "messages": HELLO, "max_tokens": 4, **more})
    return answer


def test_a_chat(sdk: OpenAI) -> None:
    answer = chat(sdk, extra_body={"ignore_eos": True})
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert answer._request_id == f"req_{answer.id.removeprefix('chatcmpl-')}"


def test_the_headers_that_openai_sends(sdk: OpenAI) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model=TINY, messages=HELLO, max_tokens=4)
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-request-id"].startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) > 0
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.parse().choices


@pytest.mark.asyncio(loop_scope="session")
async def test_many_chats_at_once(async_sdk: AsyncOpenAI) -> None:
    async def one(number: int) -> ChatCompletion:
        text = f"number {number}"
        return await async_sdk.chat.completions.create(
            model=TINY, messages=[{"role": "user", "content": text}], max_tokens=8, temperature=0
        )

    answers = await asyncio.gather(*map(one, range(64)))
    assert len({answer.id for answer in answers}) == 64


def test_several_choices_with_logprobs(sdk: OpenAI) -> None:
    answer = chat(sdk, n=3, temperature=1, seed=7, logprobs=True, top_logprobs=2, extra_body={"ignore_eos": True})
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    for choice in answer.choices:
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert [len(token.top_logprobs) for token in choice.logprobs.content] == [2] * 4


def test_an_answer_by_a_json_schema(sdk: OpenAI, to_the_point: dict[str, int]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": COLOUR}}
    answer = chat(sdk, max_tokens=50, response_format=form, logit_bias=to_the_point)
    assert json.loads(answer.choices[0].message.content or "")["colour"] in ("red", "blue")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "paint"}}])
def test_a_tool_is_called(sdk: OpenAI, to_the_point: dict[str, int], choice: object) -> None:
    answer = chat(sdk, max_tokens=100, tools=[PAINT], tool_choice=choice, logit_bias=to_the_point)
    assert answer.choices[0].message.tool_calls
    call = answer.choices[0].message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "paint"
    assert json.loads(call.function.arguments)["colour"] in ("red", "blue")


def test_tools_may_stay_uncalled_and_their_results_be_read(sdk: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "paint", "arguments": '{"colour":"red"}'}}
    told = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "painted"},
    ]
    assert chat(sdk, messages=told, tools=[PAINT], parallel_tool_calls=False).choices[0].message.role == "assistant"


@pytest.mark.parametrize(
    ("asked", "used"), [("auto", "default"), ("flex", "flex"), ("priority", "priority"), ("fast", "priority")]
)
def test_the_service_tier_is_echoed(sdk: OpenAI, asked: str, used: str) -> None:
    assert chat(sdk, service_tier=asked).service_tier == used


def test_hints_are_taken(sdk: OpenAI) -> None:
    hints = {"user": "me", "store": True, "metadata": {"a": "b"}, "safety_identifier": "me", "prompt_cache_key": "k"}
    assert chat(sdk, **hints, prediction={"type": "content", "content": "x"}).choices


def test_a_completion(sdk: OpenAI) -> None:
    answer = sdk.completions.create(model=TINY, prompt=["once", "upon"], max_tokens=3, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.object == "text_completion"


def test_a_response(sdk: OpenAI) -> None:
    answer = sdk.responses.create(
        model=TINY,
        input=[{"role": "user", "content": "hello"}],
        instructions="be short",
        max_output_tokens=4,
        metadata={"a": "b"},
        store=False,
        service_tier="flex",
        extra_body={"ignore_eos": True},
    )
    assert answer.id.startswith("resp_")
    assert answer.output_text
    assert answer.metadata == {"a": "b"}
    assert answer.service_tier == "flex"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 4


def test_embeddings_come_as_base64_unless_asked_for_as_numbers(sdk: OpenAI) -> None:
    packed = sdk.embeddings.create(model=EMBED, input=["hello", "there"])
    numbers = sdk.embeddings.create(model=EMBED, input=["hello", "there"], encoding_format="float")
    assert [one.embedding for one in packed.data] == [pytest.approx(one.embedding) for one in numbers.data]
    assert len(packed.data[0].embedding) == 256
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > 0


def test_models_are_listed(sdk: OpenAI) -> None:
    listed = {model.id: model for model in sdk.models.list()}
    assert {TINY, *ALIASES, ADAPTER, EMBED} <= set(listed)
    assert (listed[ADAPTER].to_dict()["root"], listed[ADAPTER].to_dict()["parent"]) == (ADAPTER, EMBED)
    assert listed[ALIASES[0]].to_dict() | {"created": 0} == {
        "id": ALIASES[0],
        "object": "model",
        "created": 0,
        "owned_by": "longhaul",
        "root": TINY,
        "parent": None,
        "max_model_len": tiny_model.CONTEXT,
        "workers": 1,
        "endpoints": sorted(listed[TINY].to_dict()["endpoints"]),  # type: ignore[call-overload]
    }


@pytest.mark.parametrize("name", [TINY, *ALIASES, ADAPTER, EMBED])
def test_a_model_is_found_by_any_name(sdk: OpenAI, name: str) -> None:
    assert sdk.models.retrieve(name).id == name


def test_an_adapter_answers_in_its_own_way(sdk: OpenAI) -> None:
    plain, adapted = (sdk.embeddings.create(model=name, input="hello there") for name in (EMBED, ADAPTER))
    assert (plain.model, adapted.model) == (EMBED, ADAPTER)
    assert plain.data[0].embedding != pytest.approx(adapted.data[0].embedding, abs=0.01)


def test_a_model_that_is_not_there(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="'/srv/models/tiny', 'org/embed'") as refused:
        chat(sdk, model="gpt-4o")
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="'org/none'"):
        sdk.models.retrieve("org/none")


def test_a_model_that_does_something_else(sdk: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="does not serve /v1/embeddings"):
        sdk.embeddings.create(model=TINY, input="hello")


def test_what_only_vllm_knows_to_refuse(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048 tokens") as refused:
        chat(sdk, messages=[{"role": "user", "content": "word " * 3000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="max_tokens=5000 cannot be greater than max_model_len=2048"):
        chat(sdk, max_tokens=5000)


@pytest.mark.parametrize(
    ("wrong", "param", "code"),
    [
        ({"temperature": 3}, "temperature", "integer_above_max_value"),
        ({"max_tokens": "8"}, "max_tokens", "invalid_type"),
        ({"messages": []}, "messages", "empty_array"),
        ({"messages": [{"role": "nobody", "content": "x"}]}, "messages.0.role", "invalid_value"),
        ({"service_tier": "x"}, "service_tier", "invalid_value"),
        ({"extra_body": {"foo": 1}}, "foo", "unknown_parameter"),
        ({"extra_body": {"priority": -1}}, "priority", "unsupported_parameter"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/b"}}]}]},
            "messages.0.content.0.image_url.url",
            "unsupported_media_url",
        ),
    ],
)
def test_what_is_wrong_is_named_before_it_is_queued(sdk: OpenAI, wrong: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(sdk, **wrong)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_wrong_key(stack: Stack, sdk: OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        chat(sdk.with_options(api_key="sk-wrong"))
    assert refused.value.code == "invalid_api_key"
