"""Uploads as rows and blobs: which state allows what, whoever comes at the same moment."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from jobs import files, ids, uploads
from jobs.blobs import Blobs
from jobs.database import Database
from jobs.errors import BadRequest, NotFound
from jobs.uploads import NewUpload, Upload, UploadStatus
from tests.jobs.ledger import rows, value


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path))


async def begun(database: Database, size: int, **fields: Any) -> Upload:
    plain: dict[str, Any] = {
        "id": ids.new(),
        "tenant_id": 1,
        "purpose": "user_data",
        "filename": "a",
        "mime_type": "text/plain",
        "bytes": size,
        "file_expires_seconds": None,
    }
    return await uploads.create(database, NewUpload(**plain | fields))


async def part(database: Database, blobs: Blobs, upload: Upload, data: bytes) -> UUID:
    async def chunks() -> AsyncIterator[bytes]:
        yield data

    part_id = ids.new()
    size = await blobs.put(uploads.blob_key(part_id), chunks())
    return (await uploads.add_part(database, 1, upload.id, part_id, size)).id


async def test_parts_become_the_file_that_was_announced(database: Database, blobs: Blobs) -> None:
    upload = await begun(database, 4, file_expires_seconds=3600)
    assert (upload.expires_at - upload.created_at).total_seconds() == 3600
    first, second = [await part(database, blobs, upload, data) for data in (b"cd", b"ab")]
    completed, file = await uploads.complete(database, blobs, upload, [second, first])
    assert completed.status is UploadStatus.COMPLETED
    assert file == await files.get(database, 1, file.id)
    assert (file.filename, file.bytes) == ("a", 4)
    assert file.expires_at and (file.expires_at - file.created_at).total_seconds() == 3600
    assert b"".join([chunk async for chunk in blobs.read(file.blob)]) == b"abcd"
    assert await value(database, "SELECT file_id FROM uploads") == file.id


async def test_an_upload_ends_once(database: Database, blobs: Blobs) -> None:
    for _ in range(5):
        upload = await begun(database, 1)
        only = await part(database, blobs, upload, b"a")
        ends = await asyncio.gather(
            uploads.complete(database, blobs, upload, [only]),
            uploads.complete(database, blobs, upload, [only]),
            uploads.cancel(database, 1, upload.id),
            return_exceptions=True,
        )
        assert [type(end) for end in ends].count(BadRequest) == 2


async def test_an_upload_whose_parts_were_swept_says_how_it_ended(database: Database, blobs: Blobs) -> None:
    upload = await begun(database, 1)
    only = await part(database, blobs, upload, b"a")
    await uploads.cancel(database, 1, upload.id)
    await blobs.delete([uploads.blob_key(only)])
    with pytest.raises(BadRequest, match="cancelled"):
        await uploads.complete(database, blobs, upload, [only])
    assert await value(database, "SELECT count(*) FROM files") == 0


async def test_a_part_of_an_upload_that_ended_meanwhile_is_refused(database: Database, blobs: Blobs) -> None:
    upload = await begun(database, 1)
    await uploads.cancel(database, 1, upload.id)
    with pytest.raises(BadRequest, match="cancelled"):
        await part(database, blobs, upload, b"a")
    with pytest.raises(NotFound):
        await uploads.add_part(database, 2, upload.id, ids.new(), 1)


async def test_an_upload_expires_with_its_hour(database: Database, blobs: Blobs) -> None:
    upload = await begun(database, 1)
    only = await part(database, blobs, upload, b"a")
    await rows(database, "UPDATE uploads SET expires_at = now()")
    for attempt in (
        uploads.pending(database, 1, upload.id),
        uploads.complete(database, blobs, upload, [only]),
        uploads.cancel(database, 1, upload.id),
    ):
        with pytest.raises(BadRequest, match="expired"):
            await attempt
    assert await value(database, "SELECT count(*) FROM files") == 0


async def test_leftovers_are_the_parts_of_uploads_that_ended(database: Database, blobs: Blobs) -> None:
    going_on, cancelled, completed, expired = [await begun(database, 1) for _ in range(4)]
    parts = {
        upload.id: await part(database, blobs, upload, b"a") for upload in (going_on, cancelled, completed, expired)
    }
    assert await uploads.leftovers(database) == []
    await uploads.cancel(database, 1, cancelled.id)
    await uploads.complete(database, blobs, completed, [parts[completed.id]])
    await rows(database, "UPDATE uploads SET expires_at = now() WHERE id = %s", expired.id)
    left = [parts[upload.id] for upload in (cancelled, completed, expired)]
    found = await uploads.leftovers(database)
    assert sorted(found) == sorted((part_id, uploads.blob_key(part_id)) for part_id in left)
    await uploads.forget_parts(database, left)
    assert await uploads.leftovers(database) == []


async def test_an_upload_says_for_a_day_how_it_ended(database: Database, blobs: Blobs) -> None:
    upload = await begun(database, 1)
    await part(database, blobs, upload, b"a")
    await rows(database, "UPDATE uploads SET expires_at = now() - interval '23 hours'")
    assert await uploads.forget(database) == 0
    await rows(database, "UPDATE uploads SET expires_at = now() - interval '25 hours'")
    assert await uploads.forget(database) == 0, "its parts are still there"
    await rows(database, "DELETE FROM upload_parts")
    assert await uploads.forget(database) == 1
    with pytest.raises(NotFound):
        await uploads.pending(database, 1, upload.id)
