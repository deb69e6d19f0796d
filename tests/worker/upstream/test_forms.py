"""OpenAI's bodies, as they are admitted for a server that publishes no schemas: what is wrong is named."""

import pytest

from jobs.admission.forms import compile_form
from jobs.admission.parameters import CHAT, COMPLETIONS, EMBEDDINGS, KNOWN, RESPONSES, refuse_strangers
from jobs.errors import BadRequest
from jobs.records import Json
from worker.engines.upstream.forms import ENDPOINTS

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FORM = {"type": "json_schema", "json_schema": {"name": "f", "schema": {"type": "object"}}}
SEEN = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def check(path: str, body: Json) -> None:
    form = compile_form(path, ENDPOINTS[path])
    refuse_strangers(path, body, form.names)
    form.check(body)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_they_have_openais_parameters_and_no_others(path: str) -> None:
    assert ENDPOINTS[path]["properties"].keys() <= KNOWN[path]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            CHAT,
            {"messages": HELLO, "temperature": 0, "max_tokens": None, "stop": ["a", "b"], "logit_bias": {"5": -100}},
        ),
        (CHAT, {"messages": HELLO, "tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False}),
        (CHAT, {"messages": HELLO, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "what?"}, SEEN]}]}),
        (CHAT, {"messages": [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]}),
        (CHAT, {"messages": [{"role": "tool", "tool_call_id": "1", "content": "3"}], "response_format": FORM}),
        (CHAT, {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}),
        (COMPLETIONS, {"prompt": ["a", "b"], "logprobs": 0, "echo": True}),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "n": 2, "seed": 7}),
        (EMBEDDINGS, {"input": [1, 2, 3], "encoding_format": "base64", "dimensions": 8}),
        (RESPONSES, {"input": "hi", "store": False, "max_output_tokens": 9, "reasoning": {"effort": "low"}}),
        (RESPONSES, {"input": HELLO, "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": True}]}),
    ],
)
def test_what_openai_takes_is_taken(path: str, body: Json) -> None:
    check(path, {"model": "m", **body})


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {}, "messages"),
        (CHAT, {"messages": "hello"}, "messages"),
        (CHAT, {"messages": [{"content": "hello"}]}, "messages.0.role"),
        (CHAT, {"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        (CHAT, {"messages": HELLO, "max_tokens": "8"}, "max_tokens"),
        (CHAT, {"messages": HELLO, "temperature": 3}, "temperature"),
        (CHAT, {"messages": HELLO, "tools": [{"type": "function", "function": {}}]}, "tools.0.function.name"),
        (CHAT, {"messages": HELLO, "response_format": {"type": "xml"}}, "response_format.type"),
        (COMPLETIONS, {"prompt": 7}, "prompt"),
        (EMBEDDINGS, {"input": "x", "encoding_format": "int8"}, "encoding_format"),
        (RESPONSES, {"input": "x", "tools": [{"type": "web_search"}]}, "tools.0.type"),
        (CHAT, {"messages": HELLO, "top_k": 4}, "top_k"),
        (CHAT, {"messages": HELLO, "force_prompt": "Sure"}, "force_prompt"),
        (CHAT, {"messages": HELLO, "web_search_options": {}}, "web_search_options"),
        (CHAT, {"messages": HELLO, "priority": 1}, "priority"),
        (COMPLETIONS, {"prompt": "x", "suffix": "y"}, "suffix"),
    ],
)
def test_what_is_wrong_or_cannot_be_had_is_refused_by_name(path: str, body: Json, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check(path, {"model": "m", **body})
    assert refused.value.param == param
