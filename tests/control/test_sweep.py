"""What goes from the blob store, and what stays."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from control import sweep
from jobs import files, ids, uploads
from jobs.blobs import Blobs
from jobs.database import Database
from jobs.files import NewFile, StoredFile
from jobs.uploads import NewUpload, Upload
from tests.jobs.ledger import rows, value


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path))


async def put(blobs: Blobs, key: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}\n"

    await blobs.put(key, chunks())


async def new_file(database: Database, blobs: Blobs) -> StoredFile:
    file_id = ids.new()
    await put(blobs, files.blob_key(file_id))
    return await files.create(database, NewFile(file_id, 1, "batch", "a", 3, files.blob_key(file_id), 3600))


async def new_upload(database: Database, blobs: Blobs) -> Upload:
    upload = await uploads.create(database, NewUpload(ids.new(), 1, "batch", "a", "text/plain", 3, None))
    part_id = ids.new()
    await put(blobs, uploads.blob_key(part_id))
    await uploads.add_part(database, 1, upload.id, part_id, 3)
    return upload


async def reading(database: Database, file_id: UUID) -> None:
    """A batch that has still to read this file."""
    await rows(
        database,
        "INSERT INTO batches (id, tenant_id, endpoint, input_file_id, completion_window, expires_at)"
        " VALUES (%s, 1, '/v1/completions', %s, '24h', now() + interval '1 day')",
        ids.new(),
        file_id,
    )


def left(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.rglob("*") if path.is_file()}


async def test_files_that_are_deleted_or_expired_go_with_their_blobs(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    stays, deleted, expired = [await new_file(database, blobs) for _ in range(3)]
    await files.delete(database, 1, deleted.id)
    await rows(database, "UPDATE files SET expires_at = now() WHERE id = %s", expired.id)
    assert await sweep.run(database, blobs) == 0, "somebody may have found them just before"
    assert await sweep.run(database, blobs, grace_seconds=0) == 2
    assert left(tmp_path) == {stays.blob}
    assert await value(database, "SELECT array_agg(id) FROM files") == [stays.id]


async def test_a_file_that_a_batch_has_still_to_read_stays_until_it_did(
    database: Database, blobs: Blobs, tmp_path: Path
) -> None:
    file = await new_file(database, blobs)
    await reading(database, file.id)
    await files.delete(database, 1, file.id)
    assert await sweep.run(database, blobs, grace_seconds=0) == 0
    assert left(tmp_path) == {file.blob}
    await rows(database, "UPDATE batches SET status = 'in_progress'")
    assert await sweep.run(database, blobs, grace_seconds=0) == 1
    assert left(tmp_path) == set()


async def test_a_sweep_that_was_broken_off_is_done_again(database: Database, blobs: Blobs) -> None:
    file = await new_file(database, blobs)
    await files.delete(database, 1, file.id)
    await blobs.delete([file.blob])
    assert await sweep.run(database, blobs, grace_seconds=0) == 1
    assert await value(database, "SELECT count(*) FROM files") == 0


async def test_parts_go_with_the_end_of_their_upload(database: Database, blobs: Blobs, tmp_path: Path) -> None:
    going_on, cancelled, expired = [await new_upload(database, blobs) for _ in range(3)]
    await uploads.cancel(database, 1, cancelled.id)
    await rows(database, "UPDATE uploads SET expires_at = now() WHERE id = %s", expired.id)
    assert await sweep.run(database, blobs) == 2
    [part_id] = [row.id for row in await rows(database, "SELECT id FROM upload_parts")]
    assert left(tmp_path) == {uploads.blob_key(part_id)}
    assert await uploads.pending(database, 1, going_on.id) == going_on


async def test_an_upload_of_yesterday_goes(database: Database, blobs: Blobs, tmp_path: Path) -> None:
    await new_upload(database, blobs)
    await rows(database, "UPDATE uploads SET expires_at = now() - interval '25 hours'")
    assert await sweep.run(database, blobs) == 2
    assert left(tmp_path) == set()
    assert await value(database, "SELECT count(*) FROM uploads") == 0
