"""Lines of batch files: what a line of the input may be, and how a line of the output says what became of it."""

from typing import Any, Final
from uuid import UUID

from jobs import payload
from jobs.records import Json, Line
from jobs.states import BatchStatus, Status

_EXPIRED: Final = ("batch_expired", "This request could not be executed before the completion window expired.")
_BY_ENDING: Final = {
    (Status.CANCELLED, BatchStatus.CANCELLED): (
        "batch_cancelled",
        "This request was not executed: its batch was cancelled.",
    ),
    (Status.CANCELLED, BatchStatus.EXPIRED): _EXPIRED,  # it still ran when the window was over
    (Status.EXPIRED, BatchStatus.EXPIRED): _EXPIRED,
}
_ALONE: Final = {
    Status.CANCELLED: ("cancelled", "This request was cancelled."),
    Status.EXPIRED: ("expired", "This request expired before it ran."),
}
"""Of lines that ended so in a batch that did not: their owner's doing."""
_FAILED: Final = ("server_error", "The request failed.")


def write(batch_id: UUID, line: Line) -> bytes:
    """One line as OpenAI's result files have it, without its end of line.

    A copy names the line whose run it shares and bills no tokens: those in its body are 0.
    """
    response: Json | None = None
    error: Json | None = None
    if line.status_code is not None:
        response = {"status_code": line.status_code, "request_id": f"req_{line.job_id.hex}"}
        if line.copy_of is not None:
            response["copy_of"] = line.copy_of
    else:
        code, message = _BY_ENDING.get((line.status, line.ending)) or _ALONE.get(line.status, _FAILED)
        error = {"code": line.error_code or code, "message": line.error_message or message}
    named = {"id": f"batch_req_{batch_id.hex}{line.line:08x}", "custom_id": line.custom_id}
    if response is None:
        return payload.write({**named, "response": None, "error": error})
    # The body is JSON as it is: parsing it to write it again would cost more than everything else here.
    body = _unbilled(line.body) if line.copy_of is not None else line.body or b"null"
    head = payload.write({**named, "response": response})
    return b'%s,"body":%s},"error":null}' % (head[:-2], _on_one_line(body))


def _on_one_line(body: bytes) -> bytes:
    """JSON escapes ends of lines in its strings, so those that stand in it are space."""
    return body if b"\n" not in body and b"\r" not in body else body.replace(b"\n", b" ").replace(b"\r", b" ")


def _unbilled(body: bytes | None) -> bytes:
    if body is None:
        return b"null"
    value = payload.decode(body)
    if isinstance(value, dict) and isinstance(value.get("usage"), dict):
        value["usage"] = _zeros(value["usage"])
    return payload.write(value)


def _zeros(usage: Any) -> Any:
    if isinstance(usage, dict):
        return {name: _zeros(value) for name, value in usage.items()}
    return 0 if isinstance(usage, int) else usage
