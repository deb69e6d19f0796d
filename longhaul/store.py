"""The database of the deployment, for commands that need no API: keys, tenants, models, workers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from jobs import settings
from jobs.database import Database
from jobs.settings import Settings
from longhaul.deployment import NotFoundHere, database_url
from longhaul.output import failures_said

T = TypeVar("T")


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """A connection to it, for one command.

    Raises:
        NotFoundHere: nobody says where it is, or it does not answer.
    """
    database = Database(database_url(settings), pool_size=2)
    try:
        with silence_named():
            yield database
    finally:
        await database.close()


@contextmanager
def silence_named() -> Iterator[None]:
    """Raises NotFoundHere where the database does not answer."""
    try:
        yield
    except OperationalError as error:
        raise NotFoundHere(f"The database does not answer: {str(error.orig).splitlines()[0]}") from None


def ask(question: Callable[[Database], Awaitable[T]]) -> T:
    """What the database answers; the command ends with one line where it cannot."""

    async def run() -> T:
        async with open_database(settings.load()) as database:
            return await question(database)

    with failures_said():
        return asyncio.run(run())
