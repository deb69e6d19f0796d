"""`/v1/files`: as OpenAI's own SDK and a plain client see it."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI

from jobs import ids, keys
from jobs.database import Database
from jobs.settings import Settings
from tests.api.conftest import Client, Key, client_of, served, url_of, value
from tests.until import until

LINES = b'{"custom_id": "a"}\n{"custom_id": "b"}\n'
NOBODY = ids.file_id(ids.new())
NOT_JSONL = "Invalid file format for Batch API. Must be .jsonl"
DAY = 86_400


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"file_limit_bytes": 3 * 2**20, "batch_file_limit_bytes": 2 * 2**20})


def form(content: bytes = LINES, name: str = "in.jsonl", **fields: str) -> dict[str, Any]:
    """The arguments of a request that uploads a file."""
    return {"files": {"file": (name, content)}, "data": {"purpose": "batch", **fields}}


async def uploaded(client: Client, content: bytes = LINES, name: str = "in.jsonl", **fields: str) -> dict[str, Any]:
    response = await client.post("/v1/files", **form(content, name, **fields))
    assert response.status_code == 200, response.text
    file: dict[str, Any] = response.json()
    return file


async def refused(client: Client, status: int = 400, **arguments: Any) -> dict[str, Any]:
    response = await client.post("/v1/files", **arguments)
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    return error


def blobs_in(settings: Settings) -> list[Path]:
    return [path for path in (settings.home / "blobs").rglob("*") if path.is_file()]


async def test_the_sdk_uploads_looks_lists_downloads_and_deletes(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(purpose="batch", file=("in.jsonl", LINES))
    assert (file.filename, file.purpose, file.status, file.bytes) == ("in.jsonl", "batch", "processed", len(LINES))
    assert file.expires_at == file.created_at + 30 * DAY
    assert await sdk.files.retrieve(file.id) == file
    assert [each.id async for each in sdk.files.list()] == [file.id]
    assert (await sdk.files.content(file.id)).content == LINES
    assert await sdk.files.wait_for_processing(file.id) == file
    assert (await sdk.files.delete(file.id)).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.files.retrieve(file.id)
    assert caught.value.body == {
        "message": f"No such File object: {file.id}",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }


async def test_the_sdk_sets_an_expiry_and_streams_a_download(sdk: AsyncOpenAI, tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 10_000)
    file = await sdk.files.create(
        purpose="user_data", file=path, expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    async with sdk.files.with_streaming_response.content(file.id) as response:
        assert response.headers["content-length"] == str(path.stat().st_size)
        assert b"".join([chunk async for chunk in response.iter_bytes()]) == path.read_bytes()


async def test_the_sdk_walks_the_pages(sdk: AsyncOpenAI) -> None:
    made = [(await sdk.files.create(purpose="batch", file=LINES)).id for _ in range(5)]
    assert [file.id async for file in sdk.files.list(limit=2)] == made[::-1]
    assert [file.id async for file in sdk.files.list(limit=2, order="asc")] == made
    assert [file.id async for file in sdk.files.list(after=made[1])] == [made[0]]


async def test_a_purpose_filters_the_list(client: Client) -> None:
    await uploaded(client)
    vision = await uploaded(client, purpose="vision")
    found = (await client.get("/v1/files", params={"purpose": "vision"})).json()
    assert found == {
        "object": "list",
        "data": [vision],
        "first_id": vision["id"],
        "last_id": vision["id"],
        "has_more": False,
    }
    nothing = (await client.get("/v1/files", params={"purpose": "evals"})).json()
    assert nothing == {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}


async def test_a_bad_page_is_refused_by_name(client: Client) -> None:
    for name, wrong in (("limit", "0"), ("limit", "10001"), ("order", "up"), ("after", "job_1"), ("purpose", "\0")):
        response = await client.get("/v1/files", params={name: wrong})
        assert (response.status_code, response.json()["error"]["param"]) == (400, name)
    assert (await client.get("/v1/files", params={"limit": "10000"})).status_code == 200


@pytest.mark.parametrize("name", ["in.jsonl", "upload", "a b.txt", "größe.jsonl", 'quo"te', "../../etc/passwd", ""])
async def test_a_batch_file_may_have_any_name(client: Client, name: str) -> None:
    file = await uploaded(client, name=name)
    response = await client.get(f"/v1/files/{file['id']}/content")
    assert response.content == LINES
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-length"] == str(len(LINES))
    assert response.headers["content-disposition"].startswith("attachment; filename")


async def test_a_name_beyond_ascii_is_kept(client: Client) -> None:
    file = await uploaded(client, name="größe.jsonl")
    assert file["filename"] == "größe.jsonl"
    disposition = (await client.get(f"/v1/files/{file['id']}/content")).headers["content-disposition"]
    assert disposition == "attachment; filename*=UTF-8''gr%C3%B6%C3%9Fe.jsonl"


async def test_the_file_may_stand_before_its_fields(client: Client) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + LINES + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="extra"; filename="b"\r\n\r\npassed over\r\n'
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--x--\r\n'
    )
    headers = {"Content-Type": 'multipart/form-data; boundary="x"'}
    response = await client.post("/v1/files", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert response.json()["bytes"] == len(LINES)


@pytest.mark.parametrize("content", [b"", b"\n{}", b"custom_id,body\n1,2", b"PK\x03\x04", b"{\n}", b"\xff\xfe"])
async def test_what_cannot_begin_a_batch_is_refused_and_leaves_nothing(
    client: Client, settings: Settings, database: Database, content: bytes
) -> None:
    error = await refused(client, **form(content))
    assert error == {"message": NOT_JSONL, "type": "invalid_request_error", "param": None, "code": None}
    assert await value(database, "SELECT count(*) FROM files") == 0
    assert blobs_in(settings) == []
    await uploaded(client, content, purpose="assistants")


@pytest.mark.parametrize("content", [b"{}", b"{}\r\n", b"\xef\xbb\xbf{}\n", b'{"a": "' + b"x" * 1_200_000])
async def test_what_only_validation_can_judge_is_taken(client: Client, content: bytes) -> None:
    assert (await uploaded(client, content))["bytes"] == len(content)


async def test_a_file_over_its_limit_is_refused_and_leaves_nothing(
    client: Client, settings: Settings, database: Database
) -> None:
    large = b"{}\n" * (2**20)
    assert len(large) > settings.batch_file_limit_bytes
    error = await refused(client, **form(large))
    assert error == {"message": "File is too large.", "type": "invalid_request_error", "param": None, "code": None}
    await uploaded(client, large, purpose="user_data")
    for purpose in ("batch", "user_data"):
        arguments = form(bytes(5 * 2**20), purpose=purpose)
        assert (await refused(client, 413, **arguments))["code"] == "request_too_large"
    assert (await refused(client, 413, **form(large + b"x", purpose="evals")))["param"] == "file"
    assert await value(database, "SELECT count(*) FROM files") == 1
    assert len(blobs_in(settings)) == 1


async def test_the_sdk_gets_the_413(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await sdk.files.create(purpose="user_data", file=bytes(16 * 2**20))
    assert caught.value.status_code == 413


async def test_a_fault_in_a_field_names_it(client: Client, settings: Settings) -> None:
    error = await refused(client, **form(purpose="x"))
    assert error["message"] == (
        "'x' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', 'evals'] - 'purpose'"
    )
    assert (error["param"], error["code"]) == ("purpose", None)
    assert (await refused(client, files={"file": LINES}))["param"] == "purpose"
    assert (await refused(client, files={"purpose": (None, "batch")}))["param"] == "file"
    anchor, seconds = "expires_after[anchor]", "expires_after[seconds]"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({anchor: "now", seconds: "3600"}, "expires_after.anchor"),
        ({seconds: "3600"}, "expires_after.anchor"),
        ({anchor: "created_at"}, "expires_after.seconds"),
        ({anchor: "created_at", seconds: "3599"}, "expires_after.seconds"),
        ({anchor: "created_at", seconds: "2592001"}, "expires_after.seconds"),
        ({anchor: "created_at", seconds: "1e4"}, "expires_after.seconds"),
        ({anchor: "created_at", seconds: "9" * 5000}, "expires_after.seconds"),
    ]
    for fields, param in wrong:
        assert (await refused(client, **form(**fields)))["param"] == param
    assert (await refused(client, **form(name="a" * 1025)))["param"] == "file"
    assert blobs_in(settings) == []


async def test_what_is_no_form_is_refused(client: Client) -> None:
    await refused(client, 415, json={"purpose": "batch"})
    headers = {"Content-Type": "multipart/form-data"}
    await refused(client, 415, content=b"", headers=headers)
    headers["Content-Type"] += "; boundary=x"
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for content in (b"", b"hello", head, head + LINES, head + LINES + b"\r\n--x\r\n", b"--x\r\n" + b"a" * 5000):
        assert (await refused(client, content=content, headers=headers))["code"] == "invalid_multipart"
    assert (await refused(client, **form(more="a" * 70_000)))["code"] == "invalid_multipart"
    many: dict[str, Any] = {f"f{n}": "" for n in range(70)}
    assert (await refused(client, **form(**many)))["code"] == "invalid_multipart"


async def test_another_tenants_file_does_not_exist(client: Client, app: FastAPI, database: Database) -> None:
    file = await uploaded(client)
    async with client_of(app, await keys.create(database, "other", "test")) as other:
        for response in (
            await other.get(f"/v1/files/{file['id']}"),
            await other.get(f"/v1/files/{file['id']}/content"),
            await other.delete(f"/v1/files/{file['id']}"),
        ):
            assert response.status_code == 404
            assert response.json()["error"]["message"] == f"No such File object: {file['id']}"
        assert (await other.get("/v1/files")).json()["data"] == []
    assert (await client.get(f"/v1/files/{file['id']}")).json() == file


async def test_without_a_key_nothing_is_stored(app: FastAPI, settings: Settings) -> None:
    async with client_of(app) as stranger:
        await refused(stranger, 401, **form())
    assert blobs_in(settings) == []


@pytest.mark.parametrize("change", ["deleted_at = now()", "expires_at = now()"])
async def test_a_file_that_is_gone_is_hidden_everywhere(client: Client, database: Database, change: str) -> None:
    file = await uploaded(client)
    await value(database, f"UPDATE files SET {change} RETURNING 1")
    path = f"/v1/files/{file['id']}"
    for response in (await client.get(path), await client.get(f"{path}/content"), await client.delete(path)):
        assert response.status_code == 404
    assert (await client.get("/v1/files")).json()["data"] == []


async def test_an_unknown_file_does_not_exist(client: Client) -> None:
    for name in (NOBODY, "file-1", "job_" + NOBODY[5:], "x"):
        for path in (f"/v1/files/{name}", f"/v1/files/{name}/content"):
            response = await client.get(path)
            assert response.status_code == 404
            assert response.json()["error"]["message"] == f"No such File object: {name}"


async def test_a_key_stands_for_one_file(client: Client, settings: Settings) -> None:
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
    first = await client.post("/v1/files", **form(), **keyed)
    again = await client.post("/v1/files", **form(), **keyed)
    assert again.json() == first.json()
    for other in (form(LINES + b"{}"), form(name="other"), form(purpose="evals")):
        error = await refused(client, 422, **other, **keyed)
        assert error["code"] == "idempotency_key_reused"
    assert len(blobs_in(settings)) == 1
    assert (await refused(client, **form(), headers={"Idempotency-Key": ""}))["param"] == "Idempotency-Key"


async def test_a_key_sent_many_times_at_once_makes_one_file(client: Client, settings: Settings) -> None:
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
    responses = await asyncio.gather(*(client.post("/v1/files", **form(), **keyed) for _ in range(8)))
    assert len({response.json()["id"] for response in responses}) == 1
    assert len(blobs_in(settings)) == 1


async def test_the_key_of_a_file_that_is_gone_is_free(client: Client) -> None:
    keyed: dict[str, Any] = {"headers": {"Idempotency-Key": "k"}}
    first = (await client.post("/v1/files", **form(), **keyed)).json()
    await client.delete(f"/v1/files/{first['id']}")
    second = (await client.post("/v1/files", **form(b"{}"), **keyed)).json()
    assert second["id"] != first["id"]
    assert (await client.post("/v1/files", **form(b"{}"), **keyed)).json() == second


async def test_a_client_that_goes_away_leaves_nothing(
    app: FastAPI, key: Key, settings: Settings, database: Database
) -> None:
    async with served(app) as server:
        port = int(url_of(server).rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 3000000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n'.encode()
            + b"{}\n" * 500_000
        )
        await writer.drain()
        await until(lambda: bool(server.server_state.tasks))
        writer.close()
        await until(lambda: not server.server_state.tasks)
    assert blobs_in(settings) == []
    assert await value(database, "SELECT count(*) FROM files") == 0


async def test_a_download_that_is_broken_off_ends(app: FastAPI, key: Key) -> None:
    async with served(app) as server, AsyncOpenAI(base_url=f"{url_of(server)}/v1", api_key=key) as sdk:
        file = await sdk.files.create(purpose="user_data", file=bytes(3 * 2**20))
        async with sdk.files.with_streaming_response.content(file.id) as response:
            await anext(response.iter_bytes())
        await until(lambda: not server.server_state.tasks)
        assert len((await sdk.files.content(file.id)).content) == file.bytes


async def test_streams_hold_no_connection_of_the_database(
    settings: Settings, app: FastAPI, client: Client, database: Database
) -> None:
    """More uploads in flight than the pool has connections, and still the others are answered."""
    going_on = asyncio.Event()
    begun = 0

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal begun
        yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n{}\n'
        begun += 1
        await going_on.wait()
        yield b"{}\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    many = settings.pool_size + 2
    posts = [asyncio.create_task(client.post("/v1/files", content=slowly(), headers=headers)) for _ in range(many)]
    await until(lambda: begun == many)
    assert (await client.get("/v1/files")).status_code == 200
    assert app.state.parts.database.engine.pool.checkedout() <= 1, "the one that is always at hand"
    going_on.set()
    assert {response.status_code for response in await asyncio.gather(*posts)} == {200}


async def test_a_blob_that_was_swept_is_no_download(client: Client, settings: Settings) -> None:
    file = await uploaded(client)
    [blob] = blobs_in(settings)
    blob.unlink()
    assert (await client.get(f"/v1/files/{file['id']}/content")).status_code == 404


async def test_a_file_object_of_io_is_uploaded_as_it_is(sdk: AsyncOpenAI) -> None:
    file = await sdk.files.create(purpose="batch", file=io.BytesIO(LINES))
    assert (await sdk.files.content(file.id)).text == LINES.decode()
