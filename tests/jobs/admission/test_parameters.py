"""OpenAI's parameters: the lists against the SDK's own types, and what is refused by name."""

import typing
from typing import Any

import pytest
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chat
from openai.types.responses import response_create_params as responses

from jobs.admission import parameters
from jobs.admission.parameters import (
    CHAT,
    COMPLETIONS,
    DIALECT,
    HINTS,
    IMPOSSIBLE,
    KNOWN,
    RANGES,
    refuse_strangers,
)
from jobs.endpoints import INFERENCE, STEERING
from jobs.errors import BadRequest
from jobs.records import Tier

ENGINE = frozenset({"messages", "model", "temperature", "top_k", "stream", "best_of", "priority"})


@pytest.mark.parametrize(
    ("endpoint", "types"),
    [
        (CHAT, (chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming)),
        (COMPLETIONS, (completions.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsStreaming)),
        (parameters.EMBEDDINGS, (embeddings.EmbeddingCreateParams,)),
        (
            parameters.RESPONSES,
            (responses.ResponseCreateParamsNonStreaming, responses.ResponseCreateParamsStreaming),
        ),
    ],
)
def test_the_known_parameters_are_those_of_the_openai_sdk(endpoint: str, types: tuple[type, ...]) -> None:
    assert KNOWN[endpoint] == {name for kind in types for name in typing.get_type_hints(kind)}


def test_every_table_speaks_of_endpoints_and_parameters_that_exist() -> None:
    known = frozenset().union(*KNOWN.values())
    assert KNOWN.keys() <= INFERENCE
    assert RANGES.keys() <= INFERENCE
    assert known >= HINTS
    assert known >= IMPOSSIBLE.keys()
    for endpoint, ranges in RANGES.items():
        assert KNOWN[endpoint] >= ranges.keys()
    assert not HINTS & (IMPOSSIBLE.keys() | DIALECT.keys() | STEERING)


def check(name: str, value: Any, endpoint: str = CHAT, engine: frozenset[str] = ENGINE) -> None:
    refuse_strangers(endpoint, {"messages": [], name: value}, engine)


@pytest.mark.parametrize("name", sorted(HINTS & KNOWN[CHAT]))
def test_a_hint_is_accepted_though_the_engine_does_not_know_it(name: str) -> None:
    check(name, {"any": "value"})


@pytest.mark.parametrize("name", ["expires_after", "timeout", "service_tier", "metadata"])
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, "/v1/score", "/tokenize"])
def test_what_is_ours_may_be_said_on_every_endpoint(name: str, endpoint: str) -> None:
    check(name, 1, endpoint)


@pytest.mark.parametrize("name", ["temperature", "top_k"])
def test_what_the_engine_knows_is_accepted(name: str) -> None:
    check(name, 1)


def test_an_openai_parameter_that_the_engine_does_not_name_is_accepted() -> None:
    check("seed", 1)


@pytest.mark.parametrize("name", ["foo", "min_p", "input", "", "Temperature"])
def test_a_stranger_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadRequest, match=f"^Unrecognized request argument supplied: {name}$") as caught:
        check(name, None)
    assert caught.value.param == name


def test_an_engine_without_a_schema_takes_anything() -> None:
    check("foo", 1, engine=frozenset())


@pytest.mark.parametrize("name", sorted(STEERING))
@pytest.mark.parametrize("value", [None, 1, "x"])
def test_what_steers_the_engine_for_others_is_refused_whoever_knows_it(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match="steers the engine") as caught:
        check(name, value)
    assert caught.value.param == name


@pytest.mark.parametrize("name", sorted({*STEERING, "ec_transfer_params", "kv_cache_report_mode"}))
@pytest.mark.parametrize("engine", [ENGINE | {"vllm_xargs"}, frozenset[str]()])
def test_nor_does_it_come_in_among_the_engines_own_arguments(name: str, engine: frozenset[str]) -> None:
    with pytest.raises(BadRequest, match="steers the engine") as caught:
        check("vllm_xargs", {"mine": 1, name: None}, engine=engine)
    assert caught.value.param == f"vllm_xargs.{name}"
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize("value", [None, {}, {"mine": 1}, "priority", ["priority"]])
def test_other_arguments_of_the_engine_are_its_own(value: Any) -> None:
    check("vllm_xargs", value, engine=ENGINE | {"vllm_xargs"})


@pytest.mark.parametrize("endpoint", [parameters.EMBEDDINGS, "/pooling", "/classify"])
def test_an_answer_that_is_no_json_is_refused_by_name(endpoint: str) -> None:
    engine = frozenset({"encoding_format"})
    for good in (None, "float", "base64", ["bytes"]):
        check("encoding_format", good, endpoint, engine | {"messages"})
    for bad in ("bytes", "bytes_only"):
        with pytest.raises(BadRequest, match=f"'{bad}'") as caught:
            check("encoding_format", bad, endpoint, engine | {"messages"})
        assert (caught.value.param, caught.value.code) == ("encoding_format", "unsupported_value")


def test_one_request_has_so_many_inputs_at_most() -> None:
    for good in (["x"] * 2048, [[1]] * 2048, [1] * 5000, "x" * 5000):
        check("input", good, parameters.EMBEDDINGS, frozenset({"messages", "input"}))
    for bad in (["x"] * 2049, [[1]] * 2049):
        with pytest.raises(BadRequest, match="at most 2048") as caught:
            check("input", bad, parameters.EMBEDDINGS, frozenset({"messages", "input"}))
        assert (caught.value.param, caught.value.code) == ("input", "array_above_max_length")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("functions", []),
        ("function_call", {"name": "f"}),
        ("web_search_options", {}),
        ("audio", {"voice": "x", "format": "wav"}),
        ("moderation", {}),
        ("verbosity", "low"),
        ("modalities", ["text", "audio"]),
        ("conversation_id", 7),
        ("white_list_token_ids", [1]),
        ("force_prompt", "{"),
        ("enable_repeat_stopper", True),
        ("add_default_stop", False),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"'{name}'") as caught:
        check(name, value)
    assert caught.value.param == name
    assert caught.value.code == "unsupported_parameter"


def test_how_much_a_response_says_cannot_be_set() -> None:
    engine = frozenset({"text", "messages"})
    for idle in ({}, {"verbosity": None}, {"verbosity": "medium", "format": {"type": "text"}}, "no object"):
        check("text", idle, parameters.RESPONSES, engine)
    with pytest.raises(BadRequest, match=r"'text\.verbosity'") as caught:
        check("text", {"verbosity": "low"}, parameters.RESPONSES, engine)
    assert (caught.value.param, caught.value.code) == ("text.verbosity", "unsupported_parameter")


def test_what_has_no_events_does_not_stream() -> None:
    with pytest.raises(BadRequest, match="/v1/embeddings") as caught:
        check("stream", True, parameters.EMBEDDINGS, frozenset({"messages", "stream"}))
    assert (caught.value.param, caught.value.code) == ("stream", "unsupported_parameter")


@pytest.mark.parametrize(("name", "values"), [*IMPOSSIBLE.items(), *((name, DIALECT[name]) for name in DIALECT)])
def test_a_value_that_asks_for_nothing_passes(name: str, values: tuple[Any, ...]) -> None:
    endpoint = next((endpoint for endpoint in KNOWN if name in KNOWN[endpoint]), CHAT)
    for value in values:
        check(name, value, endpoint)


def test_a_dialect_parameter_that_the_engine_knows_is_its_own() -> None:
    check("best_of", 3, COMPLETIONS)
    with pytest.raises(BadRequest):
        check("best_of", 3, COMPLETIONS, frozenset({"prompt"}))


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        (None, Tier.DEFAULT),
        ("auto", Tier.DEFAULT),
        ("default", Tier.DEFAULT),
        ("scale", Tier.DEFAULT),
        ("flex", Tier.FLEX),
        ("priority", Tier.PRIORITY),
        ("fast", Tier.PRIORITY),
        ("ultrafast", Tier.PRIORITY),
    ],
)
def test_a_service_tier_names_a_lane(value: str | None, tier: Tier) -> None:
    assert parameters.tier(value) is tier


@pytest.mark.parametrize("value", ["", "gold", "batch", "Priority", 1, ["flex"], {}, True])
def test_any_other_service_tier_is_refused_with_the_list(value: Any) -> None:
    with pytest.raises(BadRequest, match="Supported values are: 'auto'") as caught:
        parameters.tier(value)
    assert caught.value.param == "service_tier"


@pytest.mark.parametrize(
    ("body", "ours"),
    [
        ({}, False),
        ({"messages": [], "top_k": 5}, False),
        ({"logit_bias": {"5": 1, "-7": 2}}, False),
        ({"logit_bias": None}, False),
        ({"logit_bias": [5]}, False),
        ({"logit_bias": {"5": 1, "five": 2}}, True),
        ({"logit_bias": {" 5": 1}}, True),
        *(({name: idle[0]}, True) for name, idle in DIALECT.items()),
    ],
)
def test_what_the_worker_has_to_translate_is_known(body: dict[str, Any], ours: bool) -> None:
    assert parameters.speaks_dialect(body) is ours


@pytest.mark.parametrize(
    ("endpoint", "name", "found"),
    [(CHAT, "a", "a"), (CHAT, 5, "5"), (CHAT, None, None), (COMPLETIONS, "a", None)],
)
def test_a_conversation_has_a_name(endpoint: str, name: Any, found: str | None) -> None:
    assert parameters.conversation(endpoint, {"conversation_id": name}, line=False) == found


def test_a_line_of_a_batch_is_no_turn() -> None:
    with pytest.raises(BadRequest, match="batch") as refused:
        parameters.conversation(CHAT, {"conversation_id": "a"}, line=True)
    assert refused.value.param == "conversation_id"
    assert parameters.conversation(CHAT, {}, line=True) is None
