"""OpenAI's own parameters of each endpoint: which are hints, which cannot be had, and the ranges OpenAI documents."""

import re
from collections.abc import Mapping
from typing import Any, Final

from jobs.endpoints import ARGUMENTS, OURS, STEERING, STEERING_ARGUMENTS, STREAMING
from jobs.errors import BadRequest
from jobs.records import Json, Tier

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
RESPONSES: Final = "/v1/responses"
INPUT_TOKENS: Final = "/v1/responses/input_tokens"
EMBEDDINGS: Final = "/v1/embeddings"
MESSAGES: Final = "/v1/messages"
COUNT_TOKENS: Final = "/v1/messages/count_tokens"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


KNOWN: Final[Mapping[str, frozenset[str]]] = {
    CHAT: _names(
        """audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages
        metadata modalities model moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key
        prompt_cache_options prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier
        stop store stream stream_options temperature tool_choice tools top_logprobs top_p user verbosity
        web_search_options"""
    ),
    COMPLETIONS: _names(
        """best_of echo frequency_penalty logit_bias logprobs max_tokens model n presence_penalty prompt seed stop
        stream stream_options suffix temperature top_p user"""
    ),
    RESPONSES: _names(
        """access_programs background context_management conversation image include input instructions max_output_tokens
        max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt prompt_cache_key
        prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream stream_options
        temperature text tool_choice tools top_logprobs top_p truncation user"""
    ),
    INPUT_TOKENS: _names(
        """conversation input instructions model parallel_tool_calls personality previous_response_id reasoning text
        tool_choice tools truncation"""
    ),
    EMBEDDINGS: _names("dimensions encoding_format input model user"),
    MESSAGES: _names(
        """cache_control container diagnostics inference_geo max_tokens messages metadata model output_config
        service_tier speed stop_sequences stream system temperature thinking tool_choice tools top_k top_p
        user_profile_id workspace_id"""
    ),
    COUNT_TOKENS: _names(
        """cache_control messages model output_config speed system thinking tool_choice tools user_profile_id
        workspace_id"""
    ),
}
"""Every parameter of OpenAI's endpoints, as in the types of its SDK, and of Anthropic's two."""

HINTS: Final = _names(
    """user store metadata service_tier safety_identifier prompt_cache_key prompt_cache_options prompt_cache_retention
    prediction cache_control diagnostics user_profile_id workspace_id"""
)
"""They change no answer: accepted whether or not the engine knows them, and whatever it would say of their values."""

IMPOSSIBLE: Final[Mapping[str, tuple[Any, ...]]] = {
    "functions": (None,),
    "function_call": (None, "none", "auto"),
    "web_search_options": (None,),
    "audio": (None,),
    "moderation": (None,),
    "context_management": (None, []),
    "conversation": (None,),
    "personality": (None,),
    "verbosity": (None, "medium"),
    "modalities": (None, ["text"]),
    "access_programs": (None, []),
    "image": (None,),
    "container": (None,),
    "inference_geo": (None,),
    "speed": (None, "standard"),
}
"""What no engine of ours can do, with the values that ask for nothing."""

_NOT_HERE: Final = "is not supported by this server"

DIALECT: Final[Mapping[str, tuple[Any, ...]]] = {
    "white_list_token_ids": (None,),
    "white_list_token": (None,),
    "force_prompt": (None,),
    "enable_repeat_stopper": (None, False),
    "add_default_stop": (None, True),
    "conversation_id": (None,),
    "best_of": (None, 1),
    "suffix": (None,),
}
"""Parameters of our own, with the values that ask for nothing. A worker that can translate them for its engine puts
them into the schemas that it registers; elsewhere they are refused."""

_INTEGER: Final = re.compile(r"-?[0-9]+")

_STREAM_OPTIONS: Final = frozenset({"include_usage", "continuous_usage_stats", "include_obfuscation"})
"""OpenAI's and vLLM's. Obfuscation pads what goes over the public internet to OpenAI's clients; it is no part of an
answer."""

OUR_OWN: Final = OURS | {"service_tier", "metadata"}
"""What every submit may say, on any endpoint."""

TIERS: Final[Mapping[str, Tier]] = {
    "auto": Tier.DEFAULT,
    "default": Tier.DEFAULT,
    "scale": Tier.DEFAULT,
    "standard_only": Tier.DEFAULT,
    "flex": Tier.FLEX,
    "priority": Tier.PRIORITY,
    "fast": Tier.PRIORITY,
    "ultrafast": Tier.PRIORITY,
}
"""`service_tier`, in OpenAI's words and Anthropic's."""

_TEMPERATURE: Final[Json] = {"minimum": 0, "maximum": 2}
_SHARE: Final[Json] = {"minimum": 0, "maximum": 1}
_PENALTY: Final[Json] = {"minimum": -2, "maximum": 2}
_CHOICES: Final[Json] = {"minimum": 1, "maximum": 128}
_TOKENS: Final[Json] = {"minimum": 1, "maximum": 2**31 - 1}
_ROLES: Final = ["system", "developer", "user", "assistant", "tool", "function"]

RANGES: Final[Mapping[str, Json]] = {
    CHAT: {
        "messages": {"minItems": 1, "items": {"properties": {"role": {"enum": _ROLES}}}},
        "temperature": _TEMPERATURE,
        "top_p": _SHARE,
        "n": _CHOICES,
        "max_tokens": _TOKENS,
        "max_completion_tokens": _TOKENS,
        "frequency_penalty": _PENALTY,
        "presence_penalty": _PENALTY,
        "tools": {"maxItems": 128},
    },
    COMPLETIONS: {
        "temperature": _TEMPERATURE,
        "top_p": _SHARE,
        "n": _CHOICES,
        "max_tokens": {"minimum": 0, "maximum": 2**31 - 1},
        "frequency_penalty": _PENALTY,
        "presence_penalty": _PENALTY,
    },
    RESPONSES: {"temperature": _TEMPERATURE, "top_p": _SHARE, "max_output_tokens": _TOKENS},
    EMBEDDINGS: {"input": {"minItems": 1, "minLength": 1}, "dimensions": {"minimum": 1}},
    MESSAGES: {"messages": {"minItems": 1}, "temperature": _SHARE, "top_p": _SHARE, "max_tokens": _TOKENS},
}
"""The documented ranges that an engine's own schema leaves out, as JSON Schema of single properties."""


LONGEST: Final[Mapping[str, Mapping[str, int]]] = {EMBEDDINGS: {"input": 2048}}
"""How many inputs OpenAI takes in one request; an array of tokens is a single one."""


UNSERVABLE: Final[Mapping[str, tuple[str, ...]]] = {"encoding_format": ("bytes", "bytes_only")}
"""Values by which an engine answers with something else than JSON, which this server could not hand back as it is."""


_OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def refuse_strangers(endpoint: str, body: Json, engine: frozenset[str]) -> None:
    """Refuse by name the first parameter that is not ours, the engine's or OpenAI's, or that cannot be had.

    `engine` has the properties of the engine's own schema; none means that it takes anything.

    Raises:
        BadRequest: with the parameter in `param`.
    """
    for name, value in body.items():
        if name in STEERING:
            raise _steers(name)
        if name == ARGUMENTS and isinstance(value, dict):
            for argument in value.keys() & STEERING_ARGUMENTS:
                raise _steers(f"{name}.{argument}")
        if name in UNSERVABLE and value in UNSERVABLE[name]:
            raise BadRequest(
                f"Unsupported value: '{name}' does not support '{value}' with this server, which answers in JSON.",
                param=name,
                code="unsupported_value",
            )
        if name == "stream" and value is True and endpoint not in STREAMING:
            raise _unsupported(name, f"is not supported by {endpoint}")
        if name == "stream_options" and value is not None:
            _check_stream_options(value, body)
        if name == "text" and endpoint == RESPONSES and isinstance(value, dict):
            _refuse_unless_idle("text.verbosity", value.get("verbosity"), IMPOSSIBLE["verbosity"], _NOT_HERE)
        if name in LONGEST.get(endpoint, ()):
            _refuse_longer(name, value, LONGEST[endpoint][name])
        if name in engine or name in OUR_OWN:
            continue
        elif name in DIALECT:
            _refuse_unless_idle(name, value, DIALECT[name], "is not supported by this model")
        elif name in KNOWN.get(endpoint, ()):
            if name in IMPOSSIBLE:
                _refuse_unless_idle(name, value, IMPOSSIBLE[name], _NOT_HERE)
        elif engine:
            raise BadRequest(
                f"Unrecognized request argument supplied: {name:.100}", param=name[:100], code="unknown_parameter"
            )


def speaks_dialect(body: Json) -> bool:
    """Whether it has parameters of our own, which only a worker understands: by name, or tokens by their text."""
    if not DIALECT.keys().isdisjoint(body):
        return True
    bias = body.get("logit_bias")
    return isinstance(bias, dict) and not all(map(_INTEGER.fullmatch, bias))


def output_limit(body: Json) -> int | None:
    """How many tokens one answer may have, by the smallest of its limits; None without any."""
    return min((body[name] for name in _OUTPUT_LIMITS if isinstance(body.get(name), int)), default=None)


def conversation(endpoint: str, body: Json, line: bool) -> str | None:
    """The name of the conversation whose next turn this request is, if it is one; a number is its digits.

    Raises:
        BadRequest: it cannot be a name, or this is a `line` of a batch, whose lines run in no order.
    """
    name = body.get("conversation_id")
    if endpoint != CHAT or name is None:
        return None
    if line:
        message = "Unsupported parameter: 'conversation_id' is not supported in a batch, whose lines have no order."
        raise BadRequest(message, param="conversation_id", code="unsupported_parameter")
    return str(name)


def tier(value: object) -> Tier:
    """The tier that a `service_tier` asks for; null or none is the default.

    Raises:
        BadRequest: there is no such tier.
    """
    if value is None:
        return Tier.DEFAULT
    if isinstance(value, str) and value in TIERS:
        return TIERS[value]
    raise BadRequest(
        f"Invalid value: '{value!s:.100}'. Supported values are: {', '.join(map(repr, TIERS))}.",
        param="service_tier",
        code="invalid_value",
    )


def _steers(place: str) -> BadRequest:
    return BadRequest(
        f"'{place}' steers the engine for other requests too; it cannot be set here.",
        param=place,
        code="unsupported_parameter",
    )


def _refuse_longer(name: str, value: object, most: int) -> None:
    if isinstance(value, list) and len(value) > most and not isinstance(value[0], int):
        raise BadRequest(
            f"Invalid '{name}': array too long. Expected a length of at most {most}.",
            param=name,
            code="array_above_max_length",
        )


def _refuse_unless_idle(name: str, value: object, idle: tuple[Any, ...], why: str) -> None:
    # `is` for the booleans: 0 == False, and `stream: 0` is the schema's to refuse.
    if not any(value is harmless if isinstance(harmless, bool) else value == harmless for harmless in idle):
        raise _unsupported(name, why)


def _unsupported(name: str, why: str) -> BadRequest:
    return BadRequest(f"Unsupported parameter: '{name}' {why}.", param=name, code="unsupported_parameter")


def _check_stream_options(value: object, body: Json) -> None:
    if not body.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise BadRequest(message, param="stream_options", code="invalid_value")
    for name in value.keys() - _STREAM_OPTIONS if isinstance(value, dict) else ():
        place = f"stream_options.{name:.100}"
        raise BadRequest(f"Unrecognized request argument supplied: {place}", param=place, code="unknown_parameter")
