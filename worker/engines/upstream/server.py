"""One server that somebody else runs: whether it is there, how much it gets at once, and when it is asked again."""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import structlog

from worker.asgi import Headers
from worker.engines.upstream.connection import Connection, ConnectionLost, Connections, Unreachable, read
from worker.engines.upstream.window import Window

TROUBLE: Final = frozenset({401, 402, 429, 502, 503, 504, 529})
"""Statuses that tell of the server, or of the way to it, and not of the request. Its key and its bill are ours too."""
_SHORTEST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0
_LONGEST_ASKED_PAUSE: Final = 600.0
"""However long a server asks for: it may be itself again much earlier."""
_PROBE_SECONDS: Final = 10.0
_SOME_BYTES: Final = 8 * 2**20
_log = structlog.get_logger()


class Server:
    """A server at an API's base URL. It is `up` once it was met (see `engine`), and until a connection is refused, or
    is lost and nobody answers another."""

    def __init__(self, url: str, key: str, window: Window) -> None:
        self.url = url
        self.window = window
        self.up = False
        self.silent = False
        self.under_way = 0
        self.connections = Connections(url, key)
        self.base = urlsplit(url).path.rstrip("/")
        self._health: str | None = None
        self._refusals = 0
        self._held_until = 0.0
        self._heard_at = 0.0
        self._probing: asyncio.Task[bool] | None = None

    @property
    def root(self) -> str | None:
        """The path of what is not OpenAI's API, where the URL tells: servers of one's own have it beside `/v1`."""
        return self.base.removesuffix("/v1") if self.base.endswith("/v1") else None

    def path(self, endpoint: str) -> str:
        """Where the server has an endpoint of ours; only those of OpenAI's API are known without a `root`."""
        if endpoint.startswith("/v1/"):
            return self.base + endpoint.removeprefix("/v1")
        return (self.root or "") + endpoint

    @property
    def held(self) -> float:
        """For how many seconds more it wants no requests."""
        return max(0.0, self._held_until - time.monotonic())

    @property
    def room(self) -> int:
        """How many requests it may have at once, now."""
        return 0 if self.held or self.silent or not self.up else self.window.size

    def answered(self, sent_at: float, *, telling: bool) -> None:
        """A request that was sent then (monotonic seconds) had a whole answer; `telling` says that the time it took
        tells how much the server has to do."""
        self._refusals = 0
        self.heard()
        if telling:
            self.window.answered(sent_at, time.monotonic(), self.under_way)

    def heard(self) -> None:
        """It said something."""
        self._heard_at = time.monotonic()
        self.silent = False

    def refused(self, sent_at: float, status: int, headers: Headers) -> bool:
        """It answered with trouble: leave it alone for its `Retry-After`, or ever longer. Whether that is news: what
        was sent before the last refusal was known has the same answer."""
        now = time.monotonic()
        is_news = sent_at >= self._held_until
        self._refusals += is_news
        pause = retry_after(headers)
        if pause is None:
            pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(self._refusals - 1, 10))
        self._held_until = max(self._held_until, now + min(pause, _LONGEST_ASKED_PAUSE))
        if status in (429, 503, 529):
            self.window.refused(sent_at, now)
        return is_news

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET; whatever takes longer than a probe may is no answer.

        Raises:
            Unreachable, ConnectionLost, TimeoutError: there is none.
        """
        return await self._exchange("GET", path)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The same for a POST of JSON."""
        return await self._exchange("POST", path, body)

    async def probe(self) -> bool:
        """Ask whether it serves, together with whoever asks meanwhile; if nobody is there, it is down."""
        if self._probing is None:
            self._probing = asyncio.ensure_future(self._probe())
            self._probing.add_done_callback(self._probed)
        return await asyncio.shield(self._probing)

    async def look(self) -> None:
        """Probe it, unless it was heard of lately."""
        if time.monotonic() - self._heard_at >= _PROBE_SECONDS:
            await self.probe()

    def close(self) -> None:
        """Use it no more."""
        self.up = False
        if self._probing is not None:
            self._probing.cancel()
        self.connections.close()

    def _probed(self, probing: asyncio.Task[bool]) -> None:
        self._probing = None

    async def _probe(self) -> bool:
        """Silence is not death: a server may have every thread at work. It only gets nothing more until it speaks."""
        try:
            serves = await self._is_healthy()
        except TimeoutError:
            if not self.silent:
                _log.warning("an upstream server does not answer its probe; it gets no more jobs", url=self.url)
            self.silent = True
            return self.up
        except (Unreachable, ConnectionLost) as error:
            serves, why = False, str(error)
        else:
            why = "it says that it is not healthy"
            self.heard()
        if self.up and not serves:
            _log.warning("an upstream server is gone", url=self.url, error=why)
        self.up = self.up and serves
        return serves

    async def _is_healthy(self) -> bool:
        """By `/health`, or by its list of models where it has none: any answer but 5xx."""
        if self._health is None:
            self._health = await self._health_path()
        status, _ = await self.get(self._health)
        return status < 500

    async def _health_path(self) -> str:
        if self.root is not None:
            status, _ = await self.get(f"{self.root}/health")
            if status not in (401, 403, 404, 405):
                return f"{self.root}/health"
        return f"{self.base}/models"

    async def _exchange(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        connection: Connection | None = None
        async with asyncio.timeout(_PROBE_SECONDS):
            try:
                connection = await self.connections.send(method, path, body)
                return connection.status, await read(connection, _SOME_BYTES)
            finally:
                if connection is not None:
                    self.connections.keep(connection)


def retry_after(headers: Headers) -> float | None:
    """The seconds that `Retry-After` asks for, given as such or as a date (RFC 9110, 10.2.3); None without one."""
    value = dict(headers).get(b"retry-after", b"").decode("latin-1").strip()
    if value.replace(".", "", 1).isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
