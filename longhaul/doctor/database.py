"""Looks at PostgreSQL: whether it answers, its release, its schema, its promises, its clock."""

import platform
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from alembic.config import Config
from alembic.script import ScriptDirectory

from jobs import migrate
from jobs.database import Database
from longhaul.doctor.finding import Finding, ok, trouble, warning

_OLDEST: Final = 150_000
_MIGRATE: Final = "Run `longhaul migrate` with this release."
_SLIGHT_SECONDS: Final = 2.0
_GRAVE_SECONDS: Final = 60.0
"""Receivers of webhooks refuse signatures that are five minutes old, by a clock of their own that may be wrong too."""


async def examine(database: Database, clock: Callable[[], float] = time.time) -> list[Finding]:
    """Everything about it; `clock` tells this machine's seconds since 1970. Raises SQLAlchemyError if it does not
    answer."""
    await database.run("clock")  # connecting is no part of the round trip
    before = clock()
    [row] = await database.run("doctor_database")
    here = (before + clock()) / 2
    found = [*_release(row), *_promises(row), _clock(row.at, here)]
    if not row.migrated:
        return [*found, trouble("schema", "The database is empty: nobody has migrated it.", _MIGRATE)]
    [schema] = await database.run("doctor_schema")
    return [*found, *_schema(schema)]


def _release(row: Any) -> Iterator[Finding]:
    releases = f"Longhaul {version('longhaul')}, Python {platform.python_version()}, PostgreSQL {row.release}"
    if row.number < _OLDEST:
        yield trouble("versions", f"{releases}, which is too old.", "Upgrade PostgreSQL to 15 or newer.")
    else:
        yield ok("versions", f"{releases}.")


def _promises(row: Any) -> Iterator[Finding]:
    if row.standby:
        message = "It is a standby, which takes no writes."
        yield trouble("database", message, "Point DATABASE_URL at the primary.")
    elif row.unsafe:
        message = f"It may lose what it has confirmed: {', '.join(row.unsafe)} is off."
        yield trouble("database", message, "Switch it on: what was accepted with 202 would not survive a crash.")
    else:
        yield ok("database", "It answers, and keeps what it confirms.")


def _clock(theirs: datetime, here: float) -> Finding:
    apart = here - theirs.timestamp()
    says = f"This machine's clock is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} the database's."
    do = "Keep both by NTP: webhooks are signed with the time, and ids and traces have it in them."
    if abs(apart) > _GRAVE_SECONDS:
        return trouble("clock", says, do)
    if abs(apart) > _SLIGHT_SECONDS:
        return warning("clock", says, do)
    return ok("clock", "This machine's clock agrees with the database's.")


def _schema(row: Any) -> Iterator[Finding]:
    config = Config()
    config.set_main_option("script_location", str(migrate.folder()))
    scripts = ScriptDirectory.from_config(config)
    head, known = scripts.get_current_head(), {script.revision for script in scripts.walk_revisions()}
    if row.revision == head:
        yield ok("schema", f"It is that of this release ({head}).")
    elif row.revision in known:
        yield trouble("schema", f"It is at {row.revision}, this release wants {head}.", _MIGRATE)
    else:
        message = f"It is at {row.revision}, of a newer release than this one, which knows {head}."
        yield warning("schema", message, "Upgrade this installation; until then both run side by side.")
    if not row.partitioned:
        message = "There is no partition for the bodies of tomorrow: they would fall into the default one."
        yield warning("schema", message, "Start control, which makes them, or run `longhaul migrate`.")
