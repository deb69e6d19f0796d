"""`/v1/uploads`: a file in parts, as OpenAI's own SDK and a plain client see it."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from jobs import ids, keys
from jobs.database import Database
from jobs.settings import Settings
from tests.api.conftest import Client, client_of, value

LINES = b"".join(b'{"custom_id": "%d"}\n' % number for number in range(300_000))
NOBODY = ids.upload_id(ids.new())
PART = 2**20


def wanted(size: int, **more: Any) -> dict[str, Any]:
    return {"bytes": size, "filename": "in.jsonl", "mime_type": "application/jsonl", "purpose": "batch", **more}


async def begun(client: Client, size: int, **more: Any) -> str:
    response = await client.post("/v1/uploads", json=wanted(size, **more))
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def part(client: Client, upload: str, data: bytes) -> str:
    response = await client.post(f"/v1/uploads/{upload}/parts", files={"data": ("upload", data)})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def completed(client: Client, upload: str, parts: list[str], **more: Any) -> dict[str, Any]:
    response = await client.post(f"/v1/uploads/{upload}/complete", json={"part_ids": parts, **more})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def refused(client: Client, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    response = await client.post(f"/v1/uploads{path}", json=body)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def blobs_in(settings: Settings, kind: str) -> list[Path]:
    return [path for path in (settings.home / "blobs" / kind).rglob("*") if path.is_file()]


async def test_the_sdks_own_helper_uploads_in_parts(sdk: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(LINES)
    upload = await sdk.uploads.upload_file_chunked(
        file=path,
        mime_type="application/jsonl",
        purpose="batch",
        part_size=PART,
        md5=hashlib.md5(LINES).hexdigest(),
    )
    assert upload.status == "completed"
    assert upload.file
    assert (upload.file.filename, upload.file.bytes, upload.file.purpose) == ("in.jsonl", len(LINES), "batch")
    assert upload.file.expires_at == upload.file.created_at + 30 * 86_400
    assert (await sdk.files.content(upload.file.id)).content == LINES


async def test_the_sdk_begins_and_cancels(sdk: AsyncOpenAI) -> None:
    upload = await sdk.uploads.create(bytes=9, filename="a", mime_type="text/plain", purpose="assistants")
    assert (upload.status, upload.bytes, upload.filename, upload.purpose) == ("pending", 9, "a", "assistants")
    assert upload.expires_at == upload.created_at + 3600
    assert upload.file is None
    data = await sdk.uploads.parts.create(upload.id, data=b"x")
    assert (data.object, data.upload_id) == ("upload.part", upload.id)
    for _ in range(2):
        assert (await sdk.uploads.cancel(upload.id)).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        await sdk.uploads.parts.create(upload.id, data=b"x")


async def test_parts_come_in_parallel_and_are_joined_in_the_order_named(client: Client, settings: Settings) -> None:
    pieces = [LINES[start : start + PART] for start in range(0, len(LINES), PART)]
    upload = await begun(client, len(LINES), expires_after={"anchor": "created_at", "seconds": 7200})
    backwards = await asyncio.gather(*(part(client, upload, piece) for piece in pieces[::-1]))
    unused = await part(client, upload, b"unused")
    assert unused not in backwards
    done = await completed(client, upload, backwards[::-1], md5=hashlib.md5(LINES).hexdigest().upper())
    assert done["object"] == "upload"
    assert done["status"] == "completed"
    file = done["file"]
    assert file["expires_at"] == file["created_at"] + 7200
    assert (await client.get(f"/v1/files/{file['id']}/content")).content == LINES
    assert (await client.get("/v1/files")).json()["data"] == [file]
    assert len(blobs_in(settings, "files")) == 1


async def test_one_of_several_completions_at_once_makes_the_file(
    client: Client, settings: Settings, database: Database
) -> None:
    upload = await begun(client, len(LINES))
    only = await part(client, upload, LINES)
    body = {"part_ids": [only]}
    responses = await asyncio.gather(*(client.post(f"/v1/uploads/{upload}/complete", json=body) for _ in range(5)))
    assert sorted(response.status_code for response in responses) == [200, 400, 400, 400, 400]
    assert "'completed'" in (await refused(client, f"/{upload}/complete", body))["message"]
    assert await value(database, "SELECT count(*) FROM files") == 1
    assert len(blobs_in(settings, "files")) == 1


async def test_what_does_not_add_up_makes_no_file_and_may_be_tried_again(client: Client, settings: Settings) -> None:
    upload = await begun(client, 6)
    first, second = [await part(client, upload, data) for data in (b"{}\n", b"{}\n")]
    elsewhere = await part(client, await begun(client, 3), b"{}\n")
    complete = f"/{upload}/complete"
    for ids_named in ([], [first], [first, first], [first, elsewhere], [first, upload], "x", [1], None, [first, None]):
        assert (await refused(client, complete, {"part_ids": ids_named}))["param"] == "part_ids"
    both = [first, second]
    for md5 in ("0" * 32, "", 5):
        assert (await refused(client, complete, {"part_ids": both, "md5": md5}))["param"] == "md5"
    assert blobs_in(settings, "files") == []
    assert (await completed(client, upload, both))["file"]["bytes"] == 6


async def test_a_batch_file_is_looked_at_here_too(client: Client, settings: Settings) -> None:
    for size, data in ((0, b""), (5, b"hello")):
        upload = await begun(client, size)
        parts = [await part(client, upload, data)]
        error = await refused(client, f"/{upload}/complete", {"part_ids": parts})
        assert error["message"] == "Invalid file format for Batch API. Must be .jsonl"
    assert blobs_in(settings, "files") == []
    upload = await begun(client, 0, purpose="user_data")
    assert (await completed(client, upload, []))["file"]["bytes"] == 0


@pytest.mark.parametrize("said", ["completed", "cancelled", "expired"])
async def test_an_upload_that_has_ended_takes_nothing(
    client: Client, settings: Settings, database: Database, said: str
) -> None:
    upload = await begun(client, 3)
    only = await part(client, upload, b"{}\n")
    if said == "completed":
        await completed(client, upload, [only])
    elif said == "cancelled":
        await client.post(f"/v1/uploads/{upload}/cancel")
    else:
        await value(database, "UPDATE uploads SET expires_at = now() RETURNING 1")
    message = f"The upload '{upload}' has ended: its status is '{said}'."
    response = await client.post(f"/v1/uploads/{upload}/parts", files={"data": b"x"})
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)
    assert (await refused(client, f"/{upload}/complete", {"part_ids": [only]}))["message"] == message
    if said != "cancelled":
        assert (await refused(client, f"/{upload}/cancel", None))["message"] == message
    assert len(blobs_in(settings, "parts")) == 1


async def test_a_cancellation_has_no_body(client: Client) -> None:
    upload = await begun(client, 3)
    headers = {"Content-Type": "application/json", "Content-Length": "0"}
    response = await client.post(f"/v1/uploads/{upload}/cancel", headers=headers)
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_nobody_elses_upload_exists(client: Client, app: FastAPI, database: Database) -> None:
    upload = await begun(client, 3)
    async with client_of(app, await keys.create(database, "other", "test")) as other:
        for asking, name in ((other, upload), (client, NOBODY), (client, "upload_1")):
            for response in (
                await asking.post(f"/v1/uploads/{name}/parts", files={"data": b"x"}),
                await asking.post(f"/v1/uploads/{name}/complete", json={"part_ids": []}),
                await asking.post(f"/v1/uploads/{name}/cancel"),
            ):
                assert response.status_code == 404
                assert response.json()["error"]["message"] == f"No such Upload object: {name}"


async def test_a_fault_in_a_field_names_it(client: Client, settings: Settings) -> None:
    for name in ("bytes", "filename", "mime_type", "purpose"):
        fields = wanted(3)
        del fields[name]
        error = await refused(client, "", fields)
        assert (error["param"], error["code"]) == (name, "missing_required_parameter")
    wrong: list[tuple[str, Any, str]] = [
        ("bytes", "3", "bytes"),
        ("bytes", True, "bytes"),
        ("bytes", -1, "bytes"),
        ("purpose", "batch_output", "purpose"),
        ("purpose", ["batch"], "purpose"),
        ("filename", 3, "filename"),
        ("filename", "\0", "filename"),
        ("mime_type", {}, "mime_type"),
        ("expires_after", 3600, "expires_after"),
        ("expires_after", {}, "expires_after.anchor"),
        ("expires_after", {"anchor": "created_at"}, "expires_after.seconds"),
        ("expires_after", {"anchor": "created_at", "seconds": 1.5}, "expires_after.seconds"),
    ]
    for name, found, param in wrong:
        assert (await refused(client, "", wanted(3) | {name: found}))["param"] == param
    await refused(client, "", [])
    limit = settings.batch_file_limit_bytes + 1
    assert (await refused(client, "", wanted(limit)))["message"] == "File is too large."
    limit = settings.file_limit_bytes + 1
    assert (await refused(client, "", wanted(limit, purpose="vision"), 413))["param"] == "bytes"


async def test_a_part_has_its_data_and_64_mb_at_most(client: Client, settings: Settings) -> None:
    upload = await begun(client, 3)
    path = f"/v1/uploads/{upload}/parts"
    response = await client.post(path, files={"file": b"x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "data")
    response = await client.post(path, files={"data": bytes(64 * 2**20 + 1)})
    assert (response.status_code, response.json()["error"]["param"]) == (413, "data")
    assert blobs_in(settings, "parts") == []
    await part(client, upload, bytes(64 * 2**20))
