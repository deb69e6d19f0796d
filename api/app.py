"""The application: its parts, its routes, its answers to errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api import envelope, parts
from api.exchange import Exchange
from api.routes import (
    batches,
    deliveries,
    files,
    health,
    inference,
    jobs,
    models,
    prompt,
    responses,
    uploads,
    webhook_endpoints,
)
from jobs import traces
from jobs.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The HTTP API. Set `app.state.stopping` when its server begins to stop: who waits is then answered at once."""
    stopping = asyncio.Event()
    tracing = traces.of(settings.otlp_endpoint, "api")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with parts.opened(settings, stopping) as app.state.parts:
            yield
        if tracing:
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="Longhaul", lifespan=lifespan, redirect_slashes=False, openapi_url=None, docs_url=None, redoc_url=None
    )
    app.state.stopping = stopping
    inference.install(app)
    for resource in (jobs, responses, files, uploads, batches, webhook_endpoints, deliveries, models, prompt, health):
        app.include_router(resource.router)
    envelope.install(app)
    app.add_middleware(Exchange, traces=tracing)
    return app
