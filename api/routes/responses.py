"""`/v1/responses` as a resource: retrieve, cancel, delete, list what they were made from. `inference` creates them."""

from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from api import auth, exchange, paging, parts, response_objects
from api.background import Events
from api.payload import JsonResponse
from jobs import ids, responses
from jobs.errors import BadRequest
from jobs.records import Flags, Json, Tenant

router = APIRouter(prefix="/v1/responses")
Caller: TypeAlias = Annotated[Tenant, Depends(auth.tenant)]

_STREAMED: Final = Flags.BACKGROUND | Flags.STREAMS
_INCLUDABLE: Final = (
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "web_search_call.action.sources",
    "web_search_call.results",
)


def includes(include: Annotated[list[str] | None, Query(alias="include[]")] = None) -> None:
    """Nothing is left out of what is shown, so there is nothing to include; but a wrong name is a mistake."""
    for name in include or ():
        if name not in _INCLUDABLE:
            supported = ", ".join(map(repr, _INCLUDABLE))
            message = f"Invalid value: '{name:.100}'. Supported values are: {supported}."
            raise BadRequest(message, param="include", code="invalid_value")


@router.get("")
async def connect(tenant: Caller) -> None:
    """What a client of the WebSocket transport asks first, and what is told to who asks for a list."""
    raise BadRequest(
        "Responses are not served over WebSocket, and there is no list of them: use POST /v1/responses.",
        code="unsupported_endpoint",
    )


@router.post("/compact")
async def compact(tenant: Caller) -> None:
    """Named, so that nobody looks for the fault in their own request."""
    raise BadRequest("/v1/responses/compact is not supported by this server.", code="unsupported_endpoint")


@router.get("/{response_id}", dependencies=[Depends(includes)])
async def retrieve(
    request: Request,
    tenant: Caller,
    response_id: str,
    stream: bool = False,
    starting_after: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    """One response as it is now; with `stream` its events, those behind number `starting_after`."""
    if starting_after is not None and not stream:
        message = "The 'starting_after' parameter is only allowed when 'stream' is enabled."
        raise BadRequest(message, param="starting_after", code="invalid_value")
    here, identity = parts.of(request), _named(request, response_id)
    found = await responses.get(here.database, tenant.id, identity)
    if not stream:
        return JsonResponse(response_objects.response(found))
    if _STREAMED not in found.flags:
        message = "Only a response that was created with 'background' and 'stream' has events to be streamed."
        raise BadRequest(message, param="stream", code="invalid_value")
    return Events(here, request, tenant.id, found, 0 if starting_after is None else starting_after + 1)


@router.post("/{response_id}/cancel")
async def cancel(request: Request, tenant: Caller, response_id: str) -> JsonResponse:
    """End a background response wherever it is. One that has ended is answered as it is."""
    here, identity = parts.of(request), _named(request, response_id)
    found = await responses.get(here.database, tenant.id, identity)
    if Flags.BACKGROUND not in found.flags:
        raise BadRequest("Cannot cancel a synchronous response.", param="response_id")
    if not found.status.terminal:
        await here.cancel([identity])
        found = await responses.get(here.database, tenant.id, identity)
    return JsonResponse(response_objects.response(found))


@router.delete("/{response_id}")
async def delete(request: Request, tenant: Caller, response_id: str) -> Json:
    """Erase an ended response with its request, and with it the conversation's way back through it."""
    identity = _named(request, response_id)
    await responses.delete(parts.of(request).database, tenant.id, identity)
    return {"id": response_id, "object": "response", "deleted": True}


@router.get("/{response_id}/input_items", dependencies=[Depends(includes)])
async def input_items(
    request: Request,
    tenant: Caller,
    response_id: str,
    after: str | None = None,
    limit: paging.Limit = 20,
    order: paging.Order = "desc",
) -> JsonResponse:
    """A page of what the response was made from, newest first: its own input behind that of the turns before it."""
    identity = _named(request, response_id)
    items = await responses.input_items(parts.of(request).database, tenant.id, identity)
    if order == "desc":
        items.reverse()
    return JsonResponse(paging.page(_behind(items, after)[: limit + 1], limit, lambda item: item))


def _named(request: Request, response_id: str) -> UUID:
    identity = ids.parse_response_id(response_id)
    exchange.concerns(request, identity)
    return identity


def _behind(items: list[Any], after: str | None) -> list[Any]:
    """The items that follow the one of this id."""
    if after is None:
        return items
    for place, item in enumerate(items):
        if item.get("id") == after:
            return items[place + 1 :]
    raise BadRequest(f"Invalid 'after': there is no item '{after:.100}'.", param="after", code="invalid_value")
