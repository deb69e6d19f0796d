"""A response's chunks, put together to the outcome that is stored. What comes out is OpenAI's form, or as it came."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any, Final, Protocol

from jobs import response_object
from jobs.records import ClaimedJob, Json, Outcome
from jobs.states import Status
from worker import error_body, usage

ODD_FINISH: Final = re.compile(rb'"finish_reason":\s*"(?:abort|repetition)"')
_FINISH: Final = {"abort": "length", "repetition": "stop"}
"""vLLM's finish reasons that OpenAI's clients do not know: text that was cut short, text that was ended on purpose."""
_RESPONSES: Final = "/v1/responses"
ECHOING: Final = frozenset({"/v1/chat/completions"})
"""Where OpenAI's response names the service tier that was used, if the request named one."""
_USED_TIER: Final = {"priority": "priority", "fast": "priority", "ultrafast": "priority", "flex": "flex"}


LARGEST_BYTES: Final = 128 * 2**20
"""PostgreSQL takes a value of 1 GB at most, and as text a body is twice its size."""
TOO_LARGE: Final = f"The response was larger than {LARGEST_BYTES // 2**20} MiB. Ask for less in one request."


class Response(Protocol):
    """What an assembler needs of a response: `worker.replay.Replay` has it."""

    status: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Assembler:
    """One response whose body is one JSON document. Feed it every chunk, then ask for the outcome."""

    def __init__(self, job: ClaimedJob, status: int) -> None:
        self._job = job
        self._status = status
        self._chunks: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk of the body; nothing of one that has grown too large is kept."""
        self._size += len(chunk)
        if self._size > LARGEST_BYTES:
            self._chunks.clear()
        else:
            self._chunks.append(chunk)

    def outcome(self) -> Outcome:
        """2xx is `completed`, any other status `failed` with the error in OpenAI's form."""
        if self._size > LARGEST_BYTES:
            return Outcome(Status.FAILED, error_code="response_too_large", error_message=TOO_LARGE)
        body = b"".join(self._chunks)
        if not 200 <= self._status < 300:
            body = error_body.normalise(self._job.endpoint, self._status, body)
            return Outcome(Status.FAILED, self._status, body)
        return Outcome(Status.COMPLETED, self._status, _edited(self._job, body), usage.find(body))


async def assemble(job: ClaimedJob, response: Response) -> Outcome:
    """The outcome of a whole response. Raises what iterating over it raises."""
    assembler = Assembler(job, response.status)
    async for chunk in response:
        assembler.feed(chunk)
    return assembler.outcome()


def _edited(job: ClaimedJob, body: bytes) -> bytes:
    """The body as OpenAI would have it. Most need no edit and stay the engine's own bytes, unparsed."""
    echoes = job.service_tier is not None and job.endpoint in ECHOING
    odd = ODD_FINISH.search(body) is not None
    if not echoes and not odd and job.endpoint != _RESPONSES:
        return body
    response = json.loads(body)
    if not isinstance(response, dict):
        return body
    if job.endpoint == _RESPONSES:
        response = response_object.answered(response_object.of_job(job), response)
    if odd:
        name_known_reasons(response)
    if echoes:
        response["service_tier"] = used_tier(job)
    return json.dumps(response, separators=(",", ":")).encode()


def used_tier(job: ClaimedJob) -> str | None:
    """The service tier that was used, in OpenAI's words; None where the request named none."""
    return None if job.service_tier is None else _USED_TIER.get(job.service_tier, "default")


def name_known_reasons(response: Json) -> None:
    """Put OpenAI's finish reasons in the place of others that mean the same, which become the stop reason."""
    choices: Any = response.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        reason = choice.get("finish_reason")
        if reason in _FINISH:
            choice |= {"finish_reason": _FINISH[reason], "stop_reason": reason}
