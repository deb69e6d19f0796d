"""The scripted engine as a server of its own, in this process: what the forwarding engine forwards to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from jobs.records import Json
from longhaul.embedded import free_port
from tests.engines.script import ENDPOINTS
from tests.engines.scripted import ScriptedEngine
from worker.asgi import Message, Receive, Scope, Send


class Served:
    """An OpenAI-compatible server. `gets` has what it says to a GET of a path, status and body; `posts` what it says
    to every POST of one, instead of the engine; `asked` the headers and bodies of the POSTs that came."""

    def __init__(self, port: int | None = None) -> None:
        self.engine = ScriptedEngine()
        self.port = port or free_port()
        self.gets: dict[str, tuple[int, Json]] = {
            "/health": (200, {}),
            "/v1/models": (200, {"object": "list", "data": [card(self.engine.model)]}),
            "/openapi.json": (200, openapi()),
        }
        self.posts: dict[str, tuple[int, Json, dict[str, str]]] = {}
        self.asked: list[tuple[str, dict[str, str], Json]] = []
        self.silent = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.server_state.connections)

    async def start(self) -> None:
        config = uvicorn.Config(
            self._app, port=self.port, lifespan="off", log_config=None, timeout_keep_alive=60, interface="asgi3"
        )
        self._server = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            assert not self._serving.done()
            await asyncio.sleep(0.005)

    def hang_up(self) -> None:
        """Break every connection, as a network does."""
        for connection in [*self._server.server_state.connections]:
            connection.transport.abort()

    async def die(self) -> None:
        """Be gone, with every connection."""
        self._server.should_exit = self._server.force_exit = True
        for listener in self._server.servers:
            listener.close()
        self.hang_up()
        await self._serving

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] == "GET":
            if self.silent:
                await asyncio.Event().wait()
            return await _say(send, *self.gets.get(path, (404, {"detail": "Not Found"})))
        body = await _read(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.asked.append((path, headers, json.loads(body)))
        if path in self.posts:
            return await _say(send, *self.posts[path])
        await self.engine.app(scope, _again(body, receive), send)


@asynccontextmanager
async def served(server: Served | None = None) -> AsyncIterator[Served]:
    """This one, or a new one, serves until the end of the block."""
    server = server or Served()
    await server.start()
    try:
        yield server
    finally:
        await server.engine.stop()
        await server.die()


def card(name: str, **more: Any) -> Json:
    """A model as `/v1/models` lists it."""
    return {"id": name, "object": "model", "created": 1, "owned_by": "tests"} | more


def openapi() -> Json:
    """The document of an app that serves what the scripted engine does."""
    document = json.loads(json.dumps(ENDPOINTS).replace("#/$defs/", "#/components/schemas/"))
    parts: Json = {}
    for schema in document.values():
        parts |= schema.pop("$defs", {})
    content = {
        path: {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}
        for path, schema in document.items()
    }
    return {"openapi": "3.1.0", "paths": content, "components": {"schemas": parts}}


def _again(body: bytes, receive: Receive) -> Receive:
    """The request's body once more, then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def _say(send: Send, status: int, body: Json, headers: dict[str, str] | None = None) -> None:
    given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json"), *given]}
    )
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
