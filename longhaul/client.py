"""The HTTP client of the commands: every call returns the API's own object, failures speak its words."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx

from jobs.records import Json

TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "expired"})
_POLL_SECONDS: Final = 5
"""One long poll; between two of them the caller sees how far its job is."""
_PATIENCE_SECONDS: Final = 60


class Unreachable(Exception):
    """Nobody answers at the address."""


class Refused(Exception):
    """The API answered with an error. `status` is HTTP's; the text is the API's message."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        self.status, self.param, self.code = status, param, code
        super().__init__(message)


class Client:
    """A pool of connections to one API. `base_url` ends in `/v1`, as for OpenAI's SDK."""

    def __init__(self, base_url: str, api_key: str, connections: int = 64) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        nearby = httpx.URL(self.base_url).host in ("127.0.0.1", "::1", "localhost")
        self._http = httpx.AsyncClient(
            trust_env=not nearby,  # a proxy of the environment does not lead to this machine
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(connect=5, read=660, write=60, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def submit(self, job: Json) -> Json:
        """`POST /v1/jobs` of one job: the job object."""
        return await self._object("POST", "/v1/jobs", json=job)

    async def submit_all(self, jobs: Sequence[Json]) -> list[Json]:
        """`POST /v1/jobs` of up to 1,000 jobs, all or nothing: the job objects, in the same order."""
        answer = await self._object("POST", "/v1/jobs", json=list(jobs))
        data: list[Json] = answer["data"]
        return data

    async def job(self, job_id: str, wait: int | None = None) -> Json:
        """`GET /v1/jobs/{id}`, with `wait` a long poll of so many seconds."""
        return await self._object("GET", f"/v1/jobs/{job_id}", params={} if wait is None else {"wait": str(wait)})

    async def until_done(self, job_id: str, seen: Callable[[Json], None] = lambda job: None) -> Json:
        """Look until the job has ended; `seen` is told of each state on the way.

        Once the job was seen, an API that is away for a minute does not end the wait: it may be restarting.
        """
        job = await self.job(job_id)
        seen(job)
        while job["status"] not in TERMINAL:
            job = await self._patiently(lambda: self.job(job_id, wait=_POLL_SECONDS))
            seen(job)
        return job

    async def _patiently(self, look: Callable[[], Awaitable[Json]]) -> Json:
        since = time.monotonic()
        while True:
            try:
                return await look()
            except (Unreachable, Refused) as error:
                stays = isinstance(error, Refused) and error.status != httpx.codes.SERVICE_UNAVAILABLE
                if stays or time.monotonic() - since > _PATIENCE_SECONDS:
                    raise
                await asyncio.sleep(1)

    async def page(self, filters: dict[str, str]) -> Json:
        """`GET /v1/jobs`: one page, newest first."""
        return await self._object("GET", "/v1/jobs", params=filters)

    async def every(self, filters: dict[str, str]) -> AsyncIterator[Json]:
        """All jobs that fit, page after page, newest first."""
        more = True
        while more:
            page = await self.page(filters)
            for job in page["data"]:
                yield job
            more, filters = page["has_more"], filters | {"after": page["last_id"] or ""}

    async def cancel(self, job_id: str) -> Json:
        """`POST /v1/jobs/{id}/cancel`: the job object, terminal."""
        return await self._object("POST", f"/v1/jobs/{job_id}/cancel")

    async def retry(self, job_id: str) -> Json:
        """`POST /v1/jobs/{id}/retry`: the new job's object."""
        return await self._object("POST", f"/v1/jobs/{job_id}/retry")

    async def delete(self, job_id: str) -> Json:
        """`DELETE /v1/jobs/{id}`: what the API says about it."""
        return await self._object("DELETE", f"/v1/jobs/{job_id}")

    async def endpoints(self, filters: dict[str, str]) -> Json:
        """`GET /v1/webhook_endpoints`: one page, newest first."""
        return await self._object("GET", "/v1/webhook_endpoints", params=filters)

    async def deliveries(self, whose: str, filters: dict[str, str]) -> Json:
        """`GET /v1/{whose}/deliveries`, where `whose` is `jobs/{id}` and its like: one page, newest first."""
        return await self._object("GET", f"/v1/{whose}/deliveries", params=filters)

    async def redeliver(self, whose: str, delivery_id: str) -> Json:
        """`POST /v1/{whose}/deliveries/{id}/redeliver`: the delivery object, due now."""
        return await self._object("POST", f"/v1/{whose}/deliveries/{delivery_id}/redeliver")

    async def infer(self, endpoint: str, body: Json, prefer: str | None = None) -> Json:
        """The request itself, as OpenAI's SDK sends it; `prefer` (RFC 7240) turns the answer into a job object."""
        headers = {"Prefer": prefer} if prefer else {}
        return await self._object("POST", endpoint, json=body, headers=headers)

    async def events(self, job_id: str) -> AsyncIterator[Json]:
        """`GET /v1/jobs/{id}/events`: the data of every event, from the first on, as it comes."""
        rest = b""
        async for chunk in self.stream(f"/v1/jobs/{job_id}/events"):
            *events, rest = (rest + chunk).split(b"\n\n")
            for line in b"\n".join(events).split(b"\n"):
                if line.startswith(b"data: {"):
                    yield json.loads(line.removeprefix(b"data: "))

    async def stream(self, path: str) -> AsyncIterator[bytes]:
        """`GET` of what is no JSON object, in chunks."""
        try:
            async with self._http.stream("GET", self.base_url + path) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refusal(response)
                async for chunk in response.aiter_bytes():
                    yield chunk
        except httpx.TransportError as error:
            raise Unreachable(f"No answer from {self.base_url}: {error or type(error).__name__}") from error

    async def _object(self, method: str, path: str, **request: Any) -> Json:
        try:
            response = await self._http.request(method, self.base_url + path, **request)
        except httpx.TransportError as error:
            raise Unreachable(f"No answer from {self.base_url}: {error or type(error).__name__}") from error
        if response.is_success:
            answer: Json = response.json() if response.content else {}
            return answer
        raise _refusal(response)


def _refusal(response: httpx.Response) -> Refused:
    """The error in OpenAI's envelope, or the bare text of whatever stands between us and the API."""
    try:
        error = response.json()["error"]
        return Refused(response.status_code, error["message"], error.get("param"), error.get("code"))
    except (ValueError, LookupError, TypeError):
        text = response.text.strip()[:500] or response.reason_phrase
        return Refused(response.status_code, f"HTTP {response.status_code}: {text}")


def answer_text(job: Json) -> str:
    """What the model said, for a reader: the text of a chat, completion, response or message, else the body as JSON."""
    response = job.get("response") or {}
    body = response.get("body")
    texts = _texts(body) if isinstance(body, dict) else []
    return "\n".join(texts) if texts else json.dumps(body, ensure_ascii=False)


def _texts(body: Json) -> list[str]:
    parts: list[Json] = []
    for choice in body.get("choices") or []:
        parts.append({"text": choice.get("text") or (choice.get("message") or {}).get("content")})
    for item in body.get("output") or []:
        parts.extend(item.get("content") or [])
    if body.get("type") == "message":
        parts.extend(body.get("content") or [])
    return [part["text"] for part in parts if isinstance(part.get("text"), str)]


def failure_text(job: Json) -> str:
    """Why a job that did not complete has no answer, in the words of the engine or of ours."""
    response, error = job.get("response") or {}, job.get("error") or {}
    body = response.get("body")
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        error = body["error"]
    return f"{job['id']} {job['status']}" + (f": {error['message']}" if error.get("message") else "")
