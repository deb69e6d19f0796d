"""Files as rows: what is hidden, what is kept, and whose idempotency key it was."""

from typing import Any
from uuid import UUID

import pytest

from jobs import files, ids
from jobs.database import Database
from jobs.errors import BadRequest, NotFound, Unprocessable
from jobs.files import Beginning, NewFile, StoredFile
from jobs.records import IdempotencyKey
from tests.jobs.ledger import rows, value

KEY = IdempotencyKey("k", b"sixteen bytes...")
OTHER_CONTENT = IdempotencyKey("k", b"sixteen others..")


def new_file(**fields: Any) -> NewFile:
    file_id = ids.new()
    plain: dict[str, Any] = {
        "id": file_id,
        "tenant_id": 1,
        "purpose": "batch",
        "filename": "in.jsonl",
        "bytes": 3,
        "blob": files.blob_key(file_id),
    }
    return NewFile(**plain | fields)


async def created(database: Database, **fields: Any) -> StoredFile:
    return await files.create(database, new_file(**fields))


async def expire(database: Database, file_id: UUID, seconds_ago: int = 0) -> None:
    await rows(
        database, "UPDATE files SET expires_at = now() - make_interval(secs => %s) WHERE id = %s", seconds_ago, file_id
    )


async def validating(database: Database, file_id: UUID) -> None:
    await rows(
        database,
        "INSERT INTO batches (id, tenant_id, endpoint, input_file_id, completion_window, expires_at)"
        " VALUES (%s, 1, '/v1/completions', %s, '24h', now() + interval '1 day')",
        ids.new(),
        file_id,
    )


async def test_a_file_is_found_as_it_was_made(database: Database) -> None:
    made = new_file(expires_seconds=3600)
    stored = await files.create(database, made)
    assert stored == await files.get(database, 1, made.id)
    assert (stored.filename, stored.bytes, stored.blob) == ("in.jsonl", 3, f"files/{made.id.hex}")
    assert stored.expires_at and (stored.expires_at - stored.created_at).total_seconds() == 3600
    assert (await created(database)).expires_at is None


def test_only_a_batchs_file_expires_by_itself() -> None:
    assert files.lifetime("batch", None) == 30 * 86_400
    assert files.lifetime("batch", 3600) == 3600
    assert files.lifetime("user_data", None) is None
    assert files.lifetime("batch_output", None) is None


async def test_a_page_goes_on_where_another_ended(database: Database) -> None:
    made = [await created(database, purpose=purpose) for purpose in ("batch", "vision", "batch", "batch")]
    gone = await created(database)
    await files.delete(database, 1, gone.id)
    expired = await created(database, expires_seconds=3600)
    await expire(database, expired.id)
    await rows(database, "INSERT INTO tenants (name) VALUES ('other')")
    await created(database, tenant_id=2)
    newest = await files.page(database, 1, limit=2)
    assert newest == [made[3], made[2]]
    assert await files.page(database, 1, limit=9, after=made[2].id) == [made[1], made[0]]
    assert await files.page(database, 1, limit=9, after=made[2].id, ascending=True) == [made[3]]
    assert await files.page(database, 1, limit=9, purpose="vision") == [made[1]]


async def test_a_deleted_file_is_hidden_at_once_and_kept_for_its_readers(database: Database) -> None:
    file = await created(database)
    await files.delete(database, 1, file.id)
    with pytest.raises(NotFound, match=f"No such File object: {ids.file_id(file.id)}"):
        await files.get(database, 1, file.id)
    with pytest.raises(NotFound):
        await files.delete(database, 1, file.id)
    assert await files.kept(database, 1, file.id) == file
    with pytest.raises(NotFound):
        await files.kept(database, 2, file.id)


async def test_what_is_deleted_or_expired_goes_after_the_grace(database: Database) -> None:
    stays, deleted, expired, just_now = [await created(database, expires_seconds=3600) for _ in range(4)]
    await files.delete(database, 1, deleted.id)
    await rows(database, "UPDATE files SET deleted_at = now() - interval '61 s' WHERE id = %s", deleted.id)
    await expire(database, expired.id, seconds_ago=61)
    await files.delete(database, 1, just_now.id)
    assert dict(await files.gone(database)) == {deleted.id: deleted.blob, expired.id: expired.blob}
    assert just_now.id in dict(await files.gone(database, grace_seconds=0))
    await files.forget(database, [deleted.id, expired.id])
    assert await files.gone(database) == []
    assert await files.get(database, 1, stays.id) == stays


async def test_a_file_stays_while_a_batch_has_still_to_read_it(database: Database) -> None:
    file, used = await created(database), await created(database)
    await validating(database, file.id)
    await validating(database, used.id)
    await rows(database, "UPDATE batches SET status = 'in_progress' WHERE input_file_id = %s", used.id)
    for each in (file, used):
        await files.delete(database, 1, each.id)
    assert await files.gone(database, grace_seconds=0) == [(used.id, used.blob)]
    await rows(database, "UPDATE batches SET status = 'failed'")
    assert {found for found, _ in await files.gone(database, grace_seconds=0)} == {file.id, used.id}


async def test_a_key_finds_the_file_that_took_it(database: Database) -> None:
    first = await files.create(database, new_file(), KEY)
    assert await files.create(database, new_file(), KEY) == first
    with pytest.raises(Unprocessable):
        await files.create(database, new_file(), OTHER_CONTENT)
    assert await value(database, "SELECT count(*) FROM files") == 1
    assert await value(database, "SELECT count(*) FROM idempotency WHERE kind = 'file'") == 1


@pytest.mark.parametrize("change", ["deleted_at = now()", "expires_at = now()"])
async def test_the_key_of_a_file_that_is_gone_may_stand_for_another(database: Database, change: str) -> None:
    await files.create(database, new_file(), KEY)
    await rows(database, f"UPDATE files SET {change}")
    second = await files.create(database, new_file(), OTHER_CONTENT)
    assert await files.create(database, new_file(), OTHER_CONTENT) == second


@pytest.mark.parametrize(
    "chunks", [(b"{}",), (b"{", b"}\n"), (b"{}\nnot JSON",), (b"\xef\xbb", b"\xbf{}\n"), (b"[]\r\n",)]
)
def test_a_first_line_of_json_begins_a_batch(chunks: tuple[bytes, ...]) -> None:
    beginning = Beginning()
    for chunk in chunks:
        beginning.add(chunk)
    beginning.check()


@pytest.mark.parametrize("chunks", [(), (b"",), (b"\n{}",), (b"{\n", b"}"), (b"a,b\n",), (b"\xff",), (b"[" * 100_000,)])
def test_anything_else_does_not(chunks: tuple[bytes, ...]) -> None:
    beginning = Beginning()
    for chunk in chunks:
        beginning.add(chunk)
    with pytest.raises(BadRequest, match=r"Must be \.jsonl"):
        beginning.check()
