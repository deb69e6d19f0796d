"""A stream's events, folded into the response that the same request gets without `stream`, field by field."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from jobs.admission.parameters import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from jobs.records import Json

_TOGETHER: Final = 256
"""So many events are parsed at once: one list costs a third of its items, and nobody else runs meanwhile."""


class Fold(Protocol):
    """Takes the data of every event in their order, and has the response at the end; None if it never came to one."""

    def add(self, data: Json) -> None: ...

    def response(self) -> Json | None: ...


class Folder:
    """Parses events in company, and folds them."""

    def __init__(self, endpoint: str) -> None:
        self._fold = FOLDS[endpoint]()
        self._waiting: list[bytes] = []

    def add(self, event: bytes) -> None:
        """Take an event that has JSON for its data."""
        self._waiting.append(event[event.find(b"data:") + 5 : -2])
        if len(self._waiting) >= _TOGETHER:
            self._parse()

    def response(self) -> Json | None:
        """What the events make. Raises ValueError if one of them is no JSON."""
        self._parse()
        return self._fold.response()

    def _parse(self) -> None:
        waiting, self._waiting = self._waiting, []
        for data in json.loads(b"[" + b",".join(waiting) + b"]"):
            self._fold.add(data)


class _Choices(ABC):
    """What chats and completions have in common: chunks with choices."""

    _HEAD: tuple[str, ...] = ("id", "created", "model", "system_fingerprint", "usage", "metrics", "service_tier")

    def __init__(self) -> None:
        self._head: Json = {}
        self._choices: dict[int, Json] = {}

    def add(self, data: Json) -> None:
        for name in self._HEAD:
            if data.get(name) is not None:
                self._head[name] = data[name]
        for choice in data.get("choices") or ():
            own = self._choices.setdefault(choice["index"], {"ids": [], "logprobs": []})
            for name in ("finish_reason", "stop_reason", "prompt_token_ids"):
                if choice.get(name) is not None:
                    own[name] = choice[name]
            own["ids"] += choice.get("token_ids") or ()
            if choice.get("logprobs"):
                own["logprobs"].append(choice["logprobs"])
            self._grow(own, choice)

    def response(self) -> Json | None:
        if not self._choices:
            return None
        choices = [self._choice(index, own) for index, own in sorted(self._choices.items())]
        return self._whole(self._head.get, choices)

    @abstractmethod
    def _grow(self, own: Json, choice: Json) -> None: ...

    @abstractmethod
    def _choice(self, index: int, own: Json) -> Json: ...

    @abstractmethod
    def _whole(self, head: Callable[[str], Any], choices: Sequence[Json]) -> Json: ...


class _Chat(_Choices):
    _HEAD = (*_Choices._HEAD, "prompt_token_ids", "prompt_text")

    def _grow(self, own: Json, choice: Json) -> None:
        for name, value in (choice.get("delta") or {}).items():
            if name == "tool_calls":
                for call in value or ():
                    _call(own.setdefault("calls", {}), call)
            elif isinstance(value, str) and name != "role":
                own.setdefault("texts", {}).setdefault(name, []).append(value)

    def _choice(self, index: int, own: Json) -> Json:
        texts = {name: "".join(parts) for name, parts in own.get("texts", {}).items()}
        calls = [call for _, call in sorted(own.get("calls", {}).items())]
        content = texts.pop("content", None)
        message = {
            "role": "assistant",
            "content": content or None if calls else content,
            "refusal": texts.pop("refusal", None),
            "annotations": None,
            "audio": None,
            "function_call": None,
            **({"tool_calls": calls} if calls else {}),
            "reasoning": texts.pop("reasoning", None),
            **texts,
        }
        probabilities = [entry for part in own["logprobs"] for entry in part.get("content") or ()]
        return {
            "index": index,
            "message": message,
            "logprobs": {"content": probabilities} if own["logprobs"] else None,
            "finish_reason": own.get("finish_reason"),
            "stop_reason": own.get("stop_reason"),
            "token_ids": own["ids"] or None,
            "routed_experts": None,
        }

    def _whole(self, head: Callable[[str], Any], choices: Sequence[Json]) -> Json:
        return {
            "id": head("id"),
            "object": "chat.completion",
            "created": head("created"),
            "model": head("model"),
            "choices": choices,
            "service_tier": head("service_tier"),
            "system_fingerprint": head("system_fingerprint"),
            "usage": _usage(head("usage")),
            "prompt_logprobs": None,
            "prompt_token_ids": head("prompt_token_ids"),
            "prompt_text": head("prompt_text"),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": head("metrics"),
        }


def _usage(usage: Json | None) -> Json | None:
    """With the nulls that vLLM leaves out of a stream's last chunk."""
    if usage is None:
        return None
    whole = {"prompt_tokens_details": None, "completion_tokens_details": None, **usage}
    if details := whole["prompt_tokens_details"]:
        names = ("cached_tokens", "created_cache_tokens", "multimodal_tokens")
        whole["prompt_tokens_details"] = {**dict.fromkeys(names), **details}
    return whole


def _call(calls: dict[int, Json], delta: Json) -> None:
    """A tool call's piece: its id and name come once, its arguments bit by bit."""
    call = calls.setdefault(delta["index"], {"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
    if delta.get("id"):
        call["id"] = delta["id"]
    function = delta.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


class _Completion(_Choices):
    def _grow(self, own: Json, choice: Json) -> None:
        own.setdefault("texts", []).append(choice.get("text") or "")

    def _choice(self, index: int, own: Json) -> Json:
        logprobs: Json | None = None
        for part in own["logprobs"]:
            logprobs = {name: [*(logprobs or {}).get(name, ()), *(part[name] or ())] for name in part}
        return {
            "index": index,
            "text": "".join(own["texts"]),
            "logprobs": logprobs,
            "finish_reason": own.get("finish_reason"),
            "stop_reason": own.get("stop_reason"),
            "token_ids": own["ids"] or None,
            "prompt_logprobs": None,
            "prompt_token_ids": own.get("prompt_token_ids") if own["ids"] else None,  # with `echo` they come unasked
            "routed_experts": None,
        }

    def _whole(self, head: Callable[[str], Any], choices: Sequence[Json]) -> Json:
        return {
            "id": head("id"),
            "object": "text_completion",
            "created": head("created"),
            "model": head("model"),
            "choices": choices,
            "service_tier": head("service_tier"),
            "system_fingerprint": head("system_fingerprint"),
            "usage": _usage(head("usage")),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": head("metrics"),
        }


_GROWING: Final = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class _Message:
    """Anthropic's events, as its SDK puts them together."""

    def __init__(self) -> None:
        self._message: Json | None = None
        self._blocks: dict[int, Json] = {}
        self._parts: dict[tuple[int, str], list[str]] = {}

    def add(self, data: Json) -> None:
        match data.get("type"):
            case "message_start":
                self._message = data["message"]
            case "content_block_start":
                self._blocks[data["index"]] = data["content_block"]
            case "content_block_delta":
                delta = data["delta"]
                name = _GROWING.get(delta["type"], "partial_json")
                self._parts.setdefault((data["index"], name), []).append(delta.get(name) or "")
            case "message_delta" if self._message is not None:
                self._message |= data["delta"]
                self._message["usage"] = {**(self._message.get("usage") or {}), **(data.get("usage") or {})}

    def response(self) -> Json | None:
        if self._message is None:
            return None
        for (index, name), parts in self._parts.items():
            text = "".join(parts)
            block = self._blocks.setdefault(index, {"type": "text"})
            if name == "partial_json":
                block["input"] = json.loads(text or "{}")
            else:
                block[name] = text
        content = [_without_nulls(block) for _, block in sorted(self._blocks.items())]
        return _without_nulls({**self._message, "content": content or [{"type": "text", "text": ""}]})


class _Response:
    """OpenAI's last event brings the whole response."""

    def __init__(self) -> None:
        self._response: Json | None = None

    def add(self, data: Json) -> None:
        self._response = data.get("response", self._response)

    def response(self) -> Json | None:
        return self._response


def _without_nulls(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


FOLDS: Final[Mapping[str, Callable[[], Fold]]] = {
    CHAT: _Chat,
    COMPLETIONS: _Completion,
    MESSAGES: _Message,
    RESPONSES: _Response,
}
"""By the endpoint that streams."""
