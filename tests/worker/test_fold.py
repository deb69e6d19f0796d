"""Events to the response that the request gets without `stream`."""

import json
from typing import Any

import pytest

from jobs.admission.parameters import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from jobs.records import Json
from worker.fold import Folder

HEAD = {"id": "x-1", "created": 5, "model": "m"}


def fold(endpoint: str, *data: Json) -> Json:
    folder = Folder(endpoint)
    for each in data:
        folder.add(b"event: any\ndata: %s\n\n" % json.dumps(each).encode())
    response = folder.response()
    assert response is not None
    return response


def chat(delta: Json, index: int = 0, **more: Any) -> Json:
    return HEAD | {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta, **more}]}


def text(words: str, index: int = 0, **more: Any) -> Json:
    return HEAD | {"object": "text_completion", "choices": [{"index": index, "text": words, **more}]}


def test_a_chat() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    response = fold(
        CHAT,
        chat({"role": "assistant", "content": ""}),
        chat({"reasoning": "hm"}),
        chat({"reasoning": "m"}),
        chat({"content": "he"}, logprobs={"content": [{"token": "he"}]}),
        chat({"content": "llo"}, logprobs={"content": [{"token": "llo"}]}),
        chat({}, finish_reason="stop", stop_reason=7),
        HEAD | {"choices": [], "usage": usage, "system_fingerprint": "fp"},
    )
    [choice] = response["choices"]
    assert (response["id"], response["object"], response["created"]) == ("x-1", "chat.completion", 5)
    assert response["usage"] == usage | {"prompt_tokens_details": None, "completion_tokens_details": None}
    assert response["system_fingerprint"] == "fp"
    assert (choice["message"]["role"], choice["message"]["content"]) == ("assistant", "hello")
    assert choice["message"]["reasoning"] == "hmm"
    assert "tool_calls" not in choice["message"]
    assert choice["logprobs"] == {"content": [{"token": "he"}, {"token": "llo"}]}
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", 7)


def test_tool_calls_of_a_chat() -> None:
    def call(index: int, **more: Any) -> Json:
        return chat({"tool_calls": [{"index": index, **more}]})

    response = fold(
        CHAT,
        chat({"role": "assistant", "content": ""}),
        call(0, id="call_1", type="function", function={"name": "f", "arguments": ""}),
        call(0, function={"arguments": '{"a"'}),
        call(1, id="call_2", type="function", function={"name": "g"}),
        call(0, function={"arguments": ": 1}"}),
        call(1, function={"arguments": "{}"}),
        chat({}, finish_reason="tool_calls"),
    )
    message = response["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_choices_come_apart_by_their_index(endpoint: str) -> None:
    def say(words: str, index: int, **more: Any) -> Json:
        return chat({"content": words}, index, **more) if endpoint == CHAT else text(words, index, **more)

    response = fold(endpoint, say("b", 1), say("a", 0, token_ids=[1]), say("a", 0, token_ids=[2]), say("b", 1))
    said = [choice["message"]["content"] if endpoint == CHAT else choice["text"] for choice in response["choices"]]
    assert said == ["aa", "bb"]
    assert [choice["token_ids"] for choice in response["choices"]] == [[1, 2], None]


def test_a_completion_with_its_probabilities() -> None:
    def some(token: str) -> Json:
        return {"tokens": [token], "token_logprobs": [-1.0], "text_offset": [0], "top_logprobs": [{token: -1.0}]}

    response = fold(COMPLETIONS, text("a", logprobs=some("a")), text("b", logprobs=some("b"), finish_reason="length"))
    [choice] = response["choices"]
    assert (response["object"], choice["text"], choice["finish_reason"]) == ("text_completion", "ab", "length")
    assert choice["logprobs"]["tokens"] == ["a", "b"]
    assert choice["logprobs"]["top_logprobs"] == [{"a": -1.0}, {"b": -1.0}]


def test_a_message() -> None:
    def block(index: int, kind: str, **delta: Any) -> Json:
        return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}

    start: Json = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m",
        "stop_reason": None,
    }
    response = fold(
        MESSAGES,
        {"type": "message_start", "message": start | {"usage": {"input_tokens": 3, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        block(0, "thinking_delta", thinking="hm"),
        block(0, "signature_delta", signature="s"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        block(1, "text_delta", text="he"),
        block(1, "text_delta", text="llo"),
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "input": {}}},
        block(2, "input_json_delta", partial_json='{"a":'),
        block(2, "input_json_delta", partial_json=" 1}"),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    )
    assert response["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "hello"},
        {"type": "tool_use", "id": "t", "input": {"a": 1}},
    ]
    assert (response["stop_reason"], response["usage"]) == ("tool_use", {"input_tokens": 3, "output_tokens": 9})


def test_a_message_of_nothing_has_an_empty_text() -> None:
    response = fold(MESSAGES, {"type": "message_start", "message": {"id": "msg", "content": []}})
    assert response["content"] == [{"type": "text", "text": ""}]


def test_a_response_is_what_its_last_event_brings() -> None:
    assert fold(RESPONSES, {"type": "response.completed", "response": {"id": "resp"}}) == {"id": "resp"}


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, MESSAGES, RESPONSES])
def test_no_events_make_no_response(endpoint: str) -> None:
    assert Folder(endpoint).response() is None


def test_a_long_stream_is_folded_as_it_comes() -> None:
    response = fold(COMPLETIONS, *(text(f"{number} ") for number in range(1000)))
    assert response["choices"][0]["text"].split() == [str(number) for number in range(1000)]
