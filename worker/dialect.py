"""What a stored request becomes for the engine: the fields that only we set are put in, the rest stays as it came."""

import re
from collections.abc import Mapping
from typing import Final

from jobs import ids
from jobs.records import ClaimedJob, Flags, Json, Registration
from worker.asgi import Headers
from worker.stream import hides_usage

_RESPONSES: Final = "/v1/responses"
_KEPT: Final = frozenset({_RESPONSES, f"{_RESPONSES}/input_tokens"})
_SERVICE_TIERS: Final = frozenset({"auto", "default", "flex", "scale", "priority"})
"""Those that an engine's Responses endpoint knows; OpenAI has more, and the answer's echo is ours anyway."""
_KEEPS_NOTHING: Final = b',"background":false,"store":false,"previous_response_id":null'
"""Responses are kept, and continued, from the database: no engine is to do it by itself."""
_CLOSED: Final = re.compile(rb"\s*\}")


class Dialect:
    """Translates jobs for the engine that described itself so: our fields go where its schemas have them."""

    def __init__(self, registration: Registration) -> None:
        self._fields = {path: _ours(schema) for path, schema in registration.endpoints.items()}

    def translate(self, job: ClaimedJob) -> tuple[bytes, Headers]:
        """The body to replay, spliced as bytes, and the headers beside it.

        The engine's `request_id` is the job's hex id, by which its response is named; vLLM keeps attempts apart itself.
        The tier is the `priority`: the lower runs first. vLLM's Messages endpoint has neither field and reads headers.
        A stream is asked for its usage, which the result needs whether the client wants it or not.
        """
        tier = str(int(job.tier))
        name = ids.response_id(job.id) if job.endpoint == _RESPONSES else job.id.hex
        fields = self._fields.get(job.endpoint, frozenset())
        ours = ""
        if "request_id" in fields:
            ours += f'"request_id":"{name}",'
        if "priority" in fields:
            ours += f'"priority":{tier},'
        body = _prepend(job.body, ours.encode())
        if job.endpoint in _KEPT:
            body = _append(body, _KEEPS_NOTHING)
        if job.flags & Flags.STREAMS and "stream_options" in fields and hides_usage(job):
            body = _append(body, b',"stream_options":{"include_usage":true}')
        if job.endpoint == _RESPONSES and job.service_tier and job.service_tier not in _SERVICE_TIERS:
            body = _append(body, b',"service_tier":"auto"')
        return body, ((b"x-request-id", job.id.hex.encode()), (b"x-vllm-priority", tier.encode()))


def _ours(schema: Json) -> frozenset[str]:
    found = frozenset(("request_id", "priority", "stream_options"))
    branches = [_follow(schema, branch) for branch in schema.get("anyOf") or schema.get("oneOf") or [schema]]
    return found.intersection(*(branch.get("properties", {}) for branch in branches))


def _follow(schema: Json, branch: Mapping[str, Json]) -> Json:
    reference = branch.get("$ref")
    if isinstance(reference, str):
        target: Json = schema["$defs"][reference.removeprefix("#/$defs/")]
        return target
    return dict(branch)


def _prepend(body: bytes, fields: bytes) -> bytes:
    """`fields` end in a comma and go in front, where a field of the same name in the body would win: admission refuses
    those. A body that is no object is the engine's to refuse."""
    start = body.find(b"{") + 1
    if not fields or not start or body[: start - 1].strip():
        return body
    if _CLOSED.match(body, start):
        fields = fields[:-1]
    return body[:start] + fields + body[start:]


def _append(body: bytes, fields: bytes) -> bytes:
    """`fields` begin with a comma and go behind the last field, where they win over one of the same name."""
    end = body.rfind(b"}")
    if body[:end].rstrip().endswith(b"{"):
        fields = fields[1:]
    return body[:end] + fields + body[end:]
