"""The connection to PostgreSQL: statements by name, its errors, and what happens when it goes away."""

import asyncio
import functools
import gc
import warnings
from importlib import resources

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, ProgrammingError

from jobs.database import Database, is_connection_lost, statement
from tests.jobs.conftest import Outage
from tests.jobs.ledger import rows, value, waits_for_a_lock
from tests.until import until

NAMES = sorted(path.name.removesuffix(".sql") for path in resources.files("jobs").joinpath("sql").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_no_comment_and_no_include_is_left_in_a_statement(name: str) -> None:
    assert b"--" not in statement(name)


def test_an_include_stands_for_the_other_files_text() -> None:
    assert b"UPDATE flows" in statement("cancel")


def test_parameters_are_named_and_casts_are_not_taken_for_them() -> None:
    assert b"%(free)s)::int" in statement("waiting")


async def test_a_statement_alone_is_committed(database: Database) -> None:
    assert await database.run("tenant_set", tenant="default", weight=7, paused=None)
    assert await value(database, "SELECT weight FROM tenants") == 7


async def test_a_transaction_that_fails_writes_nothing(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.transaction() as connection:
            await connection.execute("UPDATE tenants SET weight = 9")
            await connection.execute("INSERT INTO tenants (name) VALUES ('default')")
    assert await value(database, "SELECT weight FROM tenants") == 1


async def test_statements_sent_together_are_one_transaction(database: Database) -> None:
    def tenant(**changes: object) -> tuple[str, dict[str, object]]:
        return "tenant_set", {"tenant": "default", "weight": None, "paused": None} | changes

    first, second = await database.together(tenant(weight=7), tenant(paused=True))
    assert (first[0].paused, second[0].weight) == (False, 7), "each sees what came before it"
    with pytest.raises(DBAPIError):
        await database.together(tenant(weight=9), tenant(weight="none"))
    assert await value(database, "SELECT weight FROM tenants") == 7


async def test_statements_sent_together_see_what_they_waited_for(database: Database) -> None:
    tenant: dict[str, object] = {"tenant": "default", "weight": None, "paused": None}
    async with database.transaction() as connection:
        await connection.execute("UPDATE tenants SET weight = 8")
        asking = asyncio.create_task(database.together(("tenant_set", tenant), ("tenant_list", {})))
        await until(functools.partial(waits_for_a_lock, database))
    _, tenants = await asking
    assert [row.weight for row in tenants] == [8]


async def test_no_statement_and_no_transaction_may_last_for_ever(database: Database) -> None:
    assert await value(database, "SHOW statement_timeout") == "30s"
    assert await value(database, "SHOW idle_in_transaction_session_timeout") == "30s"


async def test_errors_are_sqlalchemys(database: Database) -> None:
    with pytest.raises(ProgrammingError) as caught:
        await rows(database, "SELECT nothing")
    assert not is_connection_lost(caught.value)


async def test_an_outage_is_told_from_a_mistake(database: Database, outage: Outage) -> None:
    async with outage():
        with pytest.raises(OperationalError) as caught:
            await value(database, "SELECT 1")
    assert is_connection_lost(caught.value)
    assert is_connection_lost(ConnectionRefusedError())
    assert not is_connection_lost(ValueError())


async def test_after_an_outage_at_most_those_that_were_at_work_notice(database: Database, outage: Outage) -> None:
    await asyncio.gather(*(value(database, "SELECT pg_sleep(0.05)") for _ in range(8)))
    async with outage():
        with pytest.raises(DBAPIError):
            await value(database, "SELECT 1")
    assert await asyncio.gather(*(value(database, "SELECT 1") for _ in range(20))) == [1] * 20


async def test_a_session_that_the_server_ended_is_lost_and_closed(database: Database, database_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        database_url.replace("+psycopg", ""), autocommit=True
    ) as administrator:

        async def ended() -> None:
            async with database.transaction() as connection:
                await administrator.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))
                await connection.execute("SELECT 1")

        with pytest.raises(DBAPIError) as caught:
            await ended()
    assert is_connection_lost(caught.value)
    assert caught.value.connection_invalidated
    assert await value(database, "SELECT 1") == 1


async def test_nothing_stays_open_after_the_close(database_url: str, outage: Outage) -> None:
    database = Database(database_url)

    async def ask() -> object:
        try:
            return await value(database, "SELECT pg_sleep(0.01)")
        except DBAPIError:
            return None

    async with outage():
        asking = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.gather(*asking[:4])
    await asyncio.gather(*asking, *(ask() for _ in range(8)))
    await database.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()
    assert not caught


async def test_one_connection_serves_who_comes_alone_and_nobody_starves(database_url: str) -> None:
    database = Database(database_url, pool_size=2)
    try:
        alone = {await value(database, "SELECT pg_backend_pid()") for _ in range(5)}
        assert len(alone) == 1
        async with database.transaction() as connection:  # holds one of the two for as long as the others run
            await connection.execute("SELECT 1")
            async with asyncio.timeout(10):
                assert await asyncio.gather(*(value(database, "SELECT 1") for _ in range(20))) == [1] * 20
        async with asyncio.timeout(10), database.engine.connect():  # the pool's, as `connection` was ours
            assert await value(database, "SELECT pg_backend_pid()") in alone
    finally:
        await database.close()
