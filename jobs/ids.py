"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by the time they were made, and their public spelling."""

import os
import re
import time
from uuid import UUID

from jobs.errors import NotFound

_JOB_ID = re.compile(r"job_[0-9a-f]{32}")


def new() -> UUID:
    """A UUIDv7: 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = milliseconds << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)


def floor(unix_seconds: float) -> UUID:
    """The smallest UUIDv7 of that moment: the lower bound of the ids that were made from then on."""
    return UUID(int=(int(unix_seconds * 1000) << 80) | (0x7 << 76) | (0x2 << 62))


def seconds(value: UUID) -> float:
    """The Unix time, in seconds, at which a UUIDv7 was made."""
    return (value.int >> 80) / 1000


def job_id(value: UUID) -> str:
    """The public spelling of a job's id: `job_` and 32 hex digits."""
    return f"job_{value.hex}"


def parse_job_id(text: str) -> UUID:
    """The UUID in a public job id.

    Raises:
        NotFound: it is no job id, so no such job exists.
    """
    if _JOB_ID.fullmatch(text):
        return UUID(hex=text[4:])
    raise NotFound(f"No job found with id '{text}'.", param="id")
