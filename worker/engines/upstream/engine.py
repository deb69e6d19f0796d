"""The forwarding engine: servers with OpenAI's API, of one model, that somebody else starts and stops."""

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog

from jobs.records import Registration
from jobs.settings import Settings
from worker.asgi import Application, Headers
from worker.engines import EngineArgumentError
from worker.engines.upstream import survey as surveys
from worker.engines.upstream.connection import ConnectionLost, Unreachable
from worker.engines.upstream.forward import Forward
from worker.engines.upstream.server import TROUBLE, Server
from worker.engines.upstream.survey import NotReady, Survey
from worker.engines.upstream.window import Adaptive, Fixed

_LOOK_SECONDS: Final = 2.0
_SAY_SECONDS: Final = 30.0
_NOT_NOW: Final = (NotReady, Unreachable, ConnectionLost, TimeoutError)
_log = structlog.get_logger()


class UpstreamEngine:
    """One engine for all the servers of `settings.engine`. It lives as long as one of them does; a server that comes
    back is used again, and one that was never there is awaited."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self._model = _model(settings, arguments)
        self._concurrency = settings.engine_concurrency
        urls = _urls(settings.engine)
        keys = [key.strip() for key in settings.engine_key.split(",")]
        if len(keys) not in (1, len(urls)):
            raise EngineArgumentError(f"LONGHAUL_ENGINE_KEY has {len(keys)} keys for {len(urls)} servers.")
        keys = keys if len(keys) == len(urls) else keys * len(urls)
        self._servers = [Server(url, key, self._window(None)) for url, key in zip(urls, keys, strict=True)]
        self._forward = Forward(self._servers)
        self._found: dict[Server, Survey] = {}
        self._offered: frozenset[str] = frozenset()
        self._complaints: dict[Server, str] = {}
        self._looking: asyncio.Task[None] | None = None

    @property
    def app(self) -> Application:
        return self._forward

    @property
    def slots(self) -> int:
        """What fits into the windows of the servers that take requests now, and at least one, to find out whether they
        do again."""
        return max(1, sum(server.room for server in self._servers))

    async def start(self) -> None:
        """Return when one server serves; those that are there by then are described together."""
        said_at = -math.inf
        while not self._found:
            for server in self._servers:
                await self._meet(server)
            if not self._found:
                if time.monotonic() - said_at >= _SAY_SECONDS:
                    said_at = time.monotonic()
                    _log.warning("waiting for an upstream server", urls=[server.url for server in self._servers])
                await asyncio.sleep(_LOOK_SECONDS)
        self._looking = asyncio.create_task(self._look())

    def alive(self) -> bool:
        return any(server.up for server in self._servers)

    async def describe(self) -> Registration:
        found = surveys.same(list(self._found.values()))
        self._offered = frozenset((*found.endpoints, *found.aliases, *found.adapters))
        return Registration(
            model=found.model,
            aliases=found.aliases,
            adapters=found.adapters,
            endpoints=found.endpoints,
            context_length=found.context_length,
            slots=self.slots,
        )

    def verdict(self, status: int, headers: Headers) -> float | None:
        """Trouble of the server that answered, which has been told so. Nothing is claimed until any takes requests."""
        if status not in TROUBLE:
            return None
        return min((server.held for server in self._servers if server.up), default=_LOOK_SECONDS)

    async def stop(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
            self._looking = None
        for server in self._servers:
            server.close()

    async def _meet(self, server: Server) -> None:
        """Take a server in, if it serves what the others do.

        Raises:
            EngineArgumentError: it never will.
        """
        try:
            if not await server.probe():
                return
            found = await surveys.survey(server, self._model)
        except _NOT_NOW as error:
            _log.debug("an upstream server is not ready", url=server.url, error=str(error))
            return
        if missing := self._offered.difference(found.endpoints, found.aliases, found.adapters):
            raise EngineArgumentError(f"{server.url} does not have {', '.join(sorted(missing))}, unlike the others.")
        if found.slots is not None:
            server.window = self._window(found.slots + math.ceil(found.slots / 8))
        self._model = self._model or found.model
        self._found[server] = found
        server.up = True
        _log.info("an upstream server serves", url=server.url, model=found.model, slots=server.window.size)

    async def _look(self) -> None:
        """Look after each, for ever, side by side: one that is silent holds up the look at no other."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(self._look_after(server))

    async def _look_after(self, server: Server) -> None:
        """Probe it while it serves, and meet it while it does not."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await (server.look() if server.up else self._meet(server))
            except Exception as error:  # one server's odd answer must not end the watch over all
                self._complain(server, str(error))

    def _complain(self, server: Server, error: str) -> None:
        if self._complaints.get(server) != error:
            self._complaints[server] = error
            _log.error("an upstream server cannot be used", url=server.url, error=error)

    def _window(self, slots: int | None) -> Adaptive | Fixed:
        size = self._concurrency or slots
        return Fixed(size) if size else Adaptive()


def _urls(engine: str) -> list[str]:
    urls = [url.strip() for url in engine.split(",") if url.strip()]
    for url in urls:
        if not _is_base_url(url):
            raise EngineArgumentError(f"{url!r} is not the base URL of an API, like http://host:8000/v1.")
    return urls


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname and parts.port != 0) and "@" not in parts.netloc
        )
    except ValueError:  # a port that is no number
        return False


def _model(settings: Settings, arguments: Sequence[str]) -> str | None:
    """The model that is served, where one was named; other arguments are the servers' own."""
    match [*arguments]:
        case []:
            return settings.model
        case ["--model", name]:
            return name
        case [option] if option.startswith("--model="):
            return option.removeprefix("--model=")
    raise EngineArgumentError(f"A forwarding engine takes no argument but --model, not {' '.join(arguments)}.")
