"""Is it alive, is it ready, and what does it count? No key is needed."""

import asyncio

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api import parts
from api.payload import JsonResponse
from jobs.database import Database
from jobs.records import Json

router = APIRouter()
_PATIENCE_SECONDS = 3


@router.get("/livez")
async def live() -> Json:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
@router.get("/health")
async def ready(request: Request) -> JsonResponse:
    """503 without the database; without Redis everything goes on, a little later: `degraded`."""
    here = parts.of(request)
    missing = [] if await _answers(here.database) else ["database"]
    degraded = [] if here.waiters.subscribed else ["redis"]
    if here.stopping.done():
        missing.append("server")
    status = "unavailable" if missing else "degraded" if degraded else "ok"
    return JsonResponse({"status": status, "missing": missing, "degraded": degraded}, 503 if missing else 200)


@router.get("/metrics")
async def metrics() -> Response:
    """Everything that this process counts, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _answers(database: Database) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), database.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, OSError, TimeoutError):
        return False
    return True
