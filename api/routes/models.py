"""`/v1/models`: every name that a request may ask for."""

from fastapi import APIRouter, Depends, Request

from api import auth, objects, parts
from jobs.errors import NotFound
from jobs.records import Json

router = APIRouter(prefix="/v1/models", dependencies=[Depends(auth.tenant)])


@router.get("")
async def index(request: Request) -> Json:
    """Every known model, alias and adapter, whether or not a worker runs it now."""
    catalog = parts.of(request).catalog
    await catalog.current()
    data = [shown for model in catalog.models() for shown in objects.models(model)]
    return {"object": "list", "data": data}


@router.get("/{name:path}")
async def retrieve(request: Request, name: str) -> Json:
    """One of them. The name may have slashes, in front too."""
    catalog = parts.of(request).catalog
    await catalog.current()
    for shown in objects.models(catalog.find(name)):
        if shown["id"] == name:
            return shown
    raise NotFound(f"The model '{name}' does not exist.", param="model", code="model_not_found")
