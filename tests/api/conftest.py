"""The API with real stores, a model that it knows, and a hand that plays the worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from api.app import create_app
from api.server import Server
from jobs import catalog, claim, keys
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import ClaimedJob, Json, Model, Outcome, Registration, Tier, Usage
from jobs.settings import Settings
from jobs.states import Status
from jobs.wake import Announcer
from tests.api import schemas
from tests.until import until

Client: TypeAlias = httpx.AsyncClient
Key: TypeAlias = str

REGISTRATION = Registration(
    model="org/tiny",
    aliases=("tiny",),
    adapters=("tiny-lora",),
    endpoints=schemas.ENDPOINTS,
    context_length=2048,
    slots=8,
)


@dataclass
class Worker:
    """Claims and ends jobs as a worker does, one tier at a time, when a test says so."""

    database: Database
    model: Model
    id: UUID
    announcer: Announcer
    held: list[ClaimedJob] = field(default_factory=list)

    async def claim(self, tier: Tier = Tier.DEFAULT, free: int = 100) -> list[ClaimedJob]:
        """Take what waits in one lane."""
        self.held = await claim.claim(self.database, self.id, self.model.id, tier, free)
        return self.held

    async def claim_next(self, tier: Tier = Tier.DEFAULT) -> list[ClaimedJob]:
        """Take what waits in one lane, once something does."""

        async def claimed() -> bool:
            return bool(await self.claim(tier))

        await until(claimed)
        return self.held

    async def finish(self, job: ClaimedJob, outcome: Outcome) -> bool:
        """End one job and tell whoever waits."""
        return await Finisher(self.database, self.announcer.announce).finish(job, outcome)

    async def answer(self, status: int = 200, body: Any = None, tier: Tier = Tier.DEFAULT) -> list[ClaimedJob]:
        """Claim until something waits, and answer all of it."""
        claimed = await self.claim_next(tier)
        content = json.dumps({"choices": []} if body is None else body).encode()
        end = Status.COMPLETED if status < 300 else Status.FAILED
        for job in claimed:
            await self.finish(job, Outcome(end, status, content, Usage(input=3, output=2)))
        return claimed


@pytest.fixture
async def model(database: Database) -> Model:
    """A model that is known; a worker for it lives."""
    return await register(database, REGISTRATION)


@pytest.fixture
async def worker(database: Database, model: Model, settings: Settings) -> AsyncIterator[Worker]:
    assert settings.redis_url
    [live] = await catalog.workers(database)
    announcer = Announcer(settings.redis_url, settings.redis_prefix)
    yield Worker(database, model, live.id, announcer)
    await announcer.close()


@pytest.fixture
async def key(database: Database) -> Key:
    return await keys.create(database, "acme", "test")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[FastAPI]:
    async with running(settings) as app:
        yield app


@pytest.fixture
async def client(app: FastAPI, key: Key, model: Model) -> AsyncIterator[Client]:
    """Speaks with acme's key to an API that knows a model."""
    async with client_of(app, key) as client:
        yield client


@pytest.fixture
async def sdk(app: FastAPI, key: Key) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's SDK with acme's key, over a socket."""
    async with served(app) as server, AsyncOpenAI(base_url=f"{url_of(server)}/v1", api_key=key) as sdk:
        yield sdk


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[FastAPI]:
    """An API between its start and its end."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[Server]:
    """The app behind real sockets: where a test needs clients that go away, or a server that stops."""
    server = Server(app, "127.0.0.1", 0)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    yield server
    server.should_exit = True
    await task


def url_of(server: Server) -> str:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return f"http://127.0.0.1:{port}"


def client_of(app: FastAPI, key: Key | None = None) -> Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test", headers=headers)


async def register(database: Database, registration: Registration) -> Model:
    return await catalog.register(database, uuid4(), registration, host="test", pid=1, home=None)


def chat(content: Any = "Hello", **more: Any) -> Json:
    """A chat request."""
    return {"model": "org/tiny", "messages": [{"role": "user", "content": content}], **more}


async def value(database: Database, query: str) -> Any:
    """The first column of a query's first row."""
    async with database.transaction() as connection:
        row = await (await connection.execute(query.encode())).fetchone()
        return row and row[0]


async def becomes(database: Database, query: str, expected: Any) -> None:
    """Wait until a query's first value is the expected one."""

    async def is_so() -> bool:
        return bool(await value(database, query) == expected)

    await until(is_so)


async def jobs_written(database: Database) -> int:
    return int(await value(database, "SELECT count(*) FROM jobs"))
