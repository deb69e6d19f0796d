"""Lists on their way to PostgreSQL: what comes back is what was sent, whatever is in it."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from psycopg import AsyncConnection
from sqlalchemy.exc import DataError

from jobs.database import Database
from jobs.records import Tier
from jobs.states import Status

_WORDS = ["", "NULL", "a,b", "{}", 'say "no"', "back\\slash", "\\x61", " spaces\tand\nlines ", "żółw 🐢", "'; --"]


async def _returned(database: Database, kind: str, elements: Sequence[Any]) -> Any:
    async with database.transaction() as connection:
        assert isinstance(connection, AsyncConnection)
        row = await (await connection.execute(f"SELECT CAST(%s AS {kind}[])", (list(elements),))).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("kind", "elements"),
    [
        ("text", _WORDS),
        ("bytea", [b"", b"\0\xff\\\"'{}", b"x" * 100_000]),
        ("int", [0, -(2**31), 2**31 - 1]),
        ("bigint", [2**63 - 1]),
        ("boolean", [True, False]),
        ("double precision", [0.1, -1e-300, 1.7976931348623157e308, math.inf]),
        ("uuid", [UUID(int=1)]),
        ("timestamptz", [datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)]),
    ],
)
async def test_elements_come_back_as_they_were(database: Database, kind: str, elements: list[Any]) -> None:
    mixed = [None, *elements, None]
    assert await _returned(database, kind, mixed) == mixed


async def test_nothing_and_nothing_known_are_arrays_too(database: Database) -> None:
    assert await _returned(database, "text", []) == []
    assert await _returned(database, "bytea", [None, None]) == [None, None]


async def test_types_that_derive_from_others_are_as_good(database: Database) -> None:
    assert await _returned(database, "smallint", [Tier.BATCH]) == [int(Tier.BATCH)]
    assert await _returned(database, "text", [Status.FAILED]) == ["failed"]


async def test_what_cannot_be_stored_is_refused_before_it_is_sent(database: Database) -> None:
    with pytest.raises(DataError, match="NUL"):
        await _returned(database, "text", ["fine", "a\0b"])
    with pytest.raises(UnicodeError):
        await _returned(database, "text", ["\ud800"])
    with pytest.raises(TypeError, match="set"):
        await _returned(database, "text", [set()])


async def test_a_statement_is_prepared_once_whatever_the_lists_hold(database: Database) -> None:
    async with database.transaction() as connection:
        for size in (1, 100, 100_000, 10_000_000_000, 1, 1):
            await connection.execute("SELECT CAST(%s AS bigint[])", ([size],))
        rows = await (await connection.execute("SELECT count(*) FROM pg_prepared_statements")).fetchall()
    assert rows == [(1,)]
