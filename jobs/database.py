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

from jobs.arrays import ListDumper

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
    # On one line: psycopg keeps what it found out about a statement of at most 4,096 bytes.
    source = " ".join(_COMMENT.sub("", _source(name)).split())
    return _PARAMETER.sub(r"%(\1)s", source.replace("%", "%%")).encode()


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server went away or gave up, so that the outcome is unknown and the statement may be sent again."""
    return isinstance(error, (OperationalError, InterfaceError, OSError)) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


class Database:
    """A pool of at least two connections in autocommit mode, so that one statement is one round trip.

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
        self._own: PoolProxiedConnection | None = None
        self._own_is_taken = False
        self._closed = False
        event.listen(self.engine.sync_engine, "connect", self._made)
        event.listen(self.engine.sync_engine, "checkout", self._taken)

    async def close(self) -> None:
        self._closed = True
        if self._own is not None and not self._own_is_taken:
            self._own.close()
            self._own = None
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

        As in `transaction`, each sees what was committed before it. One that fails takes the others with it, but one
        that cannot even be sent does not.
        """
        async with self._driver() as driver:
            cursors = [driver.cursor(row_factory=namedtuple_row) for _ in statements]
            # What a pipeline sends before its end is one transaction without saying so.
            async with driver.pipeline():
                for cursor, (name, parameters) in zip(cursors, statements, strict=True):
                    await cursor.execute(statement(name), parameters)
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]

    @asynccontextmanager
    async def _driver(self) -> AsyncIterator[Driver]:
        """The driver of a pooled connection. Its errors become SQLAlchemy's."""
        pooled = await self._take()
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
            is_good = not lost and driver.info.transaction_status is TransactionStatus.IDLE
            await self._give_back(pooled, is_good)

    async def _take(self) -> PoolProxiedConnection:
        """One connection is always at hand, never in the pool: in a process that idles, the pool's layers, and even
        more those of `engine.connect()`, take longer than a small query."""
        if self._own_is_taken:
            return await self._connect()
        self._own_is_taken = True
        try:
            if self._own is not None and self._is_stale(self._own.info):
                self._own.close()
                self._own = None
            if self._own is None:
                self._own = await self._connect()
        except BaseException:
            self._own_is_taken = False
            raise
        return self._own

    async def _give_back(self, pooled: PoolProxiedConnection, is_good: bool) -> None:
        if pooled is self._own:
            self._own_is_taken = False
            if is_good and not self._closed:
                return
            self._own = None
        if not is_good:
            await greenlet_spawn(pooled.invalidate)
        pooled.close()

    async def _connect(self) -> PoolProxiedConnection:
        try:
            return await greenlet_spawn(self.engine.sync_engine.pool.connect)
        except psycopg.Error as error:
            raise self._as_sqlalchemys(error, lost=False) from error

    def _as_sqlalchemys(self, error: psycopg.Error, lost: bool) -> BaseException:
        return DBAPIError.instance(
            None, None, error, psycopg.Error, connection_invalidated=lost, dialect=self.engine.dialect
        )

    def _made(self, connection: Any, record: ConnectionPoolEntry) -> None:
        record.info["made_at"] = time.monotonic()
        connection.driver_connection.adapters.register_dumper(list, ListDumper)

    def _taken(self, connection: Any, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        if self._is_stale(record.info):
            raise DisconnectionError  # the pool makes a new one

    def _is_stale(self, info: Mapping[str, Any]) -> bool:
        """The server that went with one connection went with all that are older."""
        return bool(info["made_at"] < self._lost_at)


async def fetch(driver: Driver, name: str, **parameters: Any) -> Rows:
    """Run `sql/NAME.sql` on a connection that may be in a transaction, and return its rows."""
    async with driver.cursor(row_factory=namedtuple_row) as cursor:
        await cursor.execute(statement(name), parameters)
        return await cursor.fetchall() if cursor.description else []
