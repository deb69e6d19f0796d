"""Looks at the blob store, by writing a little, reading it and deleting it again."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from obstore.exceptions import BaseError

from jobs.blobs import Blobs
from jobs.errors import Unavailable
from longhaul.doctor.finding import Finding, ok, trouble, warning

_PATIENCE_SECONDS: Final = 10.0
_PROBE: Final = b"longhaul doctor"
_ROOM_BYTES: Final = 2**30
_DO: Final = "Set BLOB_URL, and the keys that the cloud's own tools read, as the API and control have them."


async def examine(url: str, patience_seconds: float = _PATIENCE_SECONDS) -> list[Finding]:
    """Everything about it; a bucket has so long to answer."""
    folder = _folder(url)
    if folder is not None and not folder.is_dir():
        message = f"The folder {folder} is not there yet."
        return [warning("blobs", message, "It is made with the first file; if files were stored, BLOB_URL is wrong.")]
    key = f"doctor/{uuid4()}"
    try:
        blobs = Blobs(url, patience_seconds)
        await blobs.put(key, _chunks())
        read = b"".join([chunk async for chunk in blobs.read(key)])
        await blobs.delete([key])
    except (Unavailable, BaseError, OSError, ValueError) as error:
        reason = str(error.__cause__ or error).splitlines()[0].replace(url, _shown(url))
        return [trouble("blobs", f"Nothing can be stored at {_shown(url)}: {reason}", _DO)]
    if read != _PROBE:
        return [trouble("blobs", f"{_shown(url)} gives back other bytes than it got.", _DO)]
    return [ok("blobs", f"{_shown(url)} takes, gives and forgets."), *(_room(folder) if folder else ())]


def _room(folder: Path) -> Iterator[Finding]:
    left = shutil.disk_usage(folder).free
    if left < _ROOM_BYTES:
        message = f"There are {left / 2**20:.0f} MiB left on the disk of {folder}."
        yield warning("blobs", message, "Make room: batches stop where their results find none.")


def _folder(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path) if parts.scheme else url).absolute()


def _shown(url: str) -> str:
    """Without what may be a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}" if parts.scheme else url


async def _chunks() -> AsyncIterator[bytes]:
    yield _PROBE
