"""What a stored request becomes for the engine: fields that only we set, and parameters beyond OpenAI's, translated.

The rest stays as it came, byte for byte where nothing is translated. Tokens are the engine's own: it is asked for them.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from uuid import UUID

from jobs import conversations, ids, payload
from jobs.errors import BadRequest
from jobs.records import ClaimedJob, Flags, Json, Outcome, Registration
from jobs.states import Status
from worker.asgi import Headers
from worker.stream import hides_usage
from worker.tokens import TOKENIZE, Tokenizing, Tokens

History: TypeAlias = Callable[[UUID], Awaitable[list[Json]]]
"""The messages of the turns before a job's own, in its conversation."""

Edit: TypeAlias = Callable[[Json], None]
"""Changes a completed response in place."""

_CHAT: Final = "/v1/chat/completions"
_COMPLETIONS: Final = "/v1/completions"
_RESPONSES: Final = "/v1/responses"
_KEPT: Final = frozenset({_RESPONSES, f"{_RESPONSES}/input_tokens"})
_SERVICE_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority"})
"""Those that an engine's Responses endpoint knows; OpenAI has more, and the answer's echo is ours anyway."""
_KEEPS_NOTHING: Final = b',"background":false,"store":false,"previous_response_id":null'
"""Responses are kept, and continued, from the database: no engine is to do it by itself."""
_CLOSED: Final = re.compile(rb"\s*\}")
_TOKEN_ID: Final = re.compile(r"-?[0-9]+")

_LOOP: Final[Json] = {"min_pattern_size": 4, "max_pattern_size": 64, "min_count": 4}
"""What counts as a loop: four times the same 4 to 64 tokens. A single token has to come 16 times, as in no table's rule
or row of dots; what a loop of 2 or 3 repeats is one of 4 or 6."""

_INFILLS: Final = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),
)
"""The tokens before prefix, suffix and middle (Bavarian et al., 2022): Qwen and CodeGemma, StarCoder and Granite,
DeepSeek, CodeLlama."""


def _or_null(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_FLAG: Final = _or_null({"type": "boolean"})
_TEXT: Final[Json] = {"type": "string", "minLength": 1}
_FIELDS: Final[Mapping[str, tuple[str, Json]]] = {
    "white_list_token_ids": (
        "allowed_token_ids",
        _or_null({"type": "array", "items": {"type": "integer"}, "minItems": 1}),
    ),
    "white_list_token": (
        "allowed_token_ids",
        _or_null({"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 1024}),
    ),
    "force_prompt": ("continue_final_message", _or_null(_TEXT)),
    "enable_repeat_stopper": ("repetition_detection", _FLAG),
    "add_default_stop": ("ignore_eos", _FLAG),
    "best_of": ("logprobs", _or_null({"type": "integer", "minimum": 1, "maximum": 128})),
    "conversation_id": (
        "messages",
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 255},
                {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                {"type": "null"},
            ]
        },
    ),
}
"""Each parameter of ours with the engine's own that it takes, and the schema of its values."""


def extended(registration: Registration) -> Registration:
    """The same with our parameters in the schemas of the endpoints that can have them: so admission lets them in."""
    endpoints = dict(registration.endpoints)
    for path in (_CHAT, _COMPLETIONS):
        schema = endpoints.get(path, {})
        known = schema.get("properties", {})
        more = {name: rule for name, (needed, rule) in _FIELDS.items() if needed in known and name not in known}
        if more:
            endpoints[path] = schema | {"properties": known | more}
    return replace(registration, endpoints=endpoints)


@dataclass(frozen=True, slots=True)
class Translated:
    """A request as the engine gets it, and the way back for its response."""

    body: bytes
    headers: Headers
    edits: Sequence[Edit]
    names: Mapping[str, str]
    """What the client calls the engine's parameters."""

    def restore(self, outcome: Outcome) -> Outcome:
        """The outcome as the client asked for it: edited if it completed, else in the client's names.

        Raises:
            BadRequest: it completed, but the engine did not do what was asked for.
        """
        if outcome.body is None or not (self.edits or self.names):
            return outcome
        response = payload.decode(outcome.body)
        if outcome.status is Status.COMPLETED:
            for edit in self.edits:
                edit(response)
        else:
            _rename(response["error"], self.names)
        return replace(outcome, body=payload.write(response))


class Dialect:
    """Translates jobs for the engine that described itself so: our fields go where its schemas have them.

    With `separate_caches` no tenant's prompt finds prefixes in the engine's cache that another's has left there.
    """

    def __init__(
        self, registration: Registration, engine: Tokenizing, history: History, *, separate_caches: bool
    ) -> None:
        self._fields = {path: _ours(schema) for path, schema in registration.endpoints.items()}
        self._tokens = Tokens(engine) if TOKENIZE in registration.endpoints else None
        self._history = history
        self._separate_caches = separate_caches

    async def translate(self, job: ClaimedJob) -> Translated:
        """The body to replay, spliced as bytes, and the headers beside it.

        The engine's `request_id` is the job's hex id, by which its response is named; vLLM keeps attempts apart itself.
        The tier is the `priority`: the lower runs first. vLLM's Messages endpoint has neither field and reads headers.
        A stream is asked for its usage, which the result needs whether the client wants it or not.

        Raises:
            BadRequest: a parameter of ours cannot mean anything here.
            EngineBusy: the engine was asked for tokens, and has none to give now.
            JobLost: what was asked for them is gone.
        """
        tier = str(int(job.tier))
        name = ids.response_id(job.id) if job.endpoint == _RESPONSES else job.id.hex
        fields = self._fields.get(job.endpoint, frozenset())
        ours = ""
        if "request_id" in fields:
            ours += f'"request_id":"{name}",'
        if "priority" in fields:
            ours += f'"priority":{tier},'
        if self._separate_caches and "cache_salt" in fields:
            ours += f'"cache_salt":"{job.tenant_id}",'
        headers: Headers = ((b"x-request-id", job.id.hex.encode()), (b"x-vllm-priority", tier.encode()))
        if job.traceparent is not None:
            headers = (*headers, (b"traceparent", job.traceparent.encode()))
        body = job.body
        edits: Sequence[Edit] = ()
        names: Mapping[str, str] = {}
        if job.flags & Flags.DIALECT:
            translation = _Translation(job, self._tokens, echoes="echo" in fields)
            await translation.translate(self._history)
            body, edits, names = payload.write(translation.body), translation.edits, translation.names
        body = _prepend(body, ours.encode())
        if job.endpoint in _KEPT:
            body = _append(body, _KEEPS_NOTHING)
        if job.flags & Flags.STREAMS and "stream_options" in fields and hides_usage(job):
            body = _append(body, b',"stream_options":{"include_usage":true}')
        if job.endpoint == _RESPONSES and job.service_tier and job.service_tier not in _SERVICE_TIERS:
            body = _append(body, b',"service_tier":"auto"')
        return Translated(body, headers, edits, names)


class _Translation:
    """One body on its way: each method translates one parameter, or several that make one of the engine's."""

    def __init__(self, job: ClaimedJob, tokens: Tokens | None, *, echoes: bool) -> None:
        self._job = job
        self._tokens = tokens
        self._echoes = echoes
        self.body: Json = payload.decode(job.body)
        self.edits: list[Edit] = []
        self.names: dict[str, str] = {}

    async def translate(self, history: History) -> None:
        await self._conversation(history)
        self._force()
        await self._allow()
        await self._bias()
        self._stop_loops()
        self._stop_defaults()
        self._best()
        await self._infill()

    async def _conversation(self, history: History) -> None:
        if self.body.pop("conversation_id", None) is not None:
            self.body["messages"] = conversations.joined(await history(self._job.id), self.body["messages"])

    def _force(self) -> None:
        """A prefilled answer, which is part of the content. In a stream vLLM's own `echo` puts it in front; elsewhere
        that would cost the log-probabilities of the whole prompt."""
        text = self.body.pop("force_prompt", None)
        if text is None:
            return
        if self.body.get("continue_final_message"):
            raise _cannot("force_prompt", "cannot be used with 'continue_final_message'")
        streams = bool(self.body.get("stream"))
        if streams and not self._echoes:
            raise _cannot("force_prompt", "cannot be used with 'stream' here, where the engine's chats have no 'echo'")
        self.body |= {
            "messages": [*self.body["messages"], {"role": "assistant", "content": text}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "echo": streams,
        }
        self.names["continue_final_message"] = "force_prompt"
        if not streams:
            self.edits.append(lambda response: _prefix(response, text))

    async def _allow(self) -> None:
        ids = self.body.pop("white_list_token_ids", None)
        texts = self.body.pop("white_list_token", None)
        if ids is None and texts is None:
            return
        name = "white_list_token" if ids is None else "white_list_token_ids"
        if self.body.get("allowed_token_ids") is not None:
            raise _cannot(name, "cannot be used with 'allowed_token_ids'")
        self.names["allowed_token_ids"] = name
        found = [await self._token(text, "white_list_token") for text in texts or ()]
        self.body["allowed_token_ids"] = [*(ids or ()), *found]

    async def _bias(self) -> None:
        bias = self.body.get("logit_bias")
        if isinstance(bias, dict):
            self.body["logit_bias"] = {
                key if _TOKEN_ID.fullmatch(key) else str(await self._token(key, "logit_bias")): value
                for key, value in bias.items()
            }

    def _stop_loops(self) -> None:
        if self.body.pop("enable_repeat_stopper", None) and self.body.get("repetition_detection") is None:
            self.body["repetition_detection"] = _LOOP

    def _stop_defaults(self) -> None:
        """vLLM's `ignore_eos` leaves out the end of the model's generation config too."""
        if self.body.pop("add_default_stop", None) is False:
            self.body["ignore_eos"] = True

    def _best(self) -> None:
        """More samples than are returned. A beam search sorts them itself, by their scores; without sampling all would
        be the same."""
        samples, count = self.body.pop("best_of", None), self.body.get("n") or 1
        if samples is None:
            return
        if samples < count:
            raise _cannot("best_of", f"must be at least 'n', which is {count}")
        if samples == count or (self.body.get("temperature") == 0 and not self.body.get("use_beam_search")):
            return
        for other in ("stream", "echo"):
            if self.body.get(other):
                raise _cannot("best_of", f"cannot be used with '{other}'")
        self.body["n"] = samples
        ranked = not self.body.get("use_beam_search")
        logprobs = self.body.get("logprobs")
        shown = logprobs is not None and logprobs is not False
        if ranked and not shown:
            self.body["logprobs"] = True if self._job.endpoint == _CHAT else 0
        asked = len(_prompts(self.body)) * samples
        self.edits.append(lambda response: _refuse_fewer(response, asked, ranked))
        self.edits.append(lambda response: _keep_best(response, samples, count, ranked, shown))

    async def _infill(self) -> None:
        suffix = self.body.pop("suffix", None)
        if suffix is None:
            return
        prompts = self.body.get("prompt")
        several = isinstance(prompts, list)
        texts = prompts if isinstance(prompts, list) else [prompts]
        if not all(isinstance(text, str) for text in texts):
            raise _cannot("suffix", "needs prompts of text")
        if self.body.get("echo"):
            raise _cannot("suffix", "cannot be used with 'echo'")
        before, between, behind = await self._infill_tokens()
        filled = [f"{before}{text}{between}{suffix}{behind}" for text in texts]
        self.body["prompt"] = filled if several else filled[0]

    async def _infill_tokens(self) -> tuple[str, str, str]:
        if self._tokens is not None:
            for marks in _INFILLS:
                if all([await self._tokens.single(mark, self.body.get("model")) is not None for mark in marks]):
                    return marks
        raise _cannot("suffix", "is not supported by this model: its tokenizer has no tokens for it")

    async def _token(self, text: str, name: str) -> int:
        if self._tokens is None:
            raise _cannot(name, "is not supported with text by this model, whose engine does not tokenize")
        token = await self._tokens.single(text, self.body.get("model"))
        if token is None:
            raise _cannot(name, f"has '{text:.100}', which is not a single token of this model")
        return token


def _cannot(name: str, why: str) -> BadRequest:
    return BadRequest(f"Invalid '{name}': it {why}.", param=name, code="invalid_value")


def _prefix(response: Json, text: str) -> None:
    for choice in response["choices"]:
        choice["message"]["content"] = text + (choice["message"].get("content") or "")


def _prompts(body: Json) -> Sequence[Any]:
    """The prompts of a request, which may be one of text or of tokens, or a list of either; a chat has one."""
    prompt = body.get("prompt")
    return prompt if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)) else [prompt]


def _refuse_fewer(response: Json, asked: int, ranked: bool) -> None:
    """A server may not know `n`, or `logprobs`, and answer all the same."""
    choices = response["choices"]
    if len(choices) != asked:
        raise _cannot("best_of", f"needs {asked} samples, and this model's engine made {len(choices)}")
    if ranked and not any(choice.get("logprobs") for choice in choices):
        raise _cannot("best_of", "needs log-probabilities, and this model's engine gave none")


def _keep_best(response: Json, samples: int, count: int, ranked: bool, shown: bool) -> None:
    """Of each prompt's `samples` choices the `count` best, best first; log-probabilities only if they were `shown`."""
    choices = response["choices"]
    best: list[Json] = []
    for start in range(0, len(choices), samples):
        group = choices[start : start + samples]
        best += (sorted(group, key=_mean_logprob, reverse=True) if ranked else group)[:count]
    for index, choice in enumerate(best):
        choice["index"] = index
        if not shown:
            choice["logprobs"] = None
    response["choices"] = best


def _mean_logprob(choice: Json) -> float:
    logprobs = choice.get("logprobs") or {}
    values = logprobs.get("token_logprobs") or [token["logprob"] for token in logprobs.get("content") or ()]
    return sum(values) / len(values) if values else float("-inf")


def _rename(error: Json, names: Mapping[str, str]) -> None:
    for theirs, ours in names.items():
        error["message"] = error["message"].replace(theirs, ours)
        if error["param"] == theirs:
            error["param"] = ours


def _ours(schema: Json) -> frozenset[str]:
    found = frozenset(("request_id", "priority", "cache_salt", "stream_options", "echo"))
    branches = [_follow(schema, branch) for branch in schema.get("anyOf") or schema.get("oneOf") or [schema]]
    return found.intersection(*(branch.get("properties", {}) for branch in branches))


def _follow(schema: Json, branch: Mapping[str, Json]) -> Json:
    reference = branch.get("$ref")
    if isinstance(reference, str):
        target: Json = schema["$defs"][reference.removeprefix("#/$defs/")]
        return target
    return dict(branch)


def _prepend(body: bytes, fields: bytes) -> bytes:
    """`fields` end in a comma and go in front, where a field of the same name in the body would win: admission refuses
    those. A body that is no object is the engine's to refuse."""
    start = body.find(b"{") + 1
    if not fields or not start or body[: start - 1].strip():
        return body
    if _CLOSED.match(body, start):
        fields = fields[:-1]
    return body[:start] + fields + body[start:]


def _append(body: bytes, fields: bytes) -> bytes:
    """`fields` begin with a comma and go behind the last field, where they win over one of the same name."""
    end = body.rfind(b"}")
    if body[:end].rstrip().endswith(b"{"):
        fields = fields[1:]
    return body[:end] + fields + body[end:]
