"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by the time they were made, and their public spelling."""

import os
import random
import re
import time
from uuid import UUID

from jobs.errors import NotFound

_HEX = re.compile(r"[0-9a-f]{32}")


_latest = (0, 0)
"""Millisecond and counter of the id that this process made last."""


def new() -> UUID:
    """A UUIDv7: 48 bits of Unix milliseconds, a counter of 12 bits, 62 random bits.

    The counter (RFC 9562, 6.2, method 1) makes a process's ids sort in the order in which they were made. It begins a
    millisecond at a random number, and what does not fit into one borrows from the next.
    """
    global _latest
    milliseconds, counter = time.time_ns() // 1_000_000, random.getrandbits(10)
    if milliseconds <= _latest[0]:
        milliseconds, counter = _latest[0], _latest[1] + 1
        if counter > 0xFFF:
            milliseconds, counter = milliseconds + 1, 0
    _latest = milliseconds, counter
    tail = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    return UUID(int=milliseconds << 80 | 0x7 << 76 | counter << 64 | 0x2 << 62 | tail)


def floor(unix_seconds: float) -> UUID:
    """The smallest UUIDv7 of that moment: the lower bound of the ids that were made from then on."""
    return UUID(int=(int(unix_seconds * 1000) << 80) | (0x7 << 76) | (0x2 << 62))


def seconds(value: UUID) -> float:
    """The Unix time, in seconds, at which a UUIDv7 was made."""
    return (value.int >> 80) / 1000


def job_id(value: UUID) -> str:
    """The public spelling of a job's id: `job_` and 32 hex digits."""
    return f"job_{value.hex}"


def response_id(value: UUID) -> str:
    """The public spelling of the id of a job's response: `resp_` and 32 hex digits."""
    return f"resp_{value.hex}"


def file_id(value: UUID) -> str:
    """The public spelling of a file's id: `file-` and 32 hex digits."""
    return f"file-{value.hex}"


def upload_id(value: UUID) -> str:
    """The public spelling of an upload's id: `upload_` and 32 hex digits."""
    return f"upload_{value.hex}"


def part_id(value: UUID) -> str:
    """The public spelling of the id of an upload's part: `part_` and 32 hex digits."""
    return f"part_{value.hex}"


def batch_id(value: UUID) -> str:
    """The public spelling of a batch's id: `batch_` and 32 hex digits."""
    return f"batch_{value.hex}"


def endpoint_id(value: UUID) -> str:
    """The public spelling of a webhook endpoint's id: `whe_` and 32 hex digits."""
    return f"whe_{value.hex}"


def delivery_id(value: UUID) -> str:
    """The public spelling of a delivery's id, which is also its `webhook-id`: `wh_` and 32 hex digits."""
    return f"wh_{value.hex}"


def parse_job_id(text: str) -> UUID:
    """The UUID in a public job id.

    Raises:
        NotFound: it is no job id, so no such job exists.
    """
    return parse("job_", text, f"No job found with id '{text}'.")


def parse_response_id(text: str) -> UUID:
    """The UUID in a public response id.

    Raises:
        NotFound: it is no response id, so no such response exists.
    """
    return parse("resp_", text, f"Response with id '{text}' not found.")


def parse(prefix: str, text: str, missing: str) -> UUID:
    """The UUID in a public id that begins with `prefix`.

    Raises:
        NotFound: it is no such id, so nothing has it; `missing` says so.
    """
    if text.startswith(prefix) and _HEX.fullmatch(text, len(prefix)):
        return UUID(hex=text[len(prefix) :])
    raise NotFound(missing, param="id")
