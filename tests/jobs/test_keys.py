"""API keys: whose they are, and what is shown of them."""

import asyncio
from uuid import UUID

import pytest

from jobs import keys
from jobs.database import Database
from jobs.errors import BadRequest, NotFound, Unauthorized, Unavailable


async def test_a_key_belongs_to_its_tenant(database: Database) -> None:
    ours = await keys.create(database, "acme", "ci")
    theirs = await keys.create(database, "globex", "ci")
    ring = keys.Keyring(database)
    assert ours.startswith("sk-lh-")
    assert (await ring.tenant(ours)).name == "acme"
    assert (await ring.tenant(theirs)).name == "globex"


async def test_two_keys_of_one_tenant_are_equal(database: Database) -> None:
    secrets = await asyncio.gather(*(keys.create(database, "acme", f"key {number}") for number in range(5)))
    ring = keys.Keyring(database)
    assert len({(await ring.tenant(secret)).id for secret in secrets}) == 1


async def test_an_unknown_key_is_nobodys(database: Database) -> None:
    ring = keys.Keyring(database)
    for secret in ("", "sk-lh-unknown", "ключ", "\udc80"):
        with pytest.raises(Unauthorized) as caught:
            await ring.tenant(secret)
        assert caught.value.code == "invalid_api_key"


async def test_a_revoked_key_is_refused_within_seconds(database: Database) -> None:
    secret = await keys.create(database, "acme", "ci")
    ring = keys.Keyring(database)
    await ring.tenant(secret)
    [key] = await keys.list_keys(database)
    await keys.revoke(database, key.id)
    await keys.revoke(database, key.id)
    with pytest.raises(Unauthorized):
        async with asyncio.timeout(10):
            while True:
                await ring.tenant(secret)
                await asyncio.sleep(0.05)


async def test_a_list_shows_the_end_of_a_key_and_no_more(database: Database) -> None:
    secret = await keys.create(database, "acme", "ci")
    [key] = await keys.list_keys(database)
    assert (key.tenant, key.name, key.hint, key.revoked_at) == ("acme", "ci", secret[-4:], None)
    async with database.transaction() as connection:
        [row] = await (await connection.execute("SELECT k::text FROM api_keys k")).fetchall()
    assert secret not in str(row)


async def test_many_requests_with_one_key_are_one_look(database: Database) -> None:
    secret = await keys.create(database, "acme", "ci")
    ring = keys.Keyring(database)
    assert len({await ring.tenant(secret) for _ in range(1000)}) == 1
    assert len(set(await asyncio.gather(*(ring.tenant(secret) for _ in range(1000))))) == 1


async def test_without_a_database_nobody_can_tell() -> None:
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(Unavailable):
        await keys.Keyring(nowhere).tenant("sk-lh-whatever")


async def test_only_what_exists_can_be_revoked(database: Database) -> None:
    await keys.create(database, "acme", "ci")
    with pytest.raises(NotFound):
        await keys.revoke(database, UUID(int=0))


async def test_a_tenant_must_be_readable(database: Database) -> None:
    for name in ("", "  ", "a\x00b", "line\nbreak"):
        with pytest.raises(BadRequest):
            await keys.create(database, name, "ci")


async def test_weight_and_pause_are_set_apart(database: Database) -> None:
    await keys.create(database, "acme", "ci")
    assert (await keys.set_tenant(database, "acme", weight=2.5)).weight == 2.5
    after = await keys.set_tenant(database, "acme", paused=True)
    assert (after.weight, after.paused) == (2.5, True)
    assert [tenant.name for tenant in await keys.list_tenants(database)] == ["default", "acme"]
    assert not (await keys.set_tenant(database, "acme", paused=False)).paused


async def test_a_weight_is_above_nothing_and_its_tenant_exists(database: Database) -> None:
    for weight in (0, -1, 1001, float("nan")):
        with pytest.raises(BadRequest):
            await keys.set_tenant(database, "default", weight=weight)
    with pytest.raises(NotFound):
        await keys.set_tenant(database, "nobody", weight=2)
