"""What an engine's stream says of the response itself, in OpenAI's form: vLLM says less, and knows one end only."""

from typing import Final

from jobs import payload, response_events, response_object
from jobs.records import ClaimedJob, Flags, Json

_NUMBER: Final = b'"sequence_number"'
_CREATED: Final = b"event: response.created"
_RUNNING: Final = b"event: response.in_progress"
_ENDS: Final = tuple(b"event: response.%s" % end.encode() for end in response_events.ENDS)


class Lifecycle:
    """One run of one response. Numbers of events stay the engine's: whoever says them counts on from there. An engine
    that does not number them (llama.cpp) has them numbered."""

    def __init__(self, job: ClaimedJob) -> None:
        self._heard = 0
        self._begun = response_object.of_job(job)
        self._background = Flags.BACKGROUND in job.flags

    def edit(self, event: bytes) -> list[bytes]:
        """What is said for this event: the same, but for the response in it; a background one was queued first."""
        if _NUMBER not in event and event.endswith(b"}\n\n"):
            event = event[:-3] + b",%s:%d}\n\n" % (_NUMBER, self._heard)
        self._heard += 1
        if event.startswith(_CREATED):
            if self._background:
                return response_events.opening(self._begun)
            return [response_events.event("created", self._running(), 0)]
        if event.startswith(_RUNNING):
            return [response_events.event("in_progress", self._running(), 1)]
        if event.startswith(_ENDS):
            return [self._end(payload.decode(event[event.find(b"data:") + 5 :]))]
        return [event]

    def _running(self) -> Json:
        return self._begun | {"status": "in_progress"}

    def _end(self, data: Json) -> bytes:
        response = response_object.answered(self._begun, data["response"])
        kind = response["status"] if response["status"] in response_events.ENDS else "completed"
        return response_events.event(kind, response, data["sequence_number"])
