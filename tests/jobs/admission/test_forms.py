"""A body against a form: the error names the fault of the branch that got furthest, in OpenAI's words."""

from typing import Any

import pytest

from jobs.admission.forms import Form, compile_form
from jobs.admission.parameters import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES
from jobs.errors import BadRequest
from jobs.records import Json
from tests.api import schemas

USER: Json = {"role": "user", "content": "Hello"}
FORM = compile_form(CHAT, schemas.CHAT)


def fault(body: Json, form: Form = FORM) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        form.check(body)
    return caught.value


def chat(*messages: Any, **more: Any) -> Json:
    return {"messages": [*messages], **more}


@pytest.mark.parametrize(
    "body",
    [
        chat(USER),
        chat({"role": "system", "content": "x"}, USER, {"role": "assistant"}, USER),
        chat(USER, temperature=0, top_p=None, n=1, max_tokens=1, stop="x"),
        chat(USER, temperature=2, stop=["a", "b"], seed=-1, logit_bias={"1": -100}),
        chat({"role": "user", "content": [{"type": "text", "text": "x"}]}),
        chat(USER, unknown={"to": ["the", "form"]}),
        chat(USER, max_tokens=8.0),
    ],
)
def test_a_good_body_passes(body: Json) -> None:
    FORM.check(body)


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        ({}, "messages", "missing_required_parameter", "Missing required parameter: 'messages'."),
        (chat(), "messages", "empty_array", "Expected an array with minimum length 1, but got an empty array"),
        ({"messages": "x"}, "messages", "invalid_type", "expected an array, but got a string"),
        (chat("x"), "messages.0", "invalid_type", "expected an object, but got a string"),
        (chat({"content": "x"}), "messages.0.role", "missing_required_parameter", "'messages.0.role'"),
        (chat({"role": "x", "content": "y"}), "messages.0.role", "invalid_value", "'developer', 'user', 'assistant'"),
        (
            chat(USER, {"role": "user", "content": 3}),
            "messages.1.content",
            "invalid_type",
            "expected one of a string or an array, but got an integer",
        ),
        (
            chat({"role": "user", "content": [{"type": "text", "text": 3}]}),
            "messages.0.content.0.text",
            "invalid_type",
            "expected a string, but got an integer",
        ),
        (
            chat({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}),
            "messages.0.content.0.image_url.url",
            "missing_required_parameter",
            "'messages.0.content.0.image_url.url'",
        ),
        (chat(USER, temperature=-1), "temperature", "integer_below_min_value", "Expected a value >= 0, but got -1"),
        (chat(USER, temperature=2.5), "temperature", "decimal_above_max_value", "decimal above maximum value"),
        (chat(USER, temperature="1"), "temperature", "invalid_type", "expected a decimal, but got a string"),
        (chat(USER, temperature=True), "temperature", "invalid_type", "but got a boolean"),
        (chat(USER, max_tokens="8"), "max_tokens", "invalid_type", "expected an integer, but got a string"),
        (chat(USER, max_tokens=0), "max_tokens", "integer_below_min_value", ">= 1"),
        (chat(USER, max_tokens=10**30), "max_tokens", "integer_above_max_value", "<= 2147483647"),
        (chat(USER, n=129), "n", "integer_above_max_value", "<= 128"),
        (chat(USER, min_p=2), "min_p", "integer_above_max_value", "<= 1"),
        (chat(USER, stop=["a"] * 5), "stop", "array_above_max_length", "at most 4"),
        (chat(USER, stop=5), "stop", "invalid_type", "expected one of a string or an array"),
        (chat(USER, tool_choice="maybe"), "tool_choice", "invalid_value", "Supported values are: 'none', 'auto'."),
        (chat(USER, response_format={"type": "jsn"}), "response_format.type", "invalid_value", "'json_object'"),
        (chat(USER, reasoning_effort="huge"), "reasoning_effort", "invalid_value", "'low', 'medium', 'high'."),
        (chat(USER, tools=[{"function": {}}]), "tools.0.function.name", "missing_required_parameter", "name"),
        (chat(USER, logit_bias={"a": "x"}), "logit_bias.a", "invalid_type", "expected a decimal"),
        (chat({"role": "user", "content": "\ud800"}, n="x"), "n", "invalid_type", "expected an integer"),
    ],
)
def test_a_fault_is_named_with_its_place(body: Json, param: str, code: str, message: str) -> None:
    error = fault(body)
    assert (error.param, error.code) == (param, code)
    assert message in error.message


def test_what_a_kind_lacks_is_named_though_another_kind_would_lack_nothing() -> None:
    def kind(name: str, **more: Any) -> Json:
        return {"type": "object", "properties": {"type": {"const": name}}, **more}

    tools: Json = {"type": "array", "items": {"anyOf": [kind("web_search"), kind("function", required=["name"])]}}
    form = compile_form(RESPONSES, {"type": "object", "properties": {"tools": tools}})
    error = fault({"tools": [{"type": "function"}]}, form)
    assert (error.param, error.code) == ("tools.0.name", "missing_required_parameter")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(*[{"role": "user", "content": [3]}] * 50_000), "messages.0.content.0"),
        (chat(*[USER] * 50_000, {"role": "user", "content": 3}), "messages.50000.content"),
        (
            chat(*[USER] * 999, {"role": "user", "content": [*[{"type": "text", "text": "x"}] * 5_000, *[3] * 5_000]}),
            "messages.999.content.5000",
        ),
        (chat(USER, tools=[{"function": {"name": "f"}}] * 5_000), "tools"),
        (chat(USER, tools=[{"function": {}}] * 5_000), "tools.0.function.name"),
        (chat(*[USER] * 5_000, n="x"), "n"),
        (chat(USER, logit_bias={str(token): "x" for token in range(100_000)}), None),
    ],
)
def test_a_huge_body_is_explained_by_its_first_fault(body: Json, param: str | None) -> None:
    assert fault(body).param == param


def test_an_element_that_is_wrong_only_among_its_likes_is_found() -> None:
    form = compile_form(COMPLETIONS, schemas.COMPLETIONS)
    assert fault({"prompt": [*[1] * 100_000, "a"]}, form).param in ("prompt.99999", "prompt.100000")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(fault(chat(USER, reasoning_effort="x" * 100_000)).message) < 300


def test_lone_surrogates_and_nul_are_no_fault() -> None:
    FORM.check(chat({"role": "user", "content": "\ud800 \0", "\udfff": "x"}))


def test_a_body_that_is_too_deep_to_check_is_refused() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    assert "cannot be checked" in fault(chat({"role": "user", "content": deep})).message


def test_the_names_are_those_of_every_branch() -> None:
    assert compile_form(EMBEDDINGS, schemas.EMBEDDINGS).names == {"model", "input", "messages", "priority"}


def test_ranges_hold_for_every_branch() -> None:
    form = compile_form(EMBEDDINGS, schemas.EMBEDDINGS)
    form.check({"input": ["a"]})
    assert fault({"input": []}, form).code == "empty_array"
    assert fault({"input": ""}, form).code == "string_below_min_length"
    assert fault({"input": 3}, form).message.startswith(
        "Invalid type for 'input': expected one of a string or an array"
    )


def test_the_engine_has_no_say_on_the_values_of_hints() -> None:
    form = compile_form(RESPONSES, schemas.RESPONSES)
    form.check({"input": "x", "service_tier": "ultrafast"})
    form.check({"input": "x", "service_tier": None})


def test_a_schema_that_is_one_reference_is_followed() -> None:
    schema = {"$ref": "#/$defs/Body", "$defs": {"Body": schemas.COMPLETIONS}}
    form = compile_form(COMPLETIONS, schema)
    assert "prompt" in form.names
    form.check({"prompt": "x"})
    assert fault({"prompt": 3}, form).param == "prompt"


def test_an_endpoint_without_a_schema_takes_anything() -> None:
    form = compile_form("/classify", {})
    assert form.names == frozenset()
    form.check({"any": "thing"})


LARGE = 2**20 + 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat(USER, temperature="x"), "temperature"),
        (chat(USER, {"role": "user", "content": 3}), "messages"),
        (chat(USER, {"role": "user", "content": "\ud800"}, "x"), "messages"),
        ({"temperature": 1}, "messages"),
        (chat(USER, stop=["a"] * 5), None),
        ({"messages": "x" * 2000}, "messages"),
    ],
)
def test_of_a_large_body_only_the_field_is_named(body: Json, param: str | None) -> None:
    with pytest.raises(BadRequest) as caught:
        FORM.check(body, LARGE)
    assert caught.value.param == param
    assert param is not None or "'messages' or 'stop'" in caught.value.message


def test_a_large_body_without_fault_passes() -> None:
    FORM.check(chat(*[USER] * 1000), LARGE)
