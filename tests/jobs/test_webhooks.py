"""Endpoints and the secrets that sign for them."""

from uuid import UUID

import pytest

from jobs import ids, webhooks
from jobs.database import Database
from jobs.errors import BadRequest, NotFound
from jobs.secrets import NoSecretKey, Vault
from jobs.webhooks import Changes
from tests.jobs.hooks import VAULT, endpoint
from tests.jobs.ledger import rows, value


async def secrets(database: Database, endpoint_id: UUID | None = None) -> list[str]:
    """Those that sign now, oldest first."""
    found = await rows(
        database,
        "SELECT secret FROM webhook_secrets WHERE endpoint_id IS NOT DISTINCT FROM %s"
        " AND (expires_at IS NULL OR expires_at > now()) ORDER BY id",
        endpoint_id,
    )
    return [VAULT.open(bytes(row.secret)) for row in found]


async def test_an_endpoint_is_found_as_it_was_made(database: Database) -> None:
    made, secret = await endpoint(database, "batch.completed", "job.failed", headers={"Authorization": "Bearer x"})
    assert made == await webhooks.get(database, 1, made.id)
    assert made.event_types == ("batch.completed", "job.failed")
    assert made.header_names == ("Authorization",)
    assert secret.startswith("whsec_") and secret.endswith(made.secret_hint) and len(made.secret_hint) == 4


async def test_secrets_and_headers_are_stored_encrypted(database: Database) -> None:
    _, secret = await endpoint(database, "batch.completed", headers={"Authorization": "Bearer hidden"})
    stored = await value(database, "SELECT w::text || s::text FROM webhook_endpoints w, webhook_secrets s")
    for hidden in (secret, "hidden", secret.encode().hex(), b"hidden".hex()):
        assert hidden not in stored


async def test_a_server_without_a_key_makes_none(database: Database) -> None:
    with pytest.raises(NoSecretKey):
        await webhooks.create(database, Vault(""), 1, name="x", url="https://example.com", event_types=["job.failed"])


async def test_a_tenant_has_no_more_endpoints_than_the_end_of_a_job_can_tell(database: Database) -> None:
    other = await value(database, "INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    for _ in range(webhooks.MOST):
        made, _ = await endpoint(database, "job.failed")
    with pytest.raises(BadRequest, match="250 webhook endpoints"):
        await endpoint(database, "job.failed")
    await endpoint(database, "job.failed", tenant=other)
    await webhooks.delete(database, 1, made.id)
    await endpoint(database, "job.failed")


async def test_another_tenants_endpoint_does_not_exist(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed")
    for attempt in (
        webhooks.get(database, 2, made.id),
        webhooks.update(database, VAULT, 2, made.id, Changes(name="x")),
        webhooks.rotate(database, VAULT, 2, made.id),
        webhooks.delete(database, 2, made.id),
    ):
        with pytest.raises(NotFound, match=ids.endpoint_id(made.id)):
            await attempt
    assert await webhooks.page(database, 2, limit=10) == []


async def test_pages_go_from_the_newest_on(database: Database) -> None:
    made = [(await endpoint(database, "job.failed", name=str(number)))[0] for number in range(3)]
    first = await webhooks.page(database, 1, limit=2)
    assert first == [made[2], made[1]]
    assert await webhooks.page(database, 1, limit=2, after=first[-1].id) == [made[0]]


async def test_an_update_changes_what_it_names_only(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed", headers={"X-A": "1"})
    changed = await webhooks.update(database, VAULT, 1, made.id, Changes(name="new", event_types=["job.completed"]))
    assert (changed.name, changed.event_types, changed.header_names) == ("new", ("job.completed",), ("X-A",))
    assert (changed.url, changed.secret_hint) == (made.url, made.secret_hint)
    assert changed.updated_at > made.updated_at
    assert (await webhooks.update(database, VAULT, 1, made.id, Changes(headers={}))).header_names == ()


async def test_an_update_that_changes_nothing_leaves_no_trace(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed")
    same = Changes(name=made.name, url=made.url, event_types=["job.failed"], headers={}, disabled=False)
    assert await webhooks.update(database, VAULT, 1, made.id, same) == made
    for changes in (Changes(url="https://example.org"), Changes(headers={"X-A": "1"}), Changes(disabled=True)):
        changed = await webhooks.update(database, VAULT, 1, made.id, changes)
        assert changed.updated_at > made.updated_at
        made = changed


async def test_who_is_enabled_again_begins_with_a_clean_record(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed")
    off = await webhooks.update(database, VAULT, 1, made.id, Changes(disabled=True))
    assert off.disabled_at is not None and off.disabled_reason == "by its owner"
    await rows(database, "UPDATE webhook_endpoints SET failing_since = now()")
    on = await webhooks.update(database, VAULT, 1, made.id, Changes(disabled=False))
    assert (on.disabled_at, on.disabled_reason, on.failing_since) == (None, None, None)


async def test_a_new_secret_replaces_the_old_one(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed")
    rotated, secret = await webhooks.rotate(database, VAULT, 1, made.id)
    assert await secrets(database, made.id) == [secret]
    assert secret.endswith(rotated.secret_hint) and rotated.updated_at > made.updated_at


async def test_on_request_the_old_secret_signs_for_a_day_more(database: Database) -> None:
    made, first = await endpoint(database, "job.failed")
    _, second = await webhooks.rotate(database, VAULT, 1, made.id, keep_old=True)
    _, third = await webhooks.rotate(database, VAULT, 1, made.id, keep_old=True)
    assert await secrets(database, made.id) == [first, second, third]
    await rows(database, "UPDATE webhook_secrets SET expires_at = expires_at - interval '24 hours'")
    assert await secrets(database, made.id) == [third]
    _, fourth = await webhooks.rotate(database, VAULT, 1, made.id)
    assert await secrets(database, made.id) == [fourth]
    assert await value(database, "SELECT count(*) FROM webhook_secrets") == 1


async def test_a_tenant_has_a_default_secret_once_it_asked_for_one(database: Database) -> None:
    assert not await webhooks.has_default(database, 1)
    first = await webhooks.rotate_default(database, VAULT, "default")
    assert await webhooks.has_default(database, 1)
    second = await webhooks.rotate_default(database, VAULT, "default", keep_old=True)
    assert await secrets(database) == [first, second]
    with pytest.raises(NotFound, match="nobody"):
        await webhooks.rotate_default(database, VAULT, "nobody")


async def test_a_default_secret_is_made_where_there_is_none_and_known_to_who_holds_it(database: Database) -> None:
    made = await webhooks.make_default(database, VAULT, "default", "")
    assert made is not None
    assert await webhooks.make_default(database, VAULT, "default", made) == made
    assert await webhooks.make_default(database, VAULT, "default", "whsec_old") is None
    await webhooks.rotate_default(database, VAULT, "default", keep_old=True)
    assert await webhooks.make_default(database, VAULT, "default", made) is None


async def test_a_deleted_endpoint_is_gone_with_its_secrets(database: Database) -> None:
    made, _ = await endpoint(database, "job.failed")
    await webhooks.delete(database, 1, made.id)
    with pytest.raises(NotFound):
        await webhooks.get(database, 1, made.id)
    assert await secrets(database, made.id) == []
