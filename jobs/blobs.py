"""Bytes by URL: a folder, or a bucket of S3, GCS or Azure.

`obstore` does it, since its one wheel needs no other, and its calls are async, stream, send in parts and are the same
for all of these.
"""

import os
from asyncio import to_thread
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, from_url

from jobs.errors import Unavailable

_PATIENCE_SECONDS: Final = 30.0
_PART_BYTES: Final = 5 * 2**20
"""The least that S3 takes as a part; up to three are in memory."""
_PARTS_AT_ONCE: Final = 2
_CHUNK_BYTES: Final = 2**20
_log = structlog.get_logger()


class Blobs:
    """The blobs of a deployment; all its processes see the same.

    `url` is a path, `file:///path`, `s3://bucket/prefix`, `gs://...`, `az://...`; keys and endpoints come from the
    environment, by the names that the clouds' own tools have (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`...). A bucket
    needs a lifecycle rule that ends unfinished uploads after a day: a put that is broken off leaves one behind, which
    nobody sees.

    All methods raise Unavailable when the store does not answer, or refuses us.
    """

    def __init__(self, url: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        parts = urlsplit(url)
        self._folder: Path | None = None
        self._store: Any
        if parts.scheme in ("", "file"):
            self._folder = Path(unquote(parts.path) if parts.scheme else url).absolute()
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            self._store = LocalStore(self._folder, mkdir=True)
        else:
            self._store = from_url(
                url,
                client_options={"allow_http": True},
                retry_config={"retry_timeout": timedelta(seconds=patience_seconds)},
            )

    async def put(self, key: str, chunks: AsyncIterable[bytes]) -> int:
        """Store all of `chunks` and return how many bytes they were. Nothing is seen under `key` before it is done, or
        ever if `chunks` raises. About 16 MB are in memory at once."""
        # Not `put_async`: it would draw from `chunks` in a task of its own, which a cancelled caller leaves behind.
        writer = obstore.open_writer_async(self._store, key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)
        size = 0
        async for chunk in chunks:
            with _told():
                size += await writer.write(chunk)
        with _told():
            await writer.close()
            if self._folder is not None:
                await to_thread(_sync, self._folder / key)
        return size

    async def read(self, key: str, start: int = 0) -> AsyncIterator[bytes]:
        """What is stored from byte `start` on, in chunks of at most a megabyte.

        Raises:
            FileNotFoundError: nothing is.
        """
        size = await self.size(key)
        # By ranges, since a response left open while a slow reader dawdles is ended by the store.
        for lower in range(start, size, _CHUNK_BYTES):
            upper = min(lower + _CHUNK_BYTES, size)
            with _told():
                found = await obstore.get_range_async(self._store, key, start=lower, end=upper)
            yield bytes(found)

    async def size(self, key: str) -> int:
        """How many bytes are stored.

        Raises:
            FileNotFoundError: nothing is.
        """
        with _told():
            return (await obstore.head_async(self._store, key))["size"]

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove what is stored under these keys, if anything is."""
        for key in keys:
            with _told(), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, key)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        _log.warning("the blob store failed", error=str(error).partition("\n")[0])
        raise Unavailable("The file store is not available; try again.") from error


def _sync(path: Path) -> None:
    """On the disk for good, with its name: a row will say that it is there."""
    for each in (path, path.parent):
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
