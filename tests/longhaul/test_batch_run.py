"""How far a run is, how faults are told, and waiting for batches."""

import json
from collections.abc import Sequence

import pytest

from jobs.records import Json
from longhaul.batch_client import BatchClient
from longhaul.batch_run import report, speed, spelled
from longhaul.client import Refused
from longhaul.progress import Pace
from tests.longhaul.test_client import Server, refusal


def batch(status: str, batch_id: str = "batch_1", total: int = 2, completed: int = 2, **more: object) -> Json:
    counts = {"total": total, "completed": completed, "failed": total - completed}
    times = {"in_progress_at": 100, "finalizing_at": 100, "cancelling_at": None}
    return {"id": batch_id, "status": status, "request_counts": counts, "errors": None, "usage": None, **times, **more}


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    pace = Pace()
    assert pace.words(1000) == ""
    pace.saw(0, 0, 0)
    assert pace.words(1000) == ""
    pace.saw(10, 100, 0)
    assert pace.words(1000) == "10 jobs/s, 0:01:30 left"
    pace.saw(40, 400, 6000)
    assert pace.words(1000) == "10 jobs/s, 200 tokens/s, 0:01:00 left"
    pace.saw(70, 415, 6000)
    assert pace.words(1000) == "0.5 jobs/s, 0:19:30 left"


def test_a_fault_is_told_with_its_line_in_the_whole_file(capsys: pytest.CaptureFixture[str]) -> None:
    faults: list[Json] = [
        {"code": "invalid_url", "message": "It does not match.", "param": "url", "line": 3},
        {"code": "empty_file", "message": "It is empty.", "param": None, "line": None},
    ]
    failed = batch("failed", "batch_2", 0, 0, errors={"object": "list", "data": faults})
    assert not report([batch("completed"), failed], [1, 51], "")
    assert capsys.readouterr().err.splitlines() == [
        "line 53: invalid_url: It does not match. (param: url)",
        "the file: empty_file: It is empty.",
        "error: batch_2 was not run: its input is not valid",
        "2 of 2 requests completed",
    ]
    assert spelled(faults[0]).startswith("line 3:")


def test_the_speed_is_that_of_all_batches_together() -> None:
    usage = {"total_tokens": 3000}
    batches = [
        batch("completed", total=30, completed=20, usage=usage, finalizing_at=115),
        batch("cancelled", total=30, completed=30, usage=usage, finalizing_at=None, cancelling_at=120),
    ]
    assert speed(batches) == " in 0:00:20 (3 jobs/s, 300 tokens/s)"
    assert speed([batch("completed"), batch("cancelled", in_progress_at=None, finalizing_at=None)]) == ""


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_what_is_left_of_a_batch_that_was_cut_short_can_be_run(status: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not report([batch(status, total=5)], [1], "out.errors.jsonl")
    said = capsys.readouterr().err
    assert "longhaul batch retry batch_1" in said
    assert "2 of 5 requests completed, 3 did not (out.errors.jsonl)" in said


@pytest.mark.parametrize("status", ["cancelled", "expired"])
def test_a_batch_that_was_stopped_before_it_began_did_not_run(status: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert not report([batch(status, total=0, completed=0)], [1], "")
    assert capsys.readouterr().err == f"error: batch_1 was not run: it was {status} before it began\n"


async def test_waiting_looks_at_all_batches_until_the_last_has_ended() -> None:
    answers = [batch("in_progress"), batch("completed", "batch_2"), batch("finalizing"), batch("completed")]
    server = Server([(200, json.dumps(answer)) for answer in answers])
    seen: list[list[str]] = []

    def look(batches: Sequence[Json]) -> None:
        seen.append([batch["status"] for batch in batches])

    async with server.serving() as client, BatchClient(client.base_url, "key") as batches:
        done = await batches.until_all_ended(["batch_1", "batch_2"], 0.01, look)
    assert [batch["id"] for batch in done] == ["batch_1", "batch_2"]
    assert seen == [["in_progress", "completed"], ["finalizing", "completed"], ["completed", "completed"]]
    assert server.asked[2:] == ["GET /v1/batches/batch_1"] * 2


async def test_waiting_survives_an_api_that_restarts_but_not_one_that_refuses() -> None:
    running = (200, json.dumps(batch("in_progress")))
    server = Server([running, (503, refusal("Stopping.")), (200, json.dumps(batch("completed")))])
    async with server.serving() as client, BatchClient(client.base_url, "key") as batches:
        [done] = await batches.until_all_ended(["batch_1"], 0.01, lambda batches: None)
    assert done["status"] == "completed"
    server = Server([running, (404, refusal("No batch found."))])
    async with server.serving() as client, BatchClient(client.base_url, "key") as batches:
        with pytest.raises(Refused, match="No batch found"):
            await batches.until_all_ended(["batch_1"], 0.01, lambda batches: None)
