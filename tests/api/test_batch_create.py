"""`POST /v1/batches`: of a file or of inline requests, once for each key, and what is refused."""

import json
from typing import Any

import pytest

from jobs.database import Database
from jobs.endpoints import INFERENCE
from jobs.settings import Settings
from tests.api.batch_calls import FILE, asked, created, inline, lines_of
from tests.api.conftest import Client, Key, chat, client_of, running, value
from tests.jobs.batch_rows import CHAT

WRONG_WINDOWS: list[Any] = ["", "h", "0s", "24", "-1h", "1d", "721h", "2592001s", "024h", "1.5h", "24h ", "٣h", 24, []]
UNSET = (
    "model",
    "errors",
    "output_file_id",
    "error_file_id",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "usage",
    "metadata",
    "retry_of",
    "estimated_completion_at",
)
"""What a new batch has as null."""


async def test_a_new_batch_has_every_key_and_is_found(client: Client) -> None:
    batch = await created(client)
    assert batch == (await client.get(f"/v1/batches/{batch['id']}")).json()
    assert {name for name, value in batch.items() if value is None} == set(UNSET)
    assert {name: value for name, value in batch.items() if value is not None} == {
        "id": batch["id"],
        "object": "batch",
        "endpoint": CHAT,
        "input_file_id": FILE,
        "completion_window": "24h",
        "status": "validating",
        "created_at": batch["created_at"],
        "expires_at": batch["created_at"] + 86_400,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
    }


async def test_any_window_from_a_second_to_thirty_days_is_kept_as_it_is_spelled(client: Client) -> None:
    for window, seconds in [("1s", 1), ("90m", 5400), ("720h", 2_592_000), ("2592000s", 2_592_000)]:
        batch = await created(client, asked(completion_window=window))
        assert batch["completion_window"] == window
        assert batch["expires_at"] - batch["created_at"] == seconds


async def test_metadata_and_expiry_of_the_results_are_kept(client: Client, database: Database) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    batch = await created(client, asked(metadata={"a": "b"}, output_expires_after=expiry))
    assert batch["metadata"] == {"a": "b"}
    assert await value(database, "SELECT output_expires_s FROM batches") == 3600
    assert (await created(client, asked(metadata=None, output_expires_after=None)))["metadata"] is None


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (
            asked(input_file_id=None),
            "input_file_id",
            "missing_required_parameter",
            "Missing required parameter: 'input",
        ),
        ({}, "input_file_id", "missing_required_parameter", "Missing required parameter: 'input_file_id'."),
        ({"input_file_id": FILE}, "endpoint", "missing_required_parameter", "Missing required parameter: 'endpoint'."),
        (asked(completion_window=None), "completion_window", "missing_required_parameter", "Missing required"),
        (asked(input_file_id=3), "input_file_id", "invalid_type", "expected a string"),
        (asked(endpoint="/v1/x"), "endpoint", "invalid_value", "Invalid value: '/v1/x'. Supported values are: '"),
        (asked(endpoint=[]), "endpoint", "invalid_value", "Invalid value"),
        *(
            (asked(completion_window=window), "completion_window", "invalid_value", "Invalid value: '")
            for window in WRONG_WINDOWS
        ),
        (asked(metadata=[]), "metadata", "invalid_type", "Invalid type for 'metadata'"),
        (
            asked(metadata={"tags": []}),
            "metadata.tags",
            "invalid_type",
            "Invalid type for 'metadata.tags': expected a s",
        ),
        (asked(metadata={str(n): "" for n in range(17)}), "metadata", "object_above_max_properties", "but got 17"),
        (asked(metadata={"a": "x" * 513}), "metadata.a", "string_above_max_length", "512"),
        (asked(output_expires_after=3600), "output_expires_after", "invalid_type", "expected an object"),
        (asked(output_expires_after={"seconds": 3600}), "output_expires_after.anchor", "invalid_value", "created_at"),
        *(
            (
                asked(output_expires_after={"anchor": "created_at", "seconds": seconds}),
                "output_expires_after.seconds",
                "invalid_value",
                "3600 to 2592000",
            )
            for seconds in (3599, 2_592_001, "3600", True, None, 3600.5)
        ),
        (asked(model="x"), "model", "unknown_parameter", "Unrecognized request argument supplied: model"),
        (asked(requests=[{}]), "requests", "invalid_value", "not both"),
        (inline(), "requests", "invalid_value", "1 to 5000 requests, but got 0"),
        (inline(*[{}] * 5001), "requests", "invalid_value", "but got 5001"),
        ({**inline(), "requests": {}}, "requests", "invalid_type", "expected an array"),
        (inline({}, "x"), "requests.1", "invalid_type", "expected an object"),
        ([asked()], None, "invalid_type", "must be a JSON object"),
    ],
)
async def test_a_bad_create_is_refused_by_name(
    client: Client, database: Database, body: Any, param: str | None, code: str, message: str
) -> None:
    response = await client.post("/v1/batches", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert message in error["message"]
    assert await value(database, "SELECT count(*) FROM batches") == 0
    assert await value(database, "SELECT count(*) FROM files") == 0


async def test_every_endpoint_that_is_served_is_one_for_batches_and_the_error_names_them(client: Client) -> None:
    error = (await client.post("/v1/batches", json=asked(endpoint="/v1/videos"))).json()["error"]
    for endpoint in INFERENCE:
        assert f"'{endpoint}'" in error["message"]
        assert (await created(client, asked(endpoint=endpoint)))["endpoint"] == endpoint


async def test_an_unknown_file_is_no_fault_of_the_create(client: Client) -> None:
    """The batch fails for it later. What is no file's id at all is shown as one that no file has."""
    assert (await created(client))["input_file_id"] == FILE
    for wrong in ("x", "", "file-x", FILE.upper(), "batch_" + "0" * 32):
        batch = await created(client, asked(input_file_id=wrong))
        assert batch["input_file_id"] == "file-" + "0" * 32


async def test_the_same_key_is_the_same_batch(client: Client, database: Database) -> None:
    key = {"Idempotency-Key": "k"}
    first = await created(client, asked(metadata={"a": "1", "b": "2"}), **key)
    turned = dict(reversed(asked(metadata={"b": "2", "a": "1"}).items()))
    assert await created(client, turned, **key) == first
    other = await client.post("/v1/batches", json=asked(), headers=key)
    assert other.status_code == 422
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert await value(database, "SELECT count(*) FROM batches") == 1
    assert (await client.post("/v1/batches", json=asked(), headers={"Idempotency-Key": "k" * 256})).status_code == 400


async def test_inline_requests_become_the_lines_of_a_file(client: Client) -> None:
    body = chat("ü\u2028\n")
    batch = await created(
        client,
        inline(
            {"custom_id": "a", "body": body},
            {"custom_id": "b", "body": body, "method": "PUT", "url": "/elsewhere", "more": 1},
            {"body": "what stands here is for the validation to judge"},
            metadata={"a": "b"},
        ),
    )
    assert batch["metadata"] == {"a": "b"}
    file = (await client.get(f"/v1/files/{batch['input_file_id']}")).json()
    assert (file["purpose"], file["filename"]) == ("batch", "requests.jsonl")
    assert file["expires_at"] == file["created_at"] + 30 * 86_400
    content = (await client.get(f"/v1/files/{file['id']}/content")).content
    assert len(content) == file["bytes"]
    assert [json.loads(line) for line in content.removesuffix(b"\n").split(b"\n")] == [
        {"custom_id": "a", "method": "POST", "url": CHAT, "body": body},
        {"custom_id": "b", "method": "PUT", "url": "/elsewhere", "body": body, "more": 1},
        {"method": "POST", "url": CHAT, "body": "what stands here is for the validation to judge"},
    ]


async def test_a_key_makes_one_batch_and_one_file_of_inline_requests(client: Client, database: Database) -> None:
    key = {"Idempotency-Key": "k"}
    first = await created(client, inline({"custom_id": "a"}), **key)
    again = await created(client, inline({"custom_id": "a"}), **key)
    assert again == first
    other = await client.post("/v1/batches", json=inline({"custom_id": "b"}), headers=key)
    assert other.status_code == 422
    assert [file["id"] for file in (await client.get("/v1/files")).json()["data"]] == [first["input_file_id"]]
    assert len(await lines_of(client, first["input_file_id"])) == 1


async def test_inline_requests_are_under_the_limit_of_any_body(settings: Settings, key: Key) -> None:
    small = settings.model_copy(update={"body_limit_bytes": 1024})
    async with running(small) as app, client_of(app, key) as client:
        response = await client.post("/v1/batches", json=inline({"custom_id": "x" * 2000}))
        assert response.status_code == 413
