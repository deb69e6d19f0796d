"""Who a worker is, and what it makes known."""

from uuid import uuid4

import pytest

from jobs import catalog
from jobs.broker import queue_name
from jobs.database import Database
from jobs.errors import Conflict
from jobs.settings import Settings
from tests.engines.scripted import ScriptedEngine
from worker.register import identity


def test_a_worker_on_its_own_is_another_one_after_each_boot_and_of_no_folder(settings: Settings) -> None:
    first, second = identity(settings), identity(settings)
    assert first.worker != second.worker
    assert first.home is None


def test_the_child_of_longhaul_up_has_the_id_and_the_folder_that_it_gave(settings: Settings) -> None:
    given = uuid4()
    child = identity(settings.model_copy(update={"worker_id": str(given)}))
    assert (child.worker, child.home) == (given, str(settings.home.resolve()))


async def test_a_worker_registers_with_its_engine_and_may_do_so_again(settings: Settings, database: Database) -> None:
    registration = await ScriptedEngine().describe()
    who = identity(settings)
    model = await who.register(database, registration)
    assert await who.register(database, registration) == model
    assert (model.name, model.queue) == ("scripted", queue_name("scripted"))
    assert [worker.id for worker in await catalog.workers(database)] == [who.worker]


async def test_a_name_of_another_engine_is_refused(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGHAUL_TEST_ALIASES", "llama")
    await identity(settings).register(database, await ScriptedEngine().describe())
    monkeypatch.setenv("LONGHAUL_TEST_MODEL", "other")
    with pytest.raises(Conflict, match="llama"):
        await identity(settings).register(database, await ScriptedEngine().describe())
