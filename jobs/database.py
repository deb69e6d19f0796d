"""The connection to PostgreSQL: its pool, its timeouts, and the loader of the statements in `sql/`."""

import functools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_INCLUDE = re.compile(r"^\s*-- include: (\w+)$", re.MULTILINE)


def _source(name: str) -> str:
    source = resources.files("jobs").joinpath("sql", f"{name}.sql").read_text()
    return _INCLUDE.sub(lambda found: _source(found[1]), source)


@functools.cache
def statement(name: str) -> TextClause:
    """The statement `sql/NAME.sql`; `-- include: OTHER` stands for the text of `sql/OTHER.sql`."""
    return text(_source(name))


def is_connection_lost(error: BaseException) -> bool:
    """Whether the server went away, so that the outcome is unknown and the statement may be sent again."""
    return isinstance(error, (OperationalError, InterfaceError)) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )


class Database:
    """A pool of connections in autocommit mode, so that one statement is one round trip.

    What is lost on the way shows itself within about 30 s: TCP and statement timeouts are set.
    """

    def __init__(self, url: str, pool_size: int = 8) -> None:
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=30,
            pool_use_lifo=True,
            isolation_level="AUTOCOMMIT",
            connect_args={
                "connect_timeout": 5,
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
                "tcp_user_timeout": 20_000,
                "prepare_threshold": 3,
                "options": "-c statement_timeout=30s -c idle_in_transaction_session_timeout=30s -c jit=off"
                " -c application_name=longhaul",
            },
        )

    async def close(self) -> None:
        await self.engine.dispose()

    async def run(self, name: str, **parameters: Any) -> Sequence[Row[Any]]:
        """Run `sql/NAME.sql` as a transaction of its own and return its rows (none if it returns none)."""
        async with self.engine.connect() as connection:
            return await fetch(connection, name, **parameters)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Several statements, one commit. READ COMMITTED: each statement sees what was committed before it."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="READ COMMITTED")
            async with connection.begin():
                yield connection


async def fetch(connection: AsyncConnection, name: str, **parameters: Any) -> Sequence[Row[Any]]:
    """Run `sql/NAME.sql` on a connection that is already in a transaction."""
    result = await connection.execute(statement(name), parameters)
    return result.fetchall() if result.returns_rows else []
