"""A response that is a stream: what the engine says goes to its readers as it comes, and is gathered for the result."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from jobs import error_response, payload
from jobs.admission.parameters import CHAT, COMPLETIONS, MESSAGES, RESPONSES
from jobs.records import ClaimedJob, Json, Outcome, StreamLog
from jobs.states import Status
from jobs.streams import END_OF_EVENT, Channel, Recorder
from worker import error_body, usage
from worker.assemble import ECHOING, LARGEST_BYTES, ODD_FINISH, TOO_LARGE, name_known_reasons, used_tier
from worker.fold import Folder
from worker.lifecycle import Lifecycle

_NO_CHOICES: Final = re.compile(rb'"choices":\s?\[\]')
_FINISHED: Final = re.compile(rb'"finish_reason":\s?"')
_FINGERPRINT: Final = re.compile(rb',"system_fingerprint":"[^"]*"')
_SEQUENCE: Final = re.compile(rb'"sequence_number":\s*(\d+)')
_DONE: Final = b"data: [DONE]\n\n"
_USAGE_ASKED: Final = b'"include_usage"'
_LOST: Final = "The engine's stream ended before its answer did."


@dataclass(frozen=True, slots=True)
class Form:
    """How one endpoint's stream is told apart: its last event, an error, and an event in which a token may be."""

    closing: tuple[bytes, ...]
    error: bytes
    token: bytes
    no_token: bytes | None = None


_CHUNKS: Final = Form((_DONE,), b'data: {"error"', b"data: {", b'"delta":{"role"')
FORMS: Final[Mapping[str, Form]] = {
    CHAT: _CHUNKS,
    COMPLETIONS: _CHUNKS,
    MESSAGES: Form((b"event: message_stop",), b"event: error", b"event: content_block_delta"),
    RESPONSES: Form(
        (b"event: response.completed", b"event: response.incomplete", b"event: response.failed"),
        b"event: error",
        b"event: response.output_text.delta",
    ),
}


class Stream:
    """One run of a job that streams. Feed it every chunk of the response's body, then `close` it with the outcome.

    What the engine says of its own end is said last of all, together with the news that this is the end: so a reader
    that has it has all. An error is the engine's last word, and whether it counts, whoever closes knows.
    """

    def __init__(self, job: ClaimedJob, channel: Channel) -> None:
        self._job = job
        self._channel = channel
        self._form = FORMS[job.endpoint]
        self._folder = Folder(job.endpoint)
        self._recorder = Recorder()
        self._hides_usage = hides_usage(job)
        self._tier = used_tier(job) if job.endpoint == CHAT else None
        self._lifecycle = Lifecycle(job) if job.endpoint == RESPONSES else None
        self._later = channel.first
        self._rest = b""
        self._size = 0
        self._finished: list[bytes] = []
        self._closing: bytes | None = None
        self._error: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk. vLLM sends an event a chunk; others send what they have."""
        if not self._rest and chunk.find(END_OF_EVENT) == len(chunk) - 2 and b"\r" not in chunk:
            return self._hear(chunk)
        *events, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").split(END_OF_EVENT)
        for event in events:
            self._hear(event + END_OF_EVENT)

    def outcome(self) -> Outcome:
        """What the whole stream comes to."""
        if self._error is not None:
            status = error_body.status_of(_data(self._error))
            body = error_body.normalise(self._job.endpoint, status, _data(self._error))
            return Outcome(Status.FAILED, status, body)
        if self._size > LARGEST_BYTES:
            return Outcome(Status.FAILED, error_code="response_too_large", error_message=TOO_LARGE)
        response = self._folder.response()
        if response is None:
            body = error_body.normalise(self._job.endpoint, 500, _LOST.encode())
            return Outcome(Status.FAILED, 500, body)
        if self._job.service_tier is not None and self._job.endpoint in ECHOING:
            response["service_tier"] = used_tier(self._job)
        return Outcome(Status.COMPLETED, 200, payload.write(response), usage.read(response.get("usage")))

    def close(self, outcome: Outcome) -> Outcome:
        """Say the end, and add the log to the outcome. A failure of which nothing was said is no stream's."""
        if outcome.status is Status.FAILED:
            if self._channel.count == self._channel.first and not self._finished:
                return outcome
            last = error_response.last_events(_error(outcome), self._job.endpoint, self._channel.count)
        else:
            last = [self._closing] if self._closing else []
        self._say_finished()
        for event in last:
            self._say(event)
        self._channel.end()
        return replace(outcome, log=StreamLog(self._channel.run, self._channel.first, self._recorder.body()))

    def _hear(self, event: bytes) -> None:
        if event.startswith(b"data:") and not event.startswith(b"data: "):  # the blank is any server's own choice
            event = b"data: " + event[5:]
        if self._lifecycle is None:
            return self._take(event)
        said, *more = self._lifecycle.edit(event)
        self._take(said)
        for event in more:
            self._take(event)
            self._later += 1

    def _take(self, event: bytes) -> None:
        form = self._form
        if self._error is not None or event.startswith(form.error):
            self._error = self._error or event
            return
        if event.startswith(form.closing):
            self._closing = event
            if event != _DONE:
                self._folder.add(event)
            return
        if b"data:" not in event:  # a comment, to keep the connection alive
            return
        finished = _FINISHED.search(event) is not None
        if finished and ODD_FINISH.search(event):
            event = _with_known_reason(event)
        if self._size <= LARGEST_BYTES:
            self._folder.add(event)
        if self._hides_usage:
            if _NO_CHOICES.search(event):
                fingerprint = _FINGERPRINT.search(event)
                return self._say_finished(fingerprint[0] if fingerprint else b"")
            if finished:
                self._finished.append(event)
                return
        self._say(event, tokens=int(event.startswith(form.token) and (not form.no_token or form.no_token not in event)))

    def _say_finished(self, fingerprint: bytes = b"") -> None:
        """The last event of each choice, which has the fingerprint where no usage comes behind it."""
        finished, self._finished = self._finished, []
        for event in finished:
            self._say(_spliced(event, fingerprint), tokens=1)

    def _say(self, event: bytes, tokens: int = 0) -> None:
        if self._tier and event.startswith(self._form.token):
            event = _spliced(event, b',"service_tier":"%s"' % self._tier.encode())
        event = self._counted(event)
        self._size += len(event)
        self._recorder.add(event)
        self._channel.append(event, tokens)

    def _counted(self, event: bytes) -> bytes:
        """OpenAI's responses number their events themselves; a later run's numbers go on where the lost one's ended,
        and those of events that are said between the engine's own come before its next."""
        later = self._later
        if not later or self._lifecycle is None:
            return event
        return _SEQUENCE.sub(lambda found: b'"sequence_number":%d' % (int(found[1]) + later), event, count=1)


def hides_usage(job: ClaimedJob) -> bool:
    """Whether the engine is asked for the usage of a stream whose client did not ask for it."""
    if job.endpoint not in (CHAT, COMPLETIONS):
        return False
    if _USAGE_ASKED not in job.body:
        return True
    options = payload.decode(job.body).get("stream_options")
    return not (isinstance(options, dict) and options.get("include_usage"))


def _error(outcome: Outcome) -> Json:
    if outcome.body is not None:
        error: Json = json.loads(outcome.body)["error"]
        return error
    return {"message": outcome.error_message, "type": "server_error", "param": None, "code": outcome.error_code}


def _with_known_reason(event: bytes) -> bytes:
    chunk = json.loads(_data(event))
    name_known_reasons(chunk)
    return b"data: %s\n\n" % payload.write(chunk)


def _spliced(event: bytes, fields: bytes) -> bytes:
    """`fields` go behind the last of an event's JSON object."""
    return event[:-3] + fields + event[-3:]


def _data(event: bytes) -> bytes:
    return event[event.find(b"data:") + 5 : -2]
