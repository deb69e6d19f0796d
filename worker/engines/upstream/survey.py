"""What a server says of itself: its models, its schemas, its limits, in the ways of those that have them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from jobs import payload
from jobs.endpoints import INFERENCE
from jobs.records import Json
from worker.engines import EngineArgumentError, schemas
from worker.engines.upstream.forms import ENDPOINTS
from worker.engines.upstream.server import Server

_NOT_THERE: Final = frozenset({404, 405, 501})
_MOST_NAMED: Final = 8
_log = structlog.get_logger()


class NotReady(Exception):
    """The server is there, but serves nothing yet."""


@dataclass(frozen=True, slots=True)
class Survey:
    """`slots` is how many requests it runs at once, where it tells."""

    model: str
    aliases: tuple[str, ...]
    adapters: tuple[str, ...]
    endpoints: dict[str, Json]
    context_length: int | None
    slots: int | None


async def survey(server: Server, model: str | None) -> Survey:
    """Ask a server about this model, or about the only one that it has.

    Raises:
        NotReady: another time perhaps.
        Unreachable, ConnectionLost, TimeoutError: nobody answered.
        EngineArgumentError: it will never serve what is asked for.
    """
    cards = await _cards(server)
    own = _own(server, cards, model)
    aliases, adapters = _family(cards, own)
    props = await _props(server)
    endpoints = await _published(server) or await _found(server, own["id"])
    if not endpoints:
        raise EngineArgumentError(f"{server.url} serves none of {', '.join(sorted(ENDPOINTS))}.")
    return Survey(
        own["id"],
        aliases,
        adapters,
        endpoints,
        _whole(own.get("max_model_len"))
        or _whole(_within(props, "default_generation_settings", "n_ctx"))
        or _whole(_within(own, "meta", "n_ctx_train")),
        _whole(props.get("total_slots")),
    )


async def _cards(server: Server) -> list[Json] | None:
    """The models that it lists; None if it has no list."""
    status, body = await server.get(f"{server.base}/models")
    if status in (401, 403):
        raise EngineArgumentError(f"{server.url} refuses the key ({status}): set LONGHAUL_ENGINE_KEY.")
    if status in _NOT_THERE:
        return None
    if status >= 500 or status == 429:
        raise NotReady(f"it answers {status}")
    listed = _object(body).get("data")
    if status != 200 or not isinstance(listed, list):
        raise EngineArgumentError(f"{server.url} is not the base URL of an OpenAI-compatible API: {status} at /models.")
    return [card for card in listed if isinstance(card, dict) and isinstance(card.get("id"), str)]


def _own(server: Server, cards: list[Json] | None, model: str | None) -> Json:
    """The card of the model that is to be served."""
    if cards is None:
        if model is None:
            raise EngineArgumentError(f"{server.url} does not list its models: name one in LONGHAUL_MODEL.")
        return {"id": model}
    if model is not None:
        found = [card for card in cards if card["id"] == model]
    else:
        found = [card for card in cards if not card.get("parent")]
        if len({card.get("root") or card["id"] for card in found}) == 1:
            del found[1:]  # one model by several names
    if len(found) == 1:
        return found[0]
    names = [card["id"] for card in cards]
    listed = ", ".join(names[:_MOST_NAMED]) + (f" and {len(names) - _MOST_NAMED} more" if names[_MOST_NAMED:] else "")
    if model is not None:
        raise EngineArgumentError(f"{server.url} has no model {model!r}. It has: {listed or 'none'}.")
    raise EngineArgumentError(f"{server.url} has {len(found)} models: name one in LONGHAUL_MODEL. It has: {listed}.")


def _family(cards: list[Json] | None, own: Json) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Its other names, and its LoRA adapters: vLLM lists both as models, of the same root or with a parent; llama.cpp
    has its names in one card."""
    others = [card for card in cards or () if card["id"] != own["id"]]
    root = own.get("root")
    names = [card["id"] for card in others if root and card.get("root") == root and not card.get("parent")]
    named = own.get("aliases")
    names += [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    adapters = [card["id"] for card in others if card.get("parent") in (own["id"], *names)]
    return tuple(dict.fromkeys(name for name in names if name != own["id"])), tuple(adapters)


async def _props(server: Server) -> Json:
    """What llama.cpp says beside OpenAI's API."""
    if server.root is None:
        return {}
    status, body = await server.get(f"{server.root}/props")
    return _object(body) if status == 200 else {}


async def _published(server: Server) -> dict[str, Json]:
    """The schemas of the server's own OpenAPI document; none where it has none that can be read."""
    if server.root is None:
        return {}
    status, body = await server.get(f"{server.root}/openapi.json")
    if status != 200:
        return {}
    try:
        return await asyncio.to_thread(_schemas, body)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning(
            "an upstream server's schemas cannot be read, so OpenAI's are used", url=server.url, fault=repr(error)
        )
        return {}


def _schemas(openapi: bytes) -> dict[str, Json]:
    document = json.loads(openapi)
    schemas.leave_out_hosted_tools(document)
    found = schemas.of_endpoints(document, INFERENCE)
    return found if not ENDPOINTS.keys().isdisjoint(found) else {}


async def _found(server: Server, model: str) -> dict[str, Json]:
    """OpenAI's schemas of those endpoints that do not answer a request without its input as if they were not there."""
    nothing = payload.write({"model": model, "max_tokens": 1})
    found = {}
    for path, schema in ENDPOINTS.items():
        status, _ = await server.post(server.path(path), nothing)
        if status not in _NOT_THERE:
            found[path] = schema
    return found


def _object(body: bytes) -> Json:
    try:
        value = payload.decode(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _within(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def same(surveys: Sequence[Survey]) -> Survey:
    """What several servers of one model have in common. The first one's schemas stand for all."""
    first = surveys[0]
    paths = set(first.endpoints).intersection(*(other.endpoints for other in surveys))
    lengths = [other.context_length for other in surveys if other.context_length]
    return Survey(
        first.model,
        tuple(name for name in first.aliases if all(name in other.aliases for other in surveys)),
        tuple(name for name in first.adapters if all(name in other.adapters for other in surveys)),
        {path: first.endpoints[path] for path in sorted(paths)},
        min(lengths, default=None),
        first.slots,
    )
