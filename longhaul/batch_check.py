"""Looks through a file of requests without a service: which lines are bad, and what the good ones cost."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from struct import Struct
from typing import Any, Final

from jobs import input_lines, payload
from jobs.admission import media, parameters, terms, webhook
from jobs.admission.forms import compile_form
from jobs.endpoints import INFERENCE, OURS
from jobs.errors import BadRequest, TooLarge
from jobs.input_lines import Places, RequestLine, Seen
from jobs.records import Json
from jobs.settings import Settings

_CHUNK: Final = 2**20
_BYTES_PER_TOKEN: Final = 4
_NUMBERS: Final = Struct(">5I4x")
"""Of a line's place."""
_DIGEST: Final = Struct(">IIQ")
_GENERATING: Final = (parameters.CHAT, parameters.COMPLETIONS, parameters.RESPONSES, parameters.MESSAGES)


class Check:
    """One pass over one file. Without `schemas`, by endpoint, only OpenAI's own parameters and ranges are known.

    Holds some 24 bytes a line and beginning: custom ids, repeated bodies and beginnings of prompts.
    """

    def __init__(
        self, endpoint: str, settings: Settings, *, model: str | None = None, schemas: dict[str, Json] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._longest = settings.body_limit_bytes + input_lines.ENVELOPE_BYTES
        self._wanted = self._model = model
        self._by_schema = schemas is not None
        self._served = endpoint in INFERENCE and (schemas is None or endpoint in schemas)
        self._form = compile_form(endpoint, (schemas or {}).get(endpoint, {}))
        self._custom_ids, self._bodies, self._beginnings = Seen(), Seen(), Seen()
        self._places = Places()
        self._requests = self._bad = self._failing = self._copies = self._unlimited = 0
        self._input_bytes = self._copied_bytes = self._shared_bytes = self._output_tokens = 0

    @property
    def good(self) -> bool:
        """Whether `faults` found none."""
        return self._served and self._requests > 0 and not self._bad and not self._failing

    async def faults(self, path: Path) -> AsyncIterator[Json]:
        """What is wrong with the file, line by line, as the errors of a batch: `code`, `message`, `param`, `line`.

        `fails` says what that would cost: the whole `batch`, or only the `line`.
        """
        if not self._served:
            message = f"The model does not serve '{self._endpoint:.100}' in batches."
            yield _fault(None, BadRequest(message, param="endpoint", code="invalid_value"), "batch")
            return
        async for number, raw in input_lines.split(_chunks(path), self._longest):
            self._requests += 1
            try:
                line, body = self._read(raw)
            except BadRequest as error:
                self._bad += 1
                yield _fault(number, error, "batch")
                continue
            try:
                self._admit(line.body, len(body), body)
            except BadRequest as error:
                self._failing += 1
                yield _fault(number, error, "line")
            else:
                self._count(line.body, body, self._places.of(line.body, number))
        if not self._requests:
            yield _fault(None, BadRequest("The input file is empty.", code="empty_file"), "batch")

    def estimate(self, batches: int, tokens_per_second: float | None = None) -> Json:
        """What the good lines cost, in tokens of about four bytes; `seconds` by the speed that is given."""
        fresh = self._input_bytes - self._copied_bytes - self._shared_bytes
        tokens = fresh // _BYTES_PER_TOKEN + self._output_tokens
        return {
            "requests": self._requests,
            "endpoint": self._endpoint,
            "model": self._model,
            "batches": batches,
            "bad_lines": self._bad,
            "failing_lines": self._failing,
            "input_tokens": self._input_bytes // _BYTES_PER_TOKEN,
            "shared_prefix": round(self._shared_bytes / self._input_bytes, 4) if self._input_bytes else 0.0,
            "copies": self._copies,
            "max_output_tokens": self._output_tokens,
            "without_output_limit": self._unlimited,
            "seconds": None if tokens_per_second is None else round(tokens / tokens_per_second, 1),
            "checked_against": "schema" if self._by_schema else "openai",
        }

    def _read(self, raw: bytes | None) -> tuple[RequestLine, bytes]:
        """The line and its body as bytes. Raises what fails the whole batch."""
        if raw is None:
            message = f"This line is too long: a request body may have {self._settings.body_limit_bytes} bytes."
            raise TooLarge(message, code="request_too_large")
        line = input_lines.read(raw, self._endpoint)
        if self._custom_ids.add(_digest(line.custom_id.encode())) is not None:
            message = f"The custom_id '{line.custom_id:.100}' was used by an earlier line."
            raise BadRequest(message, param="custom_id", code="duplicate_custom_id")
        if line.model is not None:
            self._check_model(line.model)
        return line, payload.write(line.body)

    def _check_model(self, name: str) -> None:
        self._model = self._model or name
        if name == self._model:
            return
        if self._wanted is not None:
            message = f"The provided model '{name:.200}' is not '{self._wanted:.200}'."
            raise BadRequest(message, param="body.model", code="model_not_found")
        message = f"The model '{name:.200}' is not that of the file's first request, '{self._model:.200}'."
        raise BadRequest(message, param="body.model", code="mismatched_model")

    def _admit(self, body: Json, size: int, raw: bytes) -> None:
        """Raises what fails this line alone."""
        if size > self._settings.body_limit_bytes:
            limit = self._settings.body_limit_bytes
            raise TooLarge(f"The request body is over the limit of {limit} bytes.", code="request_too_large")
        webhook.refuse_of_line(terms.read(body, self._settings.webhook_reach).webhook)
        parameters.refuse_strangers(self._endpoint, body, self._form.names)
        sent = {name: value for name, value in body.items() if name not in OURS}
        if sent.get("service_tier", "") is None:
            del sent["service_tier"]
        if sent.get("model") is None and "model" in self._form.names:
            sent["model"] = self._model or ""
        self._form.check(sent, size)
        if not self._settings.media_urls:
            media.refuse_urls(raw, sent)

    def _count(self, body: Json, raw: bytes, place: bytes) -> None:
        self._input_bytes += len(raw)
        if input_lines.is_deterministic(body) and self._bodies.add(_digest(raw)) is not None:
            self._copies += 1
            self._copied_bytes += len(raw)
            return
        self._shared_bytes += self._shared(place, len(raw))
        if self._endpoint in _GENERATING:
            self._count_output(body)

    def _shared(self, place: bytes, size: int) -> int:
        """How many of the first bytes of a prompt were the first of an earlier one."""
        shared, before = 0, 0
        for depth, number in zip(input_lines.DEPTHS, _NUMBERS.unpack(place), strict=True):
            if self._beginnings.add(_DIGEST.pack(before, number, depth)) is not None:
                shared = min(depth, size)
            if depth >= size:
                break
            before = number
        return shared

    def _count_output(self, body: Json) -> None:
        limit = parameters.output_limit(body)
        samples: Any = body.get("n")
        self._unlimited += limit is None
        self._output_tokens += (limit or 0) * (samples if isinstance(samples, int) else 1)


def in_words(estimate: Json) -> str:
    """An estimate for a reader."""
    bad, failing, batches = estimate["bad_lines"], estimate["failing_lines"], estimate["batches"]
    unlimited, seconds = estimate["without_output_limit"], estimate["seconds"]
    lines = [
        f"{estimate['requests']:,} requests for {estimate['endpoint']}"
        + (f", which `longhaul batch run` splits into {batches} batches" if batches > 1 else ""),
        f"bad lines   {bad:,} fail the whole batch, {failing:,} fail alone" if bad or failing else "bad lines   none",
        f"input       about {estimate['input_tokens']:,} tokens,"
        f" {estimate['shared_prefix']:.0%} of them in a beginning shared with an earlier request",
        f"output      at most {estimate['max_output_tokens']:,} tokens"
        + (f", and {unlimited:,} requests without a limit" if unlimited else ""),
        f"copies      {estimate['copies']:,} deterministic requests that repeat another and do not run",
    ]
    if seconds is not None:
        lines.append(
            f"time        at most {timedelta(seconds=round(seconds))}" + (", without those" if unlimited else "")
        )
    if estimate["checked_against"] == "openai":
        lines.append(
            "Checked against OpenAI's own parameters and ranges; --schemas FILE checks by the engine's too: "
            "`longhaul models schemas MODEL > FILE`."
        )
    return "\n".join(lines)


def _fault(line: int | None, error: BadRequest, fails: str) -> Json:
    return {"code": error.code, "message": error.message, "param": error.param, "line": line, "fails": fails}


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
