"""`POST /v1/batches/{id}/retry`: what did not complete, as a batch of its own."""

import pytest

from jobs import ids
from jobs.database import Database
from tests.api.batch_calls import asked, lines_of, started_for_acme
from tests.api.conftest import Client, Worker, chat, value
from tests.jobs.batch_rows import CHAT, FAULT, Started, finalise, refuse


@pytest.fixture
async def started(client: Client, worker: Worker, database: Database) -> Started:
    """Acme's batch of three lines that wait."""
    return await started_for_acme(database, worker)


async def test_a_retry_is_a_new_batch_of_what_did_not_complete(
    client: Client, started: Started, database: Database
) -> None:
    await refuse(started, "r", b'{"messages":[]}', b'{"error":{}}')
    await started.end("a")
    await started.end("b", FAULT)
    await value(database, "UPDATE batches SET status = 'cancelled', ended = total RETURNING 1")
    await value(database, "UPDATE lines SET status = 'expired', ended = 4 WHERE custom_id = 'c' RETURNING 1")
    old = (await client.get(f"/v1/batches/{ids.batch_id(started.batch.id)}")).json()
    response = await client.post(f"/v1/batches/{old['id']}/retry")
    assert response.status_code == 200
    new = response.json()
    assert (new["retry_of"], new["status"]) == (old["id"], "validating")
    assert new["id"] != old["id"]
    assert [new[name] for name in ("endpoint", "completion_window", "metadata")] == [CHAT, "24h", {"team": "a"}]
    assert new["expires_at"] == new["created_at"] + 86_400
    assert await lines_of(client, new["input_file_id"]) == [
        {"custom_id": "b", "method": "POST", "url": CHAT, "body": chat("b")},
        {"custom_id": "c", "method": "POST", "url": CHAT, "body": chat("c")},
        {"custom_id": "r", "method": "POST", "url": CHAT, "body": {"messages": []}},
    ]
    assert new == (await client.get(f"/v1/batches/{new['id']}")).json()


async def test_a_retry_of_many_lines_has_them_all(client: Client, worker: Worker, database: Database) -> None:
    names = [f"line {number}" for number in range(250)]
    started = await started_for_acme(database, worker, names, [("copy", "line 0")])
    path = f"/v1/batches/{ids.batch_id(started.batch.id)}"
    assert (await client.post(f"{path}/cancel")).status_code == 200
    await finalise(started)
    new = (await client.post(f"{path}/retry")).json()
    assert [line["custom_id"] for line in await lines_of(client, new["input_file_id"])] == [*names, "copy"]


async def test_a_retry_with_a_key_happens_once(client: Client, started: Started, database: Database) -> None:
    await client.post(f"/v1/batches/{ids.batch_id(started.batch.id)}/cancel")
    await finalise(started)
    path, key = f"/v1/batches/{ids.batch_id(started.batch.id)}/retry", {"Idempotency-Key": "k"}
    first, second = [(await client.post(path, headers=key)).json() for _ in range(2)]
    assert first == second
    assert len((await client.get("/v1/files")).json()["data"]) == 1
    assert (await client.post("/v1/batches", json=asked(), headers=key)).status_code == 422
    assert (await client.post(path)).json()["id"] != first["id"]


async def test_what_cannot_be_retried_says_why_and_leaves_nothing(
    client: Client, started: Started, database: Database
) -> None:
    path = f"/v1/batches/{ids.batch_id(started.batch.id)}"
    under_way = await client.post(f"{path}/retry")
    assert under_way.status_code == 409
    assert under_way.json()["error"]["message"] == "Cannot retry a batch with status 'in_progress'."
    for custom_id in "abc":
        await started.end(custom_id)
    await finalise(started)
    complete = await client.post(f"{path}/retry")
    assert complete.status_code == 400
    assert "nothing to retry" in complete.json()["error"]["message"]
    await value(database, "UPDATE lines SET status = 'failed' RETURNING 1")
    await value(database, f"DELETE FROM requests WHERE job_id = '{started.jobs['b']}' RETURNING 1")
    forgotten = await client.post(f"{path}/retry")
    assert forgotten.status_code == 409
    assert "the request of 'b' is not kept any more" in forgotten.json()["error"]["message"]
    await value(database, "UPDATE batches SET status = 'failed' RETURNING 1")
    invalid = await client.post(f"{path}/retry")
    assert invalid.status_code == 409
    assert "failed validation" in invalid.json()["error"]["message"]
    assert await value(database, "SELECT count(*) FROM batches") == 1
    assert await value(database, "SELECT count(*) FROM files") == 0
