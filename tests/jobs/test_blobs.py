"""Bytes go in and come out whole, in a folder and over the S3 protocol alike."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from jobs.blobs import Blobs
from jobs.errors import Unavailable

MEGABYTE = 2**20


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The endpoint of an S3 server with the bucket `bulk`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.put(f"{endpoint}/bulk").raise_for_status()
    yield endpoint
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    if request.param == "folder":
        return Blobs(str(tmp_path / "blobs"))
    point_at(request.getfixturevalue("s3"), monkeypatch)
    return Blobs(f"s3://bulk/{tmp_path.name}")


def point_at(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def whole(blobs: Blobs, key: str, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(key, start)])


async def exists(blobs: Blobs, key: str) -> bool:
    try:
        return await blobs.size(key) >= 0
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("sizes", [(), (0,), (1,), (3, 0, 4), (MEGABYTE,) * 12, (13 * MEGABYTE + 1,)])
async def test_what_is_put_is_read_from_any_byte_on(blobs: Blobs, sizes: tuple[int, ...]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    content = b"".join(chunks)
    assert await blobs.put("files/a", pieces(*chunks)) == len(content)
    assert await blobs.size("files/a") == len(content)
    assert await whole(blobs, "files/a") == content
    for start in (1, 5 * MEGABYTE + 1, len(content), len(content) + 1):
        assert await whole(blobs, "files/a", start) == content[start:]


async def test_chunks_have_a_megabyte_at_most(blobs: Blobs) -> None:
    await blobs.put("files/a", pieces(bytes(6 * MEGABYTE + 1)))
    assert [len(chunk) async for chunk in blobs.read("files/a")] == [MEGABYTE] * 6 + [1]


async def test_a_key_that_is_put_again_has_the_new_bytes(blobs: Blobs) -> None:
    await blobs.put("files/a", pieces(b"old and longer"))
    await blobs.put("files/a", pieces(b"new"))
    assert await whole(blobs, "files/a") == b"new"


async def test_nothing_is_seen_of_a_put_whose_source_fails(blobs: Blobs) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(12 * MEGABYTE)
        assert not await exists(blobs, "files/a")
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        await blobs.put("files/a", broken())
    assert not await exists(blobs, "files/a")


async def test_nothing_is_seen_of_a_put_that_is_cancelled(blobs: Blobs) -> None:
    waiting = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(12 * MEGABYTE)
        waiting.set()
        await asyncio.Event().wait()

    put = asyncio.create_task(blobs.put("files/a", endless()))
    await waiting.wait()
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert not await exists(blobs, "files/a")


async def test_what_is_not_there_is_said_so_and_deleted_in_peace(blobs: Blobs) -> None:
    with pytest.raises(FileNotFoundError):
        await whole(blobs, "files/nothing")
    with pytest.raises(FileNotFoundError):
        await blobs.size("files/nothing")
    await blobs.put("files/a", pieces(b"a"))
    await blobs.put("files/b", pieces(b"b"))
    await blobs.delete(["files/nothing", "files/a", "files/b"])
    assert not await exists(blobs, "files/a")
    assert not await exists(blobs, "files/b")


async def test_two_prefixes_of_a_bucket_share_nothing(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point_at(s3, monkeypatch)
    await Blobs("s3://bulk/one").put("files/a", pieces(b"a"))
    assert not await exists(Blobs("s3://bulk/two"), "files/a")


async def test_a_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    point_at("http://127.0.0.1:9", monkeypatch)
    blobs = Blobs("s3://bulk", patience_seconds=0.1)
    with pytest.raises(Unavailable):
        await blobs.put("files/a", pieces(b"a"))
    with pytest.raises(Unavailable):
        await blobs.size("files/a")


async def test_a_folder_is_named_by_path_or_by_url_and_is_its_owners(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    await Blobs(str(folder)).put("files/a", pieces(b"a"))
    assert await whole(Blobs(folder.as_uri()), "files/a") == b"a"
    assert (folder / "files" / "a").read_bytes() == b"a"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (folder / "files").iterdir()] == ["a"]
