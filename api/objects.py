"""The wire objects: a job, a model."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from jobs import ids, payload
from jobs.backlog import Lane
from jobs.read import Position
from jobs.records import JobView, Json, Model, NewJob, Usage
from jobs.states import Status

OWNER = "longhaul"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a queued job stands: 1 is next. `starts_at` is a guess in Unix seconds, None while there is no measure."""

    position: int
    starts_at: int | None


def place(position: Position) -> Place:
    """A job's exact place."""
    return Place(position.place + 1, _starts_at(position.tokens_ahead, position.tokens_per_second))


def place_behind(lane: Lane | None, job: NewJob) -> Place | None:
    """The place of a job that was just put into its lane, at its end; the others are taken to cost as much. A turn of a
    conversation may wait for another, and nobody knows how long."""
    if lane is None:
        return None
    ahead = max(0, lane.queued - 1)
    speed = lane.tokens_per_second if job.conversation is None else 0
    return Place(ahead + 1, _starts_at(ahead * job.cost, speed))


def new_job(job: NewJob, at: Place | None) -> Json:
    """The job object of a job that was just accepted."""
    created = int(ids.seconds(job.id))
    expires = None if job.expires_seconds is None else created + job.expires_seconds
    return {
        "id": ids.job_id(job.id),
        "object": "job",
        "status": Status.QUEUED,
        "endpoint": job.endpoint,
        "model": job.model,
        "service_tier": job.tier.name.lower(),
        "created_at": created,
        "started_at": None,
        "finished_at": None,
        "expires_at": expires,
        "attempts": 0,
        "queue": _queue(at),
        "batch_id": None,
        "custom_id": None,
        "metadata": job.metadata,
        "tokens_so_far": None,
        "usage": None,
        "retry_of": None if job.retry_of is None else ids.job_id(job.retry_of),
        "response": None,
        "error": None,
    }


def job(view: JobView, at: Place | None = None, with_body: bool = True, tokens: int | None = None) -> Json:
    """The job object, in lists without the response's body. `tokens` are those of a running stream so far."""
    return {
        "id": ids.job_id(view.id),
        "object": "job",
        "status": view.status,
        "endpoint": view.endpoint,
        "model": view.model,
        "service_tier": view.tier.name.lower(),
        "created_at": int(view.created_at.timestamp()),
        "started_at": unix(view.started_at),
        "finished_at": unix(view.finished_at),
        "expires_at": unix(view.expires_at),
        "attempts": view.attempts,
        "queue": _queue(at),
        "batch_id": None if view.batch_id is None else f"batch_{view.batch_id.hex}",
        "custom_id": view.custom_id,
        "metadata": view.metadata,
        "tokens_so_far": tokens,
        "usage": _usage(view),
        "retry_of": None if view.retry_of is None else ids.job_id(view.retry_of),
        "response": _response(view, with_body),
        "error": _error(view),
    }


def status(view: JobView, status: Status) -> Json:
    """What an event says of a job that is or was in this status: the same whenever it is said."""
    shown: Json = {"id": ids.job_id(view.id), "object": "job.status", "status": status}
    if status.terminal:
        shown |= {"finished_at": unix(view.finished_at), "usage": _usage(view), "error": _error(view)}
    return shown


def models(model: Model) -> Iterator[Json]:
    """One object for each name of a model: its own, its aliases, its adapters."""
    for name in (model.name, *model.aliases):
        yield _model(model, name, root=model.name, parent=None)
    for name in model.adapters:
        yield _model(model, name, root=name, parent=model.name)


def _model(model: Model, name: str, root: str, parent: str | None) -> Json:
    return {
        "id": name,
        "object": "model",
        "created": int(model.created_at.timestamp()),
        "owned_by": OWNER,
        "root": root,
        "parent": parent,
        "max_model_len": model.context_length,
        "workers": model.workers,
        "endpoints": sorted(model.endpoints),
    }


def _usage(view: JobView) -> Json | None:
    return None if view.usage is None or view.status_code is None else usage_object(view.usage)


def _response(view: JobView, with_body: bool) -> Json | None:
    if view.status_code is None:
        return None
    response: Json = {"status_code": view.status_code, "request_id": f"req_{view.id.hex}"}
    return response | {"body": payload.shown(view.body)} if with_body else response


def _error(view: JobView) -> Json | None:
    """Why there is no response, or what the response says went wrong."""
    if view.error_code is not None:
        return {"code": view.error_code, "message": view.error_message}
    match view.status:
        case Status.CANCELLED:
            return {"code": "cancelled", "message": "The job was cancelled."}
        case Status.EXPIRED:
            return {"code": "expired", "message": "The job expired before it ran."}
        case Status.FAILED:
            return {"code": "request_failed", "message": f"The engine answered with status {view.status_code}."}
    return None


def usage_object(usage: Usage) -> Json:
    """Tokens as OpenAI's Responses and batches name them, whatever the endpoint."""
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _queue(at: Place | None) -> Json | None:
    return None if at is None else {"position": at.position, "estimated_start_at": at.starts_at}


def _starts_at(tokens_ahead: int, tokens_per_second: float) -> int | None:
    return int(time.time() + tokens_ahead / tokens_per_second) if tokens_per_second > 0 else None


def unix(moment: datetime | None) -> int | None:
    """A moment in whole Unix seconds, as all of OpenAI's objects have it."""
    return None if moment is None else int(moment.timestamp())
