"""Streams of real vLLM through the queue: what its own server says, by OpenAI's SDK and Anthropic's."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from jobs.records import Json
from tests.end_to_end.conftest import TINY, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
GREEDY: Json = {"model": TINY, "temperature": 0, "max_tokens": 8, "ignore_eos": True}
CHAT = "/v1/chat/completions"
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]}
CASES: dict[str, tuple[str, Json]] = {
    "chat": (CHAT, GREEDY | {"messages": HELLO}),
    "chat with usage": (CHAT, GREEDY | {"messages": HELLO, "stream_options": {"include_usage": True}}),
    "chat with usage all along": (
        CHAT,
        GREEDY | {"messages": HELLO, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "chat with logprobs": (CHAT, GREEDY | {"messages": HELLO, "logprobs": True, "top_logprobs": 2}),
    "chat with token ids": (CHAT, GREEDY | {"messages": HELLO, "return_token_ids": True}),
    "chat with a schema": (
        CHAT,
        {"model": TINY, "temperature": 0, "max_tokens": 40, "messages": HELLO}
        | {"response_format": {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOUR}}},
    ),
    "two chats": (CHAT, GREEDY | {"messages": HELLO, "n": 2, "temperature": 1, "seed": 3}),
    "completions": ("/v1/completions", GREEDY | {"prompt": ["once upon", "a time"], "logprobs": 1, "echo": True}),
    "messages": ("/v1/messages", {"model": TINY, "temperature": 0, "max_tokens": 8, "messages": HELLO}),
}
SAID = (
    "content",
    "text",
    "delta",
    "partial_json",
    "arguments",
    "token_ids",
    "tokens",
    "token_logprobs",
    "text_offset",
    "top_logprobs",
)
COLD = {"temperature": 0}
ANEW = ("id", "created", "created_at", "completed_at", "item_id", "signature", "response_id")


def events(body: bytes) -> list[Json | str]:
    """The data of each event, without what every run makes anew."""
    data = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: ")]
    return [item if item == "[DONE]" else named(json.loads(item)) for item in data]


def named(value: Any) -> Any:
    if isinstance(value, list):
        return [named(item) for item in value]
    if isinstance(value, dict):
        return {name: "anew" if name in ANEW else named(item) for name, item in value.items()}
    return value


def without_prompt(response: Json) -> Json:
    """vLLM's streams of completions have the prompt's probabilities among the others, not once more by token ids."""
    for choice in response.get("choices", ()):
        if "text" in choice:
            choice["prompt_logprobs"] = None
    return response


def differing(one: Any, other: Any, place: str = "") -> dict[str, Any]:
    """Where two answers differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        pairs = [(f"{place}.{name}", one.get(name, "missing"), other.get(name, "missing")) for name in names]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(f"{place}[{index}]", mine, its) for index, (mine, its) in enumerate(zip(one, other, strict=True))]
    else:
        return {} if one == other else {place: (one, other)}
    return {key: found for name, mine, its in pairs for key, found in differing(mine, its, name).items()}


def skeletons(heard: list[Json | str]) -> list[str]:
    """What is said, by choice, without what a token may stand in: vLLM itself puts as many into one event as are there.
    Equal ones that follow one another count once."""
    bare = [(_choice(item), json.dumps(_bare(item), sort_keys=True)) for item in heard]
    ordered = [text for _, text in sorted(bare, key=lambda pair: pair[0])]
    return [text for text, before in zip(ordered, ["", *ordered], strict=False) if text != before]


def words(heard: list[Json | str]) -> dict[int, list[Any]]:
    """All that stands in the events of each choice, one after the other."""
    found: dict[int, list[Any]] = {}
    for item in heard:
        _gather(item, found.setdefault(_choice(item), []))
    return {choice: _joined(said) for choice, said in found.items()}


def _choice(item: Json | str) -> int:
    return int(item["choices"][0]["index"]) if isinstance(item, dict) and item.get("choices") else -1


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        varies = {*SAID, "sequence_number", *(["usage"] if value.get("choices") else [])}
        return {name: name if name in varies and item is not None else _bare(item) for name, item in value.items()}
    return value


def _gather(value: Any, said: list[Any]) -> None:
    for name, item in value.items() if isinstance(value, dict) else ():
        if name in SAID and isinstance(item, str):
            said.append(item)
        elif name in SAID and isinstance(item, list) and item and not isinstance(item[0], dict):
            said.extend([item_] for item_ in item)
        else:
            for each in item if isinstance(item, list) else [item]:
                _gather(each, said)


def _joined(said: list[Any]) -> list[Any]:
    return ["".join(item for item in said if isinstance(item, str)), *(item for item in said if isinstance(item, list))]


@pytest.mark.parametrize("case", CASES)
def test_a_stream_is_chunk_for_chunk_what_vllm_sends(stack: Stack, http: httpx.Client, case: str) -> None:
    path, body = CASES[case]
    asked = body | {"stream": True}
    theirs = httpx.post(stack.engines[TINY] + path, json=asked, timeout=60, trust_env=False)
    ours = http.post(path, json=asked)
    assert ours.status_code == theirs.status_code == 200, ours.text
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    heard, expected = events(ours.content), events(theirs.content)
    assert skeletons(heard) == skeletons(expected)
    assert words(heard) == words(expected)


@pytest.mark.parametrize("case", CASES)
def test_its_result_is_that_of_the_request_without_stream(stack: Stack, http: httpx.Client, case: str) -> None:
    path, body = CASES[case]
    plain = {name: value for name, value in body.items() if name != "stream_options"}
    theirs = httpx.post(stack.engines[TINY] + path, json=plain, timeout=60, trust_env=False).json()
    submitted = http.post("/v1/jobs", json={"endpoint": path, "body": body | {"stream": True}}).json()
    job = http.get(f"/v1/jobs/{submitted['id']}", params={"wait": 50}).json()
    assert job["status"] == "completed", job
    assert differing(named(job["response"]["body"]), without_prompt(named(theirs))) == {}
    assert job["usage"]["output_tokens"] > 0
    kept = http.get(f"/v1/jobs/{submitted['id']}/events")
    assert kept.text.endswith("\n\n") and "event: job.completed" in kept.text


def test_a_refusal_is_an_ordinary_response(http: httpx.Client) -> None:
    refused = http.post(CHAT, json=GREEDY | {"messages": HELLO, "stream": True, "max_tokens": 5000})
    assert refused.status_code == 400
    assert refused.headers["content-type"] == "application/json"
    assert "max_tokens=5000" in refused.json()["error"]["message"]


def test_a_chat_by_openais_sdk(strict: OpenAI) -> None:
    stream = strict.chat.completions.create(
        model=TINY, messages=HELLO, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens <= 6


def test_the_sdks_stream_helper_puts_a_chat_together(strict: OpenAI) -> None:
    with strict.chat.completions.stream(model=TINY, messages=HELLO, max_tokens=6, temperature=0) as stream:
        stream.until_done()
        final = stream.current_completion_snapshot
    plain = strict.chat.completions.create(model=TINY, messages=HELLO, max_tokens=6, temperature=0)
    assert final.choices[0].message.content == plain.choices[0].message.content


def test_completions_by_openais_sdk(sdk: OpenAI) -> None:
    stream = sdk.completions.create(model=TINY, prompt="once upon", max_tokens=6, stream=True, temperature=0)
    text = "".join(chunk.choices[0].text for chunk in stream)
    plain = sdk.completions.create(model=TINY, prompt="once upon", max_tokens=6, temperature=0)
    assert text == plain.choices[0].text


def test_an_error_before_the_first_token_is_the_sdks_own(sdk: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length"):
        sdk.chat.completions.create(model=TINY, messages=[{"role": "user", "content": "word " * 3000}], stream=True)


@pytest.mark.asyncio(loop_scope="session")
async def test_many_streams_at_once(async_sdk: AsyncOpenAI) -> None:
    async def one(number: int) -> str:
        stream = await async_sdk.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": f"number {number}"}],
            max_tokens=16,
            temperature=0,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def whole(number: int) -> str:
        answer = await async_sdk.chat.completions.create(
            model=TINY,
            messages=[{"role": "user", "content": f"number {number}"}],
            max_tokens=16,
            temperature=0,
            extra_body={"ignore_eos": True},
        )
        return answer.choices[0].message.content or ""

    streamed = await asyncio.gather(*(one(number) for number in range(100)))
    assert streamed == await asyncio.gather(*(whole(number) for number in range(100)))


@pytest.fixture
def claude(stack: Stack) -> Iterator[anthropic.Anthropic]:
    plain = anthropic.DefaultHttpxClient(trust_env=False)
    with anthropic.Anthropic(
        base_url=stack.deployment.base_url, auth_token=stack.deployment.key, max_retries=0, http_client=plain
    ) as client:
        yield client


def test_a_message_by_anthropics_sdk(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model=TINY, max_tokens=6, messages=HELLO, extra_body=COLD) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert final.content[0].type == "text" and final.content[0].text == text
    assert final.usage.output_tokens <= 6
    plain = claude.messages.create(model=TINY, max_tokens=6, messages=HELLO, extra_body=COLD)
    assert plain.content[0].type == "text" and plain.content[0].text == text


def test_an_error_by_anthropics_sdk(claude: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.BadRequestError),
        claude.messages.stream(
            model=TINY, max_tokens=6, messages=[{"role": "user", "content": "word " * 3000}]
        ) as stream,
    ):
        stream.get_final_message()
