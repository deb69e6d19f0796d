"""Databases for tests: a copy of a template each, emptied and used again where that is as good as a new one.

A copy costs a hundred times what it takes to delete the few rows that most tests leave behind.
"""

import itertools
import json
from typing import Final

import psycopg
from psycopg import sql

_ROOM_BYTES: Final = 2 * 2**20
"""A database that grew by more is not used again: what was deleted from it still fills its pages."""
_TABLES: Final = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
    ORDER BY oid
"""
_SEQUENCES: Final = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'"
_SHAPE: Final = """
    SELECT count(*), max(oid), sum(reltuples), (SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0)
    FROM pg_class WHERE relkind <> 't'
"""
_BYTES: Final = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'i', 't')"
_END_OTHERS: Final = """
    SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class Databases:
    """Copies of the database `template`, on whose server nobody else makes any. URLs are psycopg's."""

    def __init__(self, template_url: str) -> None:
        self._server, _, self._template = template_url.rpartition("/")
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._clean: list[str] = []
        with psycopg.connect(template_url) as connection:
            self._shape = connection.execute(_SHAPE).fetchone()
            self._bytes = self._size(connection)
            self._emptying = _emptying(connection)

    def take(self) -> str:
        """The name of a database that is as the template is."""
        if self._clean:
            return self._clean.pop()
        name = next(self._names)
        self._administer("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy", name, self._template)
        return name

    def give_back(self, name: str) -> None:
        """Whoever is still connected to it is not any more."""
        if self._emptied(name):
            self._clean.append(name)
        else:
            self._administer("DROP DATABASE {} WITH (FORCE)", name)

    def _emptied(self, name: str) -> bool:
        """Whether it could be made as the template is."""
        try:
            with psycopg.connect(f"{self._server}/{name}", autocommit=True) as connection:
                connection.execute(_END_OTHERS)
                if connection.execute(_SHAPE).fetchone() != self._shape:
                    return False
                connection.execute(self._emptying)
                return self._size(connection) < self._bytes + _ROOM_BYTES
        except psycopg.Error:  # it accepts no connections, or lacks a table
            return False

    def _size(self, connection: psycopg.Connection) -> int:
        row = connection.execute(_BYTES).fetchone()
        assert row is not None
        return int(row[0])

    def _administer(self, statement: str, *names: str) -> None:
        with psycopg.connect(f"{self._server}/postgres", autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _emptying(template: psycopg.Connection) -> bytes:
    """The statements after which a database holds the template's rows and no others."""
    # No foreign key is looked at on the way.
    statements: list[sql.Composable] = [sql.SQL("SET session_replication_role = replica")]
    for (table,) in template.execute(_TABLES).fetchall():
        name = sql.Identifier(table)
        statements.append(sql.SQL("DELETE FROM {}").format(name))
        rows = [row for (row,) in template.execute(sql.SQL("SELECT to_jsonb(t) FROM {} t").format(name)).fetchall()]
        if rows:
            insert = "INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT * FROM jsonb_populate_recordset(NULL::{}, {})"
            statements.append(sql.SQL(insert).format(name, name, sql.Literal(json.dumps(rows))))
    for (sequence,) in template.execute(_SEQUENCES).fetchall():
        last, called = template.execute(
            sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(sequence))
        ).fetchall()[0]
        statements.append(
            sql.SQL("SELECT setval({}, {}, {})").format(sql.Literal(sequence), sql.Literal(last), sql.Literal(called))
        )
    return sql.SQL("; ").join(statements).as_bytes(template)
