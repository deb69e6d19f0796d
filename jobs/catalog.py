"""What engines there are: their names, endpoints and schemas, and the workers that run them."""

import asyncio
import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from jobs.broker import queue_name
from jobs.database import Database, Driver, fetch
from jobs.errors import BadRequest, Conflict, NotFound, Unavailable
from jobs.records import Json, Model, Registration, Tier

_LOCK: Final = 0x10_4A_02
"""The advisory lock under which one worker registers at a time."""
_FRESH_SECONDS: Final = 1.0
_MEAN_OUTPUT: Final = 128.0
"""Tokens of a response in a lane that has not answered yet."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker whose lease is good. `home` is the folder of the `longhaul up` that started it."""

    id: UUID
    model: str
    host: str
    pid: int
    home: str | None
    slots: int
    started_at: datetime
    lease_until: datetime
    draining: bool
    running: int


async def register(
    database: Database,
    worker: UUID,
    registration: Registration,
    *,
    host: str,
    pid: int,
    home: str | None,
    lease_seconds: float = 60,
) -> Model:
    """Make an engine known, or known again, and the worker that runs it; its first lease begins.

    Raises:
        Conflict: one of its names belongs to another engine that is not retired, or its adapters are not those of
            the engine's other live workers.
    """
    names = _names(registration)
    schemas = {path: json.dumps(schema, sort_keys=True) for path, schema in registration.endpoints.items()}
    hashes = {path: hashlib.sha256(schema.encode()).hexdigest() for path, schema in schemas.items()}
    stored = _stored(registration, hashes)
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        await _refuse_conflicts(connection, worker, registration, list(names))
        await fetch(
            connection, "register_schemas", hashes=list(hashes.values()), bodies=[schemas[path] for path in hashes]
        )
        [model] = await fetch(
            connection,
            "register_model",
            model=registration.model,
            queue=queue_name(registration.model),
            registration=stored,
        )
        await fetch(
            connection,
            "register_worker",
            worker=worker,
            model=model.id,
            registration=stored,
            slots=registration.slots,
            host=host,
            pid=pid,
            home=home,
            lease=lease_seconds,
        )
        await fetch(connection, "register_claim_names", model=model.id, names=list(names), kinds=list(names.values()))
        return next(_model(row) for row in await fetch(connection, "models") if row.id == model.id)


async def models(database: Database) -> list[Model]:
    """Every model that was ever registered and not retired, in the order in which they came."""
    return [_model(row) for row in await database.run("models")]


async def workers(database: Database) -> list[WorkerView]:
    """Every worker whose lease is good, oldest first."""
    return [WorkerView(**row._asdict()) for row in await database.run("workers_live")]


async def retire(database: Database, name: str) -> int:
    """Forget a model, called by its primary name or an alias; control ends the jobs that still wait for it.

    Returns:
        Its id.

    Raises:
        NotFound: no such model is known.
        Conflict: workers still run it.
    """
    known = await models(database)
    model = next((model for model in known if name in (model.name, *model.aliases)), None)
    if model is None:
        raise _unknown(name, known)
    if not await database.run("model_retire", model=model.id):
        raise Conflict(f"Workers still run the model '{model.name}'. Stop them first.")
    return model.id


class Catalog:
    """The known models as this process last saw them, at most a second ago: `await current()` before asking."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._models: list[Model] = []
        self._by_name: dict[str, Model] = {}
        self._schemas: dict[str, Json] = {}
        self._fresh_until = 0.0
        self._loaded = False
        self._refreshing = asyncio.Lock()

    async def current(self) -> None:
        """Return when what is known is at most a second old, or the database is away and it is the last that it said.

        Raises:
            Unavailable: the database has never answered.
        """
        if time.monotonic() < self._fresh_until:
            return
        async with self._refreshing:
            if time.monotonic() < self._fresh_until:
                return
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                if not self._loaded:
                    raise Unavailable from None
                self._fresh_until = time.monotonic() + _FRESH_SECONDS
                _log.warning("the catalog is not fresh, the database does not answer", error=str(error))

    async def refresh(self) -> None:
        """Ask the database now."""
        known = await models(self._database)
        wanted = {schema for model in known for schema in model.endpoints.values()}
        kept = {hashed: schema for hashed, schema in self._schemas.items() if hashed in wanted}
        if missing := wanted - kept.keys():
            rows = await self._database.run("schemas_find", hashes=list(missing))
            kept |= {row.hash: row.body for row in rows}
        self._models, self._schemas, self._by_name = known, kept, _by_name(known)
        self._fresh_until = time.monotonic() + _FRESH_SECONDS
        self._loaded = True

    def models(self) -> list[Model]:
        """Every known model, in the order in which they came."""
        return self._models

    def find(self, name: str | None) -> Model:
        """The model of this name, alias or adapter. Without a name: the only live one, else the only known one.

        Raises:
            NotFound: nothing is called so; the message lists what exists.
            BadRequest: there was no name, and more than one model, or none, that could be meant.
        """
        if name is not None:
            if name not in self._by_name:
                raise _unknown(name, self._models)
            return self._by_name[name]
        for candidates in ([model for model in self._models if model.workers], self._models):
            if len(candidates) == 1:
                return candidates[0]
        raise BadRequest(
            f"You must provide a model parameter. {_what_exists(self._models)}", param="model", code="missing_model"
        )

    def schema(self, hashed: str) -> Json:
        """The JSON schema of this hash, as `Model.endpoints` names it."""
        return self._schemas[hashed]


def _names(registration: Registration) -> dict[str, str]:
    """Each of an engine's names with its kind, the primary one first."""
    names = {registration.model: "primary"}
    for kind, more in (("alias", registration.aliases), ("adapter", registration.adapters)):
        for name in more:
            names.setdefault(name, kind)
    return names


def _stored(registration: Registration, hashes: dict[str, str]) -> str:
    return json.dumps(
        {
            "aliases": [name for name in registration.aliases if name != registration.model],
            "adapters": sorted(registration.adapters),
            "endpoints": hashes,
            "context_length": registration.context_length,
            "limits": registration.limits,
        }
    )


async def _refuse_conflicts(connection: Driver, worker: UUID, registration: Registration, names: list[str]) -> None:
    for taken in await fetch(connection, "register_names", names=names, model=registration.model):
        raise Conflict(
            f"The name '{taken.name}' of the engine '{registration.model}' belongs to the engine '{taken.model}'. "
            f"Choose another --served-model-name, or run `longhaul models retire '{taken.model}'`."
        )
    ours = sorted(registration.adapters)
    for peer in await fetch(connection, "register_adapters", model=registration.model, worker=worker):
        if sorted(peer.adapters) != ours:
            raise Conflict(
                f"The engine '{registration.model}' has live workers with the adapters {_listed(peer.adapters)}; "
                f"this one has {_listed(ours)}. All workers of an engine must serve the same."
            )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"


def _model(row: Any) -> Model:
    registration = row.registration
    outputs = {int(tier): tokens for tier, tokens in row.outputs.items()}
    return Model(
        id=row.id,
        name=row.name,
        aliases=tuple(registration["aliases"]),
        adapters=tuple(registration["adapters"]),
        queue=row.queue,
        endpoints=registration["endpoints"],
        context_length=registration["context_length"],
        created_at=row.created_at,
        workers=row.workers,
        slots=row.slots,
        bytes_per_token=row.bytes_per_token,
        mean_output={tier: outputs.get(int(tier), _MEAN_OUTPUT) for tier in Tier},
    )


def _by_name(known: Iterable[Model]) -> dict[str, Model]:
    return {name: model for model in known for name in (*model.adapters, *model.aliases, model.name)}


def _unknown(name: str, known: Iterable[Model]) -> NotFound:
    return NotFound(f"The model '{name}' does not exist. {_what_exists(known)}", param="model", code="model_not_found")


def _what_exists(known: Iterable[Model]) -> str:
    names = sorted(_by_name(known))
    return f"Models: {_listed(names)}." if names else "No model has been registered yet."
