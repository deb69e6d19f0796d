"""Registration, the names it claims, and what the API sees of it."""

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from jobs import catalog, lease
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.errors import BadRequest, Conflict, NotFound, Unavailable
from jobs.records import Model, Registration, Tier

CHAT = "/v1/chat/completions"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"model": {"type": "string"}}}
LLAMA = Registration(
    model="meta/llama",
    aliases=("llama", "gpt-4o"),
    adapters=("sql", "poems"),
    endpoints={CHAT: SCHEMA},
    context_length=4096,
    slots=64,
)
QWEN = replace(LLAMA, model="qwen", aliases=("small",), adapters=())


async def comes_up(database: Database, registration: Registration, worker: UUID | None = None) -> Model:
    return await catalog.register(database, worker or uuid4(), registration, host="here", pid=7, home="/home")


async def seen(database: Database) -> Catalog:
    known = Catalog(database)
    await known.current()
    return known


async def test_a_model_answers_to_its_name_its_aliases_and_its_adapters(database: Database) -> None:
    registered = await comes_up(database, LLAMA)
    known = await seen(database)
    assert {known.find(name).id for name in ("meta/llama", "llama", "gpt-4o", "sql", "poems")} == {registered.id}
    model = known.find("sql")
    assert (model.name, model.context_length, model.workers, model.slots) == ("meta/llama", 4096, 1, 64)
    assert set(model.mean_output) == set(Tier)


async def test_an_unknown_model_is_not_found_and_the_message_lists_what_exists(database: Database) -> None:
    with pytest.raises(NotFound, match="No model has been registered yet"):
        (await seen(database)).find("gpt-5")
    await comes_up(database, LLAMA)
    with pytest.raises(NotFound, match=r"'gpt-5' does not exist.*'gpt-4o', 'llama', 'meta/llama'") as caught:
        (await seen(database)).find("gpt-5")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_schemas_are_kept_once_whatever_the_order_of_their_keys(database: Database) -> None:
    await comes_up(database, LLAMA)
    await comes_up(database, replace(QWEN, endpoints={CHAT: dict(reversed(SCHEMA.items()))}))
    known = await seen(database)
    hashes = {model.endpoints[CHAT] for model in known.models()}
    assert len(hashes) == 1
    assert known.schema(hashes.pop()) == SCHEMA


async def test_without_a_model_the_only_live_one_is_meant_else_the_only_known_one(database: Database) -> None:
    with pytest.raises(BadRequest) as caught:
        (await seen(database)).find(None)
    assert caught.value.param == "model"
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    assert (await seen(database)).find(None).name == "meta/llama"
    await lease.end(database, worker)
    assert (await seen(database)).find(None).name == "meta/llama"
    await comes_up(database, QWEN)
    assert (await seen(database)).find(None).name == "qwen"
    await comes_up(database, LLAMA)
    with pytest.raises(BadRequest, match=r"must provide a model parameter.*'qwen'"):
        (await seen(database)).find(None)


async def test_a_model_without_workers_stays_known(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await lease.leave(database, worker)
    [model] = await catalog.models(database)
    assert (model.name, model.workers, model.slots) == ("meta/llama", 0, 0)


async def test_a_name_belongs_to_one_engine_alive_or_not(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await lease.end(database, worker)
    for thief in (replace(QWEN, aliases=("gpt-4o",)), replace(QWEN, adapters=("sql",)), replace(QWEN, model="llama")):
        with pytest.raises(Conflict, match=r"belongs to the engine 'meta/llama'.*models retire"):
            await comes_up(database, thief)
    assert [model.name for model in await catalog.models(database)] == ["meta/llama"]


async def test_the_adapters_of_live_workers_of_one_engine_are_the_same(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await comes_up(database, replace(LLAMA, adapters=("poems", "sql")))
    other = replace(LLAMA, adapters=("sql",))
    with pytest.raises(Conflict, match="live workers with the adapters 'poems', 'sql'; this one has 'sql'"):
        await comes_up(database, other)
    for live in await catalog.workers(database):
        await lease.end(database, live.id)
    assert (await comes_up(database, other)).adapters == ("sql",)


async def test_a_worker_may_register_again_with_other_adapters(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    again = await comes_up(database, replace(LLAMA, adapters=()), worker)
    assert (again.adapters, again.workers) == ((), 1)


async def test_the_newest_live_registration_rules(database: Database) -> None:
    old, new = uuid4(), uuid4()
    await comes_up(database, LLAMA, old)
    await comes_up(database, replace(LLAMA, aliases=("llama-2",), context_length=8192), new)
    assert (await seen(database)).find("llama-2").context_length == 8192
    await lease.end(database, new)
    assert (await seen(database)).find("llama").context_length == 4096
    await lease.end(database, old)
    assert (await seen(database)).find("llama-2").context_length == 8192


async def test_a_name_that_no_registration_has_any_more_is_free(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await comes_up(database, replace(LLAMA, aliases=()), worker)
    assert (await comes_up(database, replace(QWEN, aliases=("gpt-4o",)))).aliases == ("gpt-4o",)


async def test_a_retired_model_is_unknown_until_it_registers_anew(database: Database) -> None:
    worker = uuid4()
    first = await comes_up(database, LLAMA, worker)
    with pytest.raises(Conflict, match="Workers still run"):
        await catalog.retire(database, "llama")
    await lease.leave(database, worker)
    assert await catalog.retire(database, "llama") == first.id
    with pytest.raises(NotFound):
        (await seen(database)).find("meta/llama")
    with pytest.raises(NotFound):
        await catalog.retire(database, "meta/llama")
    again = await comes_up(database, LLAMA)
    assert (again.id, again.queue) == (first.id, first.queue)
    assert (await seen(database)).find("gpt-4o").id == first.id


async def test_the_names_of_a_retired_model_are_free(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await lease.leave(database, worker)
    await catalog.retire(database, "meta/llama")
    await comes_up(database, replace(QWEN, aliases=("gpt-4o",)))
    with pytest.raises(Conflict, match="'gpt-4o' of the engine 'meta/llama' belongs to the engine 'qwen'"):
        await comes_up(database, LLAMA)


async def test_live_workers_are_listed_with_where_they_run(database: Database) -> None:
    live, lost = uuid4(), uuid4()
    await comes_up(database, LLAMA, lost)
    await comes_up(database, LLAMA, live)
    await lease.end(database, lost)
    [worker] = await catalog.workers(database)
    assert (worker.id, worker.model, worker.host, worker.pid, worker.home) == (live, "meta/llama", "here", 7, "/home")
    assert (worker.slots, worker.running, worker.draining) == (64, 0, False)


async def test_a_draining_worker_offers_no_slots(database: Database) -> None:
    worker = uuid4()
    await comes_up(database, LLAMA, worker)
    await lease.renew(database, worker, 60, 64, True)
    [model] = await catalog.models(database)
    assert (model.workers, model.slots) == (0, 0)


async def test_what_is_known_is_asked_for_once_in_a_while(database: Database) -> None:
    known = await seen(database)
    await comes_up(database, LLAMA)
    await known.current()
    assert known.models() == []
    await known.refresh()
    assert [model.name for model in known.models()] == ["meta/llama"]


async def test_a_database_that_never_answered_is_said_so() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable):
        await Catalog(nowhere).current()
