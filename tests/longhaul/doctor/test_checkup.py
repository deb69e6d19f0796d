"""The whole look, and the command."""

import json
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit, urlunsplit

import pytest
from typer.testing import Result

from jobs.database import Database
from jobs.settings import Settings
from longhaul.doctor import checkup
from longhaul.doctor.finding import Level
from tests.jobs.ledger import rows
from tests.longhaul.doctor.conftest import faults, said


async def test_every_place_is_looked_at(settings: Settings) -> None:
    checks = {finding.check for finding in await checkup.examine(settings)}
    assert checks >= {
        "versions",
        "schema",
        "clock",
        "redis policy",
        "redis persistence",
        "queues",
        "workers",
        "webhooks",
        "webhook egress",
        "blobs",
    }


async def test_whatever_is_wrong_says_what_to_do(settings: Settings) -> None:
    found = await checkup.examine(settings)
    assert all(bool(finding.do) == (finding.level is not Level.OK) for finding in found)


async def test_without_a_database_the_rest_is_still_looked_at(settings: Settings) -> None:
    lost = settings.model_copy(update={"database_url": "postgresql+psycopg://x:secret@127.0.0.1:1/z"})
    found = await checkup.examine(lost)
    assert ("database", Level.TROUBLE) in faults(found)
    assert {"redis policy", "blobs"} <= {finding.check for finding in found}
    assert "secret" not in str(found)


async def test_without_redis_the_rest_is_still_looked_at(settings: Settings) -> None:
    found = await checkup.examine(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"}))
    assert ("redis", Level.TROUBLE) in faults(found)
    assert {"schema", "blobs"} <= {finding.check for finding in found}


async def test_a_schema_that_is_not_ours_is_one_finding_and_no_crash(settings: Settings, database: Database) -> None:
    await rows(database, "UPDATE alembic_version SET version_num = '0007'")
    await rows(database, "DROP TABLE webhook_secrets")  # and with it this database is used by no other test
    assert ("schema", Level.TROUBLE) in faults(await checkup.examine(settings))


@pytest.fixture
async def stranger(settings: Settings, database: Database) -> AsyncIterator[Settings]:
    """The same database, as a role that may connect and no more."""
    assert settings.database_url
    parts = urlsplit(settings.database_url)
    await rows(database, "CREATE ROLE stranger LOGIN PASSWORD 'strange'")
    _, _, server = parts.netloc.rpartition("@")
    url = urlunsplit(parts._replace(netloc=f"stranger:strange@{server}"))
    yield settings.model_copy(update={"database_url": url})
    await rows(database, "DROP OWNED BY stranger")
    await rows(database, "DROP ROLE stranger")


@pytest.mark.parametrize("granted", [(), ("alembic_version",)], ids=["nothing", "the schema alone"])
async def test_a_role_that_may_not_read_the_tables_is_trouble(
    stranger: Settings, database: Database, granted: tuple[str, ...]
) -> None:
    for table in granted:
        await rows(database, f"GRANT SELECT ON {table} TO stranger")
    found = await checkup.examine(stranger)
    assert ("database", Level.TROUBLE) in faults(found)
    assert "permission denied" in said(found, "database")
    assert {"redis policy", "blobs"} <= {finding.check for finding in found}


async def test_where_nothing_was_ever_set_up_it_says_how_to(settings: Settings) -> None:
    bare = settings.model_copy(update={"database_url": None, "redis_url": None})
    found = await checkup.examine(bare)
    assert faults(found)[:2] == [("database", Level.TROUBLE), ("redis", Level.TROUBLE)]
    assert "longhaul up" in found[0].says


def test_a_running_deployment_is_well(longhaul: Callable[..., Result]) -> None:
    result = longhaul("doctor")
    assert result.exit_code == 0, result.stdout
    assert "TROUBLE" not in result.stdout
    answer = json.loads(longhaul("doctor", "--json").stdout)
    assert answer["ok"] is True
    assert {"check", "level", "says", "do"} == answer["findings"][0].keys()


def test_trouble_ends_with_1(longhaul: Callable[..., Result]) -> None:
    result = longhaul("doctor", "--json", REDIS_URL="redis://127.0.0.1:1/0")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    [finding] = [finding for finding in answer["findings"] if finding["level"] == "trouble"]
    assert finding["check"] == "redis" and finding["do"]
