"""Removes the blobs of files that were deleted or expired, and of the parts of uploads that have ended; then their
rows, so that a sweep that is broken off is done again."""

from jobs import files, uploads
from jobs.blobs import Blobs
from jobs.database import Database


async def run(database: Database, blobs: Blobs, grace_seconds: float = 60) -> int:
    """Remove them all, files not before `grace_seconds` have passed; how many there were."""
    count = 0
    while found := await files.gone(database, grace_seconds):
        await blobs.delete(blob for _, blob in found)
        await files.forget(database, [file_id for file_id, _ in found])
        count += len(found)
    while found := await uploads.leftovers(database):
        await blobs.delete(blob for _, blob in found)
        await uploads.forget_parts(database, [part_id for part_id, _ in found])
        count += len(found)
    while forgotten := await uploads.forget(database):
        count += forgotten
    return count
