"""The wire object of a batch, and the terms on which one is created."""

import re
import time
from typing import Any, Final
from uuid import UUID

from api.objects import unix, usage_object
from jobs import ids
from jobs.errors import BadRequest, NotFound
from jobs.records import Batch, Json
from jobs.states import BatchStatus

NO_FILE: Final = UUID(int=0)
"""The file that a batch names whose `input_file_id` was no file id: nothing ever has this id, so it fails for that."""

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,6})([hms])")
_UNIT_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}
_LONGEST_WINDOW_SECONDS: Final = 30 * 86_400
_EXPIRY_SECONDS: Final = (3600, 30 * 86_400)


def batch(stored: Batch) -> Json:
    """The batch object: OpenAI's keys, always all of them, and two of ours."""
    return {
        "id": ids.batch_id(stored.id),
        "object": "batch",
        "endpoint": stored.endpoint,
        "model": stored.model,
        "errors": None if stored.errors is None else {"object": "list", "data": stored.errors},
        "input_file_id": ids.file_id(stored.input_file_id),
        "completion_window": stored.window,
        "status": stored.status,
        "output_file_id": None if stored.output_file_id is None else ids.file_id(stored.output_file_id),
        "error_file_id": None if stored.error_file_id is None else ids.file_id(stored.error_file_id),
        "created_at": unix(stored.created_at),
        "in_progress_at": unix(stored.in_progress_at),
        "expires_at": unix(stored.expires_at),
        "finalizing_at": unix(stored.finalizing_at),
        "completed_at": unix(stored.completed_at),
        "failed_at": unix(stored.failed_at),
        "expired_at": unix(stored.expired_at),
        "cancelling_at": unix(stored.cancelling_at),
        "cancelled_at": unix(stored.cancelled_at),
        "request_counts": {"total": stored.total, "completed": stored.completed, "failed": stored.failed},
        "usage": None if stored.usage is None else usage_object(stored.usage),
        "metadata": stored.metadata,
        "retry_of": None if stored.retry_of is None else ids.batch_id(stored.retry_of),
        "estimated_completion_at": _ends_at(stored),
    }


def input_file(value: Any) -> UUID:
    """The file that an `input_file_id` names. That there is one is for the batch's validation to find out.

    Raises:
        BadRequest: it is no string.
    """
    if not isinstance(value, str):
        message = "Invalid type for 'input_file_id': expected a string."
        raise BadRequest(message, param="input_file_id", code="invalid_type")
    try:
        return ids.parse("file-", value, "")
    except NotFound:
        return NO_FILE


def window(value: Any) -> tuple[str, int]:
    """A `completion_window` as it is spelled, and its seconds.

    Raises:
        BadRequest: it is none.
    """
    match = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= _LONGEST_WINDOW_SECONDS:
        longest = _LONGEST_WINDOW_SECONDS // 3600
        message = (
            f"Invalid value: '{value!s:.100}'. Supported values are: '24h', or any other number of hours, minutes "
            f"('90m') or seconds ('30s') up to '{longest}h'."
        )
        raise BadRequest(message, param="completion_window", code="invalid_value")
    return str(value), seconds


def output_expiry(value: Any) -> int | None:
    """Seconds that the batch's result files are kept, from when they are written; None: nothing was said.

    Raises:
        BadRequest: naming the field.
    """
    name = "output_expires_after"
    if value is None:
        return None
    if not isinstance(value, dict):
        raise BadRequest(f"Invalid type for '{name}': expected an object.", param=name, code="invalid_type")
    if value.get("anchor") != "created_at":
        message = f"Invalid '{name}.anchor': expected 'created_at'."
        raise BadRequest(message, param=f"{name}.anchor", code="invalid_value")
    seconds, (shortest, longest) = value.get("seconds"), _EXPIRY_SECONDS
    if not isinstance(seconds, int) or isinstance(seconds, bool) or not shortest <= seconds <= longest:
        message = f"Invalid '{name}.seconds': expected {shortest} to {longest} seconds."
        raise BadRequest(message, param=f"{name}.seconds", code="invalid_value")
    return seconds


def _ends_at(stored: Batch) -> int | None:
    """When its last line will have ended if the rest goes on as it went so far."""
    if stored.status is not BatchStatus.IN_PROGRESS or not stored.ended or stored.in_progress_at is None:
        return None
    now = time.time()
    return int(now + (stored.total - stored.ended) * max(0.0, now - stored.in_progress_at.timestamp()) / stored.ended)
