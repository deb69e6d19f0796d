"""The connection to PostgreSQL: its pool, its timeouts, and the statements in `sql/`."""

import functools
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, Final, TypeAlias

import psycopg
from psycopg.errors import AdminShutdown, CrashShutdown
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

Driver: TypeAlias = psycopg.AsyncConnection[Any]
"""A connection of the pool as its driver knows it: what `transaction` yields and `fetch` takes."""

Rows: TypeAlias = Sequence[Any]
"""Named tuples."""

_INCLUDE = re.compile(r"^\s*-- include: (\w+)$", re.MULTILINE)
_COMMENT = re.compile(r"--.*$", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):(\w+)")


_SESSION: Final = {
    "application_name": "longhaul",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
    # Planning costs the claim more than running it. A plan made while the tables were empty is kept until they are
    # analysed, so it must be one that fits full ones: by index.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}


def _source(name: str) -> str:
    source = resources.files("jobs").joinpath("sql", f"{name}.sql").read_text()
    return _INCLUDE.sub(lambda found: _source(found[1]), source)


@functools.cache
def statement(name: str) -> bytes:
    """`sql/NAME.sql` as the driver wants it; in it, `-- include: OTHER` stands for the text of `sql/OTHER.sql`."""
    return _PARAMETER.sub(r"%(\1)s", _COMMENT.sub("", _source(name)).replace("%", "%%")).encode()


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server went away or gave up, so that the outcome is unknown and the statement may be sent again."""
    return isinstance(error, (OperationalError, InterfaceError, OSError)) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


class Database:
    """A pool of connections in autocommit mode, so that one statement is one round trip.

    What is lost on the way shows itself within about 30 s: TCP and statement timeouts are set. The statements of `sql/`
    go to the driver of a pooled connection: SQLAlchemy's own execution costs a quarter of a millisecond each.
    """

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",
            pool_reset_on_return=None,  # in autocommit there is nothing to roll back
            connect_args={
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
                "prepare_threshold": 3,
                "options": " ".join(f"-c {name}={value}" for name, value in _SESSION.items()),
            },
        )

        self._lost_at = 0.0
        event.listen(self.engine.sync_engine, "connect", self._made)
        event.listen(self.engine.sync_engine, "checkout", self._taken)

    async def close(self) -> None:
        await self.engine.dispose()

    async def run(self, name: str, **parameters: Any) -> Rows:
        """Run `sql/NAME.sql` as a transaction of its own and return its rows (none if it returns none)."""
        async with self._driver() as driver:
            return await fetch(driver, name, **parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Driver]:
        """Several statements, one commit. READ COMMITTED: each statement sees what was committed before it."""
        async with self._driver() as driver, driver.transaction():
            yield driver

    async def together(self, *statements: tuple[str, Mapping[str, Any]]) -> list[Rows]:
        """Run several of `sql/`, each with its parameters, as one transaction in one round trip; the rows of each.

        As in `transaction`, each sees what was committed before it.
        """
        async with self._driver() as driver:
            cursors = [driver.cursor(row_factory=namedtuple_row) for _ in statements]
            async with driver.pipeline():
                await driver.execute("BEGIN")
                for cursor, (name, parameters) in zip(cursors, statements, strict=True):
                    await cursor.execute(statement(name), parameters)
                await driver.execute("COMMIT")
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]

    @asynccontextmanager
    async def _driver(self) -> AsyncIterator[Driver]:
        """The driver of a pooled connection. Its errors become SQLAlchemy's."""
        # Of the pool, not by `engine.connect()`: in a process that idles, its layers cost more than a small query.
        try:
            pooled = await greenlet_spawn(self.engine.sync_engine.pool.connect)
        except psycopg.Error as error:
            raise self._as_sqlalchemys(error, lost=False) from error
        driver = pooled.driver_connection
        assert isinstance(driver, psycopg.AsyncConnection)
        lost = False
        try:
            yield driver
        except psycopg.Error as error:
            # A server that ends the session says so before it hangs up.
            lost = driver.closed or isinstance(error, (AdminShutdown, CrashShutdown))
            if lost:
                self._lost_at = time.monotonic()
            raise self._as_sqlalchemys(error, lost) from error
        finally:
            # What was cancelled may have left it in the middle of something.
            if lost or driver.info.transaction_status is not TransactionStatus.IDLE:
                await greenlet_spawn(pooled.invalidate)
            pooled.close()

    def _as_sqlalchemys(self, error: psycopg.Error, lost: bool) -> BaseException:
        return DBAPIError.instance(
            None, None, error, psycopg.Error, connection_invalidated=lost, dialect=self.engine.dialect
        )

    def _made(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["made_at"] = time.monotonic()

    def _taken(self, connection: Any, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        # The server that went with one connection went with all that are older. The pool then makes a new one.
        if record.info["made_at"] < self._lost_at:
            raise DisconnectionError


async def fetch(driver: Driver, name: str, **parameters: Any) -> Rows:
    """Run `sql/NAME.sql` on a connection that may be in a transaction, and return its rows."""
    async with driver.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement(name), parameters)
        return await cursor.fetchall() if cursor.description else []
