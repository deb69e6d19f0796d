"""Streamed calls of tools, and forms: delta for delta what vLLM sends, put together by OpenAI's SDK."""

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from jobs.records import Json
from tests.end_to_end.conftest import TINY, Stack
from tests.end_to_end.test_streams import CHAT, COLOUR, HELLO, differing, events, named, skeletons, words

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

PAINT: Json = {"type": "function", "function": {"name": "paint", "parameters": COLOUR}}
NAMED: Json = {"type": "function", "function": {"name": "paint"}}
SPOKEN = '<tool_call>{"name": "paint", "arguments": {"colour": "red"}}</tool_call>'
"""A call as the parser of the worker reads it, which random weights say only if nothing else may be said."""
TOLD: Json = {"model": TINY, "temperature": 0, "max_tokens": 100, "messages": HELLO, "tools": [PAINT]}
STRICT: Json = TOLD | {"tools": [{"type": "function", "function": PAINT["function"] | {"strict": True}}]}
"""Any call, or that of a name, is made by the tool's schema only if it is strict; and then nothing else is said."""
CASES: dict[str, Json] = {
    "a named tool": STRICT | {"tool_choice": NAMED},
    "any tool": STRICT | {"tool_choice": "required"},
    "any tool, with usage and probabilities": STRICT
    | {"tool_choice": "required", "logprobs": True, "stream_options": {"include_usage": True}},
    "two choices with a tool each": STRICT | {"tool_choice": NAMED, "n": 2, "temperature": 1, "seed": 3},
    "a tool that the model chose": TOLD | {"structured_outputs": {"choice": [SPOKEN]}},
    "a tool after some words": TOLD | {"structured_outputs": {"choice": [f"Well. {SPOKEN}"]}},
    "two tools at once": TOLD | {"structured_outputs": {"choice": [f"{SPOKEN}\n{SPOKEN}"]}},
    "no tool": TOLD | {"tool_choice": "none", "max_tokens": 8},
}


def apart(heard: list[Json | str]) -> list[Json | str]:
    """The events with one call's delta in each: vLLM puts as many into one as its parser has found by then."""
    found: list[Json | str] = []
    for event in heard:
        choices = event.get("choices", ()) if isinstance(event, dict) else ()
        calls = choices[0]["delta"].get("tool_calls") or () if choices else ()
        if not isinstance(event, dict) or len(calls) < 2:
            found.append(event)
            continue
        [choice] = event["choices"]
        for call in calls:
            found.append(event | {"choices": [choice | {"delta": choice["delta"] | {"tool_calls": [call]}}]})
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_call_is_delta_for_delta_what_vllm_sends(
    stack: Stack, http: httpx.Client, to_the_point: dict[str, int], case: str
) -> None:
    asked = CASES[case] | {"stream": True, "logit_bias": to_the_point}
    theirs = httpx.post(stack.engines[TINY] + CHAT, json=asked, timeout=60, trust_env=False)
    ours = http.post(CHAT, json=asked)
    assert ours.status_code == theirs.status_code == 200, ours.text
    heard, expected = apart(events(ours.content)), apart(events(theirs.content))
    assert skeletons(heard) == skeletons(expected)
    assert words(heard) == words(expected)
    assert ("tool_calls" in ours.text) == (case != "no tool")


def plainly(response: Json) -> Json:
    """A response without what vLLM itself says in one way in a stream and in another without: the blanks in arguments,
    which it writes anew, and no content, for which it has two forms."""
    for choice in response["choices"]:
        choice["message"]["content"] = choice["message"]["content"] or None
        for call in choice["message"].get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return dict(named(response))


@pytest.mark.parametrize("case", CASES)
def test_its_result_is_that_of_the_request_without_stream(
    stack: Stack, http: httpx.Client, to_the_point: dict[str, int], case: str
) -> None:
    body = CASES[case] | {"logit_bias": to_the_point}
    plain = {name: value for name, value in body.items() if name != "stream_options"}
    theirs = httpx.post(stack.engines[TINY] + CHAT, json=plain, timeout=60, trust_env=False).json()
    submitted = http.post("/v1/jobs", json={"endpoint": CHAT, "body": body | {"stream": True}}).json()
    job = http.get(f"/v1/jobs/{submitted['id']}", params={"wait": 50}).json()
    assert job["status"] == "completed", job
    assert differing(plainly(job["response"]["body"]), plainly(theirs)) == {}


class Colour(BaseModel):
    """A colour to paint with."""

    colour: Literal["red", "blue"]


def test_the_sdks_stream_helper_parses_a_call(strict: OpenAI, to_the_point: dict[str, int]) -> None:
    tool = openai.pydantic_function_tool(Colour, name="paint")
    choice: Any = NAMED
    with strict.chat.completions.stream(
        model=TINY, messages=HELLO, tools=[tool], tool_choice=choice, max_tokens=100, logit_bias=to_the_point
    ) as stream:
        told = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls
    [call] = final.choices[0].message.tool_calls
    assert call.function.name == told[0].name == "paint"
    assert isinstance(call.function.parsed_arguments, Colour)
    assert json.loads(told[0].arguments) == call.function.parsed_arguments.model_dump()


def test_the_sdks_stream_helper_parses_both_answers_by_a_form(strict: OpenAI, to_the_point: dict[str, int]) -> None:
    with strict.chat.completions.stream(
        model=TINY, messages=HELLO, response_format=Colour, n=2, max_tokens=50, logprobs=True, logit_bias=to_the_point
    ) as stream:
        final = stream.get_final_completion()
    assert [choice.index for choice in final.choices] == [0, 1]
    for choice in final.choices:
        assert isinstance(choice.message.parsed, Colour)
        assert choice.logprobs is not None and choice.logprobs.content
