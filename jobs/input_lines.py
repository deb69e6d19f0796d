"""A line of a batch's input file: what OpenAI's Batch API asks of it before the request in it is looked at.

What it refuses fails the whole batch, with its line's number; everything else is one failed line at most.
"""

import hashlib
import json
import struct
from array import array
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Final

from jobs import payload
from jobs.admission import parameters, terms
from jobs.admission.parameters import CHAT
from jobs.errors import BadRequest
from jobs.records import Json

_FIELDS: Final = ("custom_id", "method", "url", "body")
_LONGEST_ID: Final = 512
ENVELOPE_BYTES: Final = 16 * 2**10
"""Room on a line for what stands around its body."""
DEPTHS: Final = (128, 512, 2048, 8192, 32768)
"""Bytes of a prompt at which its beginning is told from others'."""
_NUMBER_BITS: Final = 27
"""Of a beginning's number; its rank stands before them."""


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A line that is well formed."""

    custom_id: str
    model: str | None
    body: Json


def read(raw: bytes, endpoint: str) -> RequestLine:
    """One line of a file for `endpoint`.

    Raises:
        BadRequest: with the code and param that OpenAI's Batch API gives to the fault.
    """
    payload.refuse_crowds(raw)
    try:
        value = payload.decode(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadRequest("This line is not parseable as valid JSON.", code="invalid_json_line")
    for name in _FIELDS:
        if value.get(name) is None:
            message = f"Missing required parameter: '{name}'."
            raise BadRequest(message, param=name, code="missing_required_parameter")
    if value["method"] != "POST":
        raise BadRequest("The method of a batch's requests must be POST.", param="method", code="invalid_method")
    if value["url"] != endpoint:
        message = "The URL provided for this request does not match the batch endpoint."
        raise BadRequest(message, param="url", code="invalid_url")
    return _checked(_custom_id(value["custom_id"]), value["body"], endpoint)


def _custom_id(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_ID:
        message = f"Invalid 'custom_id': expected a string of at most {_LONGEST_ID} characters."
        raise BadRequest(message, param="custom_id", code="invalid_value")
    return terms.storable(value, "custom_id")


def _checked(custom_id: str, body: object, endpoint: str) -> RequestLine:
    if not isinstance(body, dict):
        raise BadRequest("Invalid type for 'body': expected an object.", param="body", code="invalid_type")
    if body.get("stream"):
        of = "Chat Completions: " if endpoint == CHAT else ""
        message = f"{of}Streaming is not supported in the Batch API."
        raise BadRequest(message, param="body.stream", code="streaming_unsupported")
    if endpoint == CHAT and body.get("messages") is None:
        raise BadRequest("Messages parameter is required.", param="body.messages", code="invalid_request")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequest("Model parameter is required.", param="body.model", code="invalid_request")
    return RequestLine(custom_id, model and terms.storable(model, "body.model"), body)


def _prompt(body: Json) -> bytes:
    """What the engine reads first, first: tools, instructions, then what is said."""
    parts = [body.get(name) for name in ("tools", "system", "instructions", "messages", "prompt", "input", "query")]
    return json.dumps([part for part in parts if part is not None], ensure_ascii=False).encode(errors="replace")


def is_deterministic(body: Json) -> bool:
    """Whether the same body gets the same answer: no randomness, or a seed for it."""
    return body.get("temperature") == 0 or body.get("seed") is not None


class Seen:
    """Finds what came before among millions of digests (16 bytes) in 24 bytes apiece; a set takes ten times that."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._table = array("I", bytes(4 << 10))
        self._count = 0

    def add(self, digest: bytes) -> int | None:
        """The number, from 0, under which this digest was added before; None if it is new and now has the next."""
        slot = self._slot(digest)
        if number := self._table[slot]:
            return number - 1
        self._digests += digest
        self._count += 1
        self._table[slot] = self._count
        if self._count * 2 > len(self._table):
            self._grow()
        return None

    def number(self, digest: bytes) -> int:
        """The number of this digest, which is added if it is new."""
        found = self.add(digest)
        return self._count - 1 if found is None else found

    def _slot(self, digest: bytes) -> int:
        """Where it is, or would be: linear probing."""
        mask = len(self._table) - 1
        slot = int.from_bytes(digest[:8]) & mask
        while number := self._table[slot]:
            if self._digests[16 * number - 16 : 16 * number] == digest:
                return slot
            slot = slot + 1 & mask
        return slot

    def _grow(self) -> None:
        self._table = array("I", bytes(8 * len(self._table)))
        for number in range(self._count):
            self._table[self._slot(bytes(self._digests[16 * number : 16 * number + 16]))] = number + 1


class Places:
    """Where the lines of a file go in their flow.

    Those whose prompts share a beginning stand together, at every depth, so that the engine's prefix cache finds it.
    What opens a beginning decides where it stands: the longer its answer may be, by powers of two, the earlier, so that
    no long answer is left running alone at the end (longest processing time first: Graham, 1969). Where neither tells
    them apart, lines keep the order of the file, and so their rows their neighbours.
    """

    def __init__(self) -> None:
        self._beginnings = Seen()
        self._ranks = bytearray()
        """Of each beginning, in their order."""

    def of(self, body: Json, line: int) -> bytes:
        """Five numbers, of the prompt's first bytes among all beginnings so far, and the line's own, 4 bytes each."""
        prompt = _prompt(body)
        rank = _rank(body)
        hashed = hashlib.blake2b(digest_size=16)
        numbers, done, number = [], 0, 0
        for depth in DEPTHS:
            if done < len(prompt):
                hashed.update(prompt[done:depth])
                done = depth
                number = self._beginnings.number(hashed.digest())
                if number == len(self._ranks):
                    self._ranks.append(rank)
                number |= self._ranks[number] << _NUMBER_BITS
            numbers.append(number)
        return struct.pack(">6I", *numbers, line)


def _rank(body: Json) -> int:
    """0 for what may answer without a limit, up to 31 for what answers nothing."""
    limit = parameters.output_limit(body)
    return 0 if limit is None else max(0, 31 - limit.bit_length())


async def split(chunks: AsyncIterable[bytes], longest: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """The lines of a file with their numbers, from 1, without blank ones; None for one of more than `longest` bytes,
    of which no more is held."""
    number, size = 0, 0
    parts: list[bytes] = []
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            number += 1
            if size + len(end) > longest:
                yield number, None
            elif (line := b"".join((*parts, end))).strip():
                yield number, line
            parts, size = [], 0
        size += len(rest)
        parts.append(rest)
        if size > longest:
            parts.clear()
    if size > longest:
        yield number + 1, None
    elif (line := b"".join(parts)).strip():
        yield number + 1, line
