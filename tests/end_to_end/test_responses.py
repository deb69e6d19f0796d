"""Every call of the SDK's `responses`, on real vLLM, with answers that are exactly of the types that the SDK has."""

import json
import time
from typing import Any, Final, Literal

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from jobs.records import Json
from tests.end_to_end.conftest import TINY, Stack
from tests.end_to_end.test_vllm_answers import named_alike, of_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

FOUR: Final[Json] = {"model": TINY, "temperature": 0, "max_output_tokens": 4, "extra_body": {"ignore_eos": True}}
"""Four tokens, the same every time."""
LONG: Final[Json] = FOUR | {"max_output_tokens": 1900}
LIFE: Final = ("created", "in_progress", "output_item.added", "content_part.added")
BACKGROUND_LIFE: Final = ("created", "queued", *LIFE[1:])
PAINT: Final[Any] = {
    "type": "function",
    "name": "paint",
    "parameters": {
        "type": "object",
        "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    },
    "strict": True,
}


class Colour(BaseModel):
    colour: Literal["red", "blue"]


def ask(sdk: OpenAI, text: Any = "hello", **more: Any) -> Response:
    """A response of four tokens."""
    response: Response = sdk.responses.create(**(FOUR | {"input": text} | more))
    return response


def ended(sdk: OpenAI, response: Response) -> Response:
    """A response, polled until it has ended."""
    deadline = time.monotonic() + 60
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        response = sdk.responses.retrieve(response.id)
    return response


def test_a_response_is_found_as_it_was_answered(strict: OpenAI) -> None:
    response = ask(strict, instructions="be short", metadata={"a": "b"}, service_tier="flex")
    assert response.output_text
    assert response.incomplete_details is not None
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage is not None and response.usage.output_tokens == 4
    assert (response.service_tier, response.metadata, response.background) == ("flex", {"a": "b"}, False)
    assert strict.responses.retrieve(response.id).to_dict() == response.to_dict()
    included = strict.responses.retrieve(response.id, include=["message.output_text.logprobs"])
    assert included.output == response.output


def test_a_response_in_the_background_is_the_one_that_is_waited_for(strict: OpenAI) -> None:
    waited = ask(strict)
    begun = ask(strict, background=True)
    assert (begun.status, begun.output, begun.usage, begun.background) == ("queued", [], None, True)
    done = ended(strict, begun)
    assert done.id == begun.id
    assert done.output_text == waited.output_text
    assert done.to_dict().keys() == begun.to_dict().keys() == waited.to_dict().keys()
    same = {name for name, value in begun.to_dict().items() if done.to_dict()[name] == value}
    assert begun.to_dict().keys() - same == {"status", "output", "usage", "incomplete_details"}


def test_it_is_vllms_answer(stack: Stack, http: httpx.Client) -> None:
    body = {"model": TINY, "temperature": 0, "max_output_tokens": 8, "input": "hello"}
    expected = named_alike(of_vllm(stack, "/v1/responses", body).json())
    answer = named_alike(http.post("/v1/responses", json=body).json())
    for name in ("model", "output", "usage", "status", "incomplete_details", "temperature", "top_p", "instructions"):
        assert answer[name] == expected[name]


@pytest.mark.parametrize("wait", [False, True])
def test_a_background_response_is_cancelled_and_again(strict: OpenAI, wait: bool) -> None:
    begun = strict.responses.create(**LONG, input="hello", background=True)
    while wait and strict.responses.retrieve(begun.id).status == "queued":
        time.sleep(0.01)
    cancelled = strict.responses.cancel(begun.id)
    assert (cancelled.status, cancelled.id, cancelled.usage) == ("cancelled", begun.id, None)
    assert strict.responses.cancel(begun.id) == cancelled == strict.responses.retrieve(begun.id)


def test_only_what_is_in_the_background_is_cancelled(strict: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        strict.responses.cancel(ask(strict).id)


def test_a_deleted_response_is_gone(strict: OpenAI) -> None:
    response = ask(strict)
    strict.responses.delete(response.id)
    for gone in (strict.responses.retrieve, strict.responses.delete, strict.responses.cancel):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{response.id}' not found"):
            gone(response.id)
    with pytest.raises(openai.BadRequestError) as refused:
        ask(strict, previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"


def test_what_is_not_stored_is_not_found(strict: OpenAI) -> None:
    response = ask(strict, store=False)
    assert response.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        strict.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError, match="has to be stored"):
        ask(strict, store=False, background=True)


def test_a_conversation_is_answered_as_if_it_were_told_anew(strict: OpenAI) -> None:
    first = ask(strict, "one", instructions="shout a lot")
    second = ask(strict, [{"role": "user", "content": "two"}], previous_response_id=first.id)
    third = ask(strict, "three", previous_response_id=second.id, background=True)
    told: list[Any] = [
        {"role": "user", "content": "one"},
        *(item.to_dict() for item in first.output),
        {"role": "user", "content": "two"},
        *(item.to_dict() for item in second.output),
        {"role": "user", "content": "three"},
    ]
    anew, done = ask(strict, told), ended(strict, third)
    assert done.output_text == anew.output_text
    assert done.usage is not None and anew.usage is not None
    assert done.usage.input_tokens == anew.usage.input_tokens > (second.usage.input_tokens if second.usage else 0)
    assert (done.previous_response_id, done.instructions) == (second.id, None)
    again = ask(strict, "three", previous_response_id=second.id)
    assert again.output_text == done.output_text


def test_the_items_of_a_conversation_are_listed(strict: OpenAI) -> None:
    first = ask(strict, "one")
    second = ask(strict, "two", previous_response_id=first.id)
    items = list(strict.responses.input_items.list(second.id, limit=1, order="asc"))
    assert [item.type for item in items] == ["message"] * 3
    assert items[1] == first.output[0]
    assert [item.id for item in strict.responses.input_items.list(second.id)] == [item.id for item in items[::-1]]
    [alone] = strict.responses.input_items.list(first.id, include=["message.input_image.image_url"])
    assert alone == items[0]


def test_tokens_are_counted_before_they_are_spent(strict: OpenAI) -> None:
    first = ask(strict, "one")
    cases: list[Json] = [
        {"input": "two"},
        {"input": [{"role": "user", "content": "two"}], "instructions": "be short"},
        {"input": "two", "tools": [PAINT], "tool_choice": "none"},
        {"input": "two", "previous_response_id": first.id},
    ]
    for case in cases:
        counted = strict.responses.input_tokens.count(model=TINY, **case)
        usage = ask(strict, case.pop("input"), **case).usage
        assert usage is not None
        assert (counted.object, counted.input_tokens) == ("response.input_tokens", usage.input_tokens)
    with pytest.raises(openai.BadRequestError) as refused:
        strict.responses.input_tokens.count(model=TINY, input="two", previous_response_id="resp_1")
    assert refused.value.code == "previous_response_not_found"


def test_an_answer_is_parsed(strict: OpenAI, to_the_point: dict[str, int]) -> None:
    response = strict.responses.parse(
        model=TINY,
        input="hello",
        text_format=Colour,
        max_output_tokens=50,
        extra_body={"logit_bias": to_the_point},
    )
    assert response.output_parsed is not None and response.output_parsed.colour in ("red", "blue")
    found = strict.responses.retrieve(response.id)
    assert found.text is not None and found.text.format is not None and found.text.format.type == "json_schema"


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
        {"type": "code_interpreter", "container": {"type": "auto"}},
        {"type": "mcp", "server_label": "x", "server_url": "https://mcp.example.com"},
        {"type": "image_generation"},
        {"type": "custom", "name": "x"},
    ],
)
def test_a_tool_that_nobody_here_runs_is_refused_by_name(strict: OpenAI, tool: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=f"Invalid value: '{tool['type']}'.*'function'") as refused:
        ask(strict, "hello", tools=[tool])
    assert refused.value.param == "tools.0.type"


def test_a_tool_is_called_and_its_answer_continues_the_conversation(
    strict: OpenAI, to_the_point: dict[str, int]
) -> None:
    biased: Json = {"extra_body": {"logit_bias": to_the_point}, "max_output_tokens": 100, "model": TINY}
    calling = strict.responses.create(input="hello", tools=[PAINT], tool_choice="required", **biased)
    call = calling.output[0]
    assert call.type == "function_call" and call.name == "paint"
    assert json.loads(call.arguments)["colour"] in ("red", "blue")
    painted: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "painted"}]
    answer = ask(strict, painted, tools=[PAINT], previous_response_id=calling.id)
    assert answer.output_text
    items = list(strict.responses.input_items.list(answer.id, order="asc"))
    assert [item.type for item in items[:2]] == ["message", "function_call"]
    assert items[-1].type == "function_call_output"


def test_what_vllm_refuses_has_failed_in_the_background(strict: OpenAI) -> None:
    failed = ended(strict, ask(strict, "word " * 3000, background=True))
    assert failed.status == "failed"
    assert failed.error is not None and failed.error.code == "invalid_prompt"
    assert "maximum context length is 2048 tokens" in failed.error.message
    with pytest.raises(openai.BadRequestError, match="with status 'failed'"):
        ask(strict, previous_response_id=failed.id)


def test_the_raw_response_is_there_too(strict: OpenAI) -> None:
    raw = strict.responses.with_raw_response.create(**FOUR, input="hello", background=True)
    assert raw.headers["x-request-id"] == raw.parse().id.replace("resp_", "req_")


def test_what_there_is_not_is_refused_by_name(strict: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="/v1/responses/compact is not supported"):
        strict.responses.compact(model=TINY, input="hello")
    with pytest.raises(Exception, match="HTTP 400"), strict.responses.connect():
        pass
    with pytest.raises(openai.BadRequestError, match="'conversation'"):
        ask(strict, conversation="conv_1")


def test_a_response_is_streamed_event_by_event(strict: OpenAI) -> None:
    whole = ask(strict)
    events = list(strict.responses.create(**FOUR, input="hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [f"response.{kind}" for kind in LIFE]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    first, last = events[0], events[-1]
    assert first.type == "response.created" and last.type == "response.incomplete"
    assert last.response.to_dict().keys() == first.response.to_dict().keys() == whole.to_dict().keys()
    assert last.response.output_text == whole.output_text
    assert strict.responses.retrieve(last.response.id).to_dict() == last.response.to_dict()
    with pytest.raises(openai.BadRequestError, match="'background' and 'stream'"):
        strict.responses.retrieve(last.response.id, stream=True)


def test_the_sdks_own_stream_comes_to_its_response(strict: OpenAI, to_the_point: dict[str, int]) -> None:
    asked: Json = {"model": TINY, "input": "hello", "max_output_tokens": 50, "text_format": Colour}
    asked["extra_body"] = {"logit_bias": to_the_point}
    for background in (False, True):
        with strict.responses.stream(**asked, background=background) as stream:
            kinds = [event.type for event in stream]
            final = stream.get_final_response()
        assert kinds[:3] == [f"response.{kind}" for kind in (BACKGROUND_LIFE if background else LIFE)[:3]]
        assert kinds[-1] == "response.completed"
        assert final.output_parsed is not None and final.output_parsed.colour in ("red", "blue")
    with strict.responses.stream(response_id=final.id, starting_after=3, text_format=Colour) as stream:
        assert [event.type for event in stream] == kinds[4:]
        assert stream.get_final_response().output_parsed == final.output_parsed


def test_a_background_stream_goes_on_when_nobody_reads_and_is_read_again(strict: OpenAI) -> None:
    asked = FOUR | {"max_output_tokens": 400}
    with strict.responses.create(**asked, input="hello", stream=True, background=True) as stream:
        seen = [next(stream) for _ in range(8)]
    assert [event.type for event in seen[:5]] == [f"response.{kind}" for kind in BACKGROUND_LIFE]
    first = seen[0]
    assert first.type == "response.created" and first.response.status == "queued"
    name = first.response.id
    rest = list(strict.responses.retrieve(name, stream=True, starting_after=seen[-1].sequence_number))
    assert [event.sequence_number for event in seen + rest] == list(range(len(seen) + len(rest)))
    assert ended(strict, first.response).status == "incomplete"
    again = list(strict.responses.retrieve(name, stream=True))
    assert [event.to_dict() for event in again] == [event.to_dict() for event in seen + rest]
    last = again[-1]
    assert last.type == "response.incomplete"
    assert strict.responses.retrieve(name).to_dict() == last.response.to_dict()
    assert not list(strict.responses.retrieve(name, stream=True, starting_after=last.sequence_number))


def test_a_background_stream_that_is_cancelled_ends(strict: OpenAI) -> None:
    with strict.responses.create(**LONG, input="hello", stream=True, background=True) as stream:
        first, *_ = (next(stream) for _ in range(8))
        assert first.type == "response.created"
        assert strict.responses.cancel(first.response.id).status == "cancelled"
        *_, last = stream
    assert last.type == "error" and last.code == "cancelled"


def test_what_vllm_refuses_ends_a_stream_as_failed_in_the_background_only(strict: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        strict.responses.create(**FOUR, input="word " * 3000, stream=True)
    events = list(strict.responses.create(**FOUR, input="word " * 3000, stream=True, background=True))
    assert [event.type for event in events] == ["response.created", "response.queued", "response.failed"]
    last = events[-1]
    assert last.type == "response.failed" and last.response.error is not None
    assert last.response.error.code == "invalid_prompt"


@pytest.mark.asyncio(loop_scope="session")
async def test_the_asynchronous_client_does_it_too(async_sdk: AsyncOpenAI) -> None:
    begun = await async_sdk.responses.create(**LONG, input="hello", background=True)
    assert (await async_sdk.responses.cancel(begun.id)).status == "cancelled"
    await async_sdk.responses.delete(begun.id)
    with pytest.raises(openai.NotFoundError):
        await async_sdk.responses.retrieve(begun.id)
