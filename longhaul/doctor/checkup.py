"""The whole look at a deployment, each part of it whatever the others say."""

from typing import Final

from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from jobs.database import Database
from jobs.settings import Settings
from longhaul import deployment
from longhaul.deployment import NotFoundHere
from longhaul.doctor import blobs, database, egress, redis, work
from longhaul.doctor.finding import Finding, Level, trouble

_START: Final = "Start it, or set DATABASE_URL right. Until then nothing is accepted and nothing ends."
_OWNER: Final = "Let DATABASE_URL name the role that ran `longhaul migrate`: the tables are its own."


async def examine(settings: Settings) -> list[Finding]:
    """Everything that was found, in an order in which it can be read."""
    return [*await _database(settings), *await _redis(settings), *await blobs.examine(settings.blob_store)]


async def _database(settings: Settings) -> list[Finding]:
    settings = settings.model_copy(update={"webhook_allow": deployment.webhook_allow(settings)})
    try:
        store = Database(deployment.database_url(settings), pool_size=2)
    except NotFoundHere as error:
        return [trouble("database", str(error), _START)]
    found: list[Finding] = []
    try:
        found += await database.examine(store)
        found += await work.examine(store, settings.lease_seconds)
        found += await egress.examine(store, settings, deployment.secret_key(settings))
    except ProgrammingError as error:
        # A schema of another release, which has been found, may lack what was asked for.
        if not any(finding.check == "schema" and finding.level is not Level.OK for finding in found):
            reason = str(error.orig).splitlines()[0]
            found.append(trouble("database", f"It cannot be read: {reason}", _OWNER))
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        reason = str(error.orig if isinstance(error, OperationalError) else error).splitlines()[0]
        found.append(trouble("database", f"It does not answer: {reason}", _START))
    finally:
        await store.close()
    return found


async def _redis(settings: Settings) -> list[Finding]:
    try:
        return await redis.examine(deployment.redis_url(settings), settings.redis_prefix)
    except NotFoundHere as error:
        return [trouble("redis", str(error), "Start it, and set REDIS_URL.")]
    except (RedisError, OSError) as error:
        return [redis.silent(error)]
