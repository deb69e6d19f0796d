"""The database of the deployment, for commands that need no API: keys, tenants, models, workers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import OperationalError

from jobs.database import Database
from jobs.settings import Settings
from longhaul.deployment import NotFoundHere, database_url


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Database]:
    """A connection to it, for one command.

    Raises:
        NotFoundHere: nobody says where it is, or it does not answer.
    """
    database = Database(database_url(settings), pool_size=2)
    try:
        yield database
    except OperationalError as error:
        raise NotFoundHere(f"The database does not answer: {str(error.orig).strip()}") from None
    finally:
        await database.close()
