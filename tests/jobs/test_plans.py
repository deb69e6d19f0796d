"""The hot statements reach their rows by the right index, whatever the statistics were when they were planned."""

import re
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import event

from jobs import ids, read
from jobs.database import Database, statement
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows


async def plan(database: Database, name: str, options: str = "COSTS OFF") -> str:
    """How the server would run `sql/NAME.sql` from now on."""
    names: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)s", numbered, statement(name).decode()).replace("%%", "%")
    async with database.transaction() as connection:
        await connection.execute(f"PREPARE it AS {text}".encode())
        values = f"({', '.join(['NULL'] * len(names))})" if names else ""
        asked = f"EXPLAIN ({options}) EXECUTE it {values}"
        lines = await (await connection.execute(asked.encode())).fetchall()
        await connection.execute("DEALLOCATE it")
    return "\n".join(line for (line,) in lines)


async def plan_of_page(database: Database, **asked: Any) -> str:
    """How the server finds a page of jobs."""
    sent: list[tuple[str, Any]] = []

    def note(connection: object, cursor: object, text: str, parameters: Any, *_: object) -> None:
        sent.append((text, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    await read.page(database, 1, limit=20, **asked)
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    [(text, parameters)] = sent
    async with database.transaction() as connection:
        lines = await (await connection.execute(f"EXPLAIN (COSTS OFF) {text}".encode(), parameters)).fetchall()
    return "\n".join(line for (line,) in lines)


@pytest.mark.parametrize("after", [None, UUID(int=2**128 - 1)])
async def test_a_page_of_rarely_tagged_jobs_looks_at_few(
    after: UUID | None, database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(*(new_job(metadata={"team": "x", "run": str(number // 10)}) for number in range(1000)))
    await rows(
        database,
        "INSERT INTO jobs (id, flow_id, tenant_id, cost, tier, timeout_s, place)"
        " SELECT gen_random_uuid(), 1, 1, 1, 0, 60, '' FROM generate_series(1, 50000)",
    )
    await rows(database, 'INSERT INTO details SELECT id, \'{"team": "x"}\' FROM jobs ON CONFLICT DO NOTHING')
    await rows(database, "ANALYZE")
    found = await plan_of_page(database, metadata={"run": "7"}, after=after)
    assert "details_metadata" in found, found
    assert re.search(r"Index Cond: .*\bid = ANY", found), found
    assert "Seq Scan" not in found, found


STATISTICS = {
    "never looked at": "SELECT",
    "looked at while nothing ran": "ANALYZE",
    "looked at while all ran": "UPDATE jobs SET status = 'in_progress', worker_id = gen_random_uuid(); ANALYZE",
    "looked at when all had ended": "UPDATE jobs SET status = 'completed', finished_at = now(); ANALYZE",
}


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS.keys())
async def test_the_hot_statements_find_jobs_by_index(
    statistics: str, database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(*(new_job() for _ in range(1000)))
    for each in statistics.split(";"):
        await rows(database, each)
    for name in ("finish", "release", "cancel", "results", "ended_among"):
        found = await plan(database, name)
        assert "jobs_pkey" in found, f"{name}:\n{found}"
        assert "jobs_running" not in found, f"{name}:\n{found}"
        assert "Seq Scan" not in found, f"{name}:\n{found}"
    assert "jobs_queued" in await plan(database, "claim")
    assert "Seq Scan" not in await plan(database, "claim")
    purged = await plan(database, "purge_jobs")
    assert "Hash" not in purged and "Merge" not in purged and "Seq Scan" not in purged, purged
    retired = await plan(database, "retire_due")
    assert "jobs_queued" in retired and "jobs_blocked" in retired, retired
    assert "jobs_pkey" not in retired and "Seq Scan" not in retired, retired


async def test_the_purge_looks_up_lines_only_of_the_jobs_that_it_looks_at(database: Database) -> None:
    await rows(
        database,
        "INSERT INTO lines (batch_id, line, custom_id, job_id)"
        " SELECT b, n, n::text, gen_random_uuid() FROM new_id() b, generate_series(1, 50000) n",
    )
    await rows(database, "ANALYZE lines")
    for name in ("purge_jobs", "wanted_between"):
        found = await plan(database, name)
        assert re.search(r"using lines_job on lines.*\n\s*Index Cond: .*\bjob_id\b", found), f"{name}:\n{found}"
        assert not re.search(r"Hash|Merge|Seq Scan", found), f"{name}:\n{found}"


@pytest.mark.parametrize("statistics", STATISTICS.values(), ids=STATISTICS.keys())
async def test_a_look_at_the_whole_reads_the_heads_of_queues_and_what_runs(
    statistics: str, database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(*(new_job(expires_seconds=600) for _ in range(1000)))
    for each in statistics.split(";"):
        await rows(database, each)
    for name, index in (
        ("overview_queues", "jobs_queued"),
        ("overview_running", "jobs_running"),
        ("overview_expiring", "jobs_expires"),
    ):
        found = await plan(database, name)
        assert index in found, f"{name}:\n{found}"
        assert "Seq Scan on jobs" not in found, f"{name}:\n{found}"


async def test_a_claim_from_a_long_analysed_queue_reads_only_what_it_takes(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    await accept(new_job())
    queued = [ids.new() for _ in range(50_000)]
    async with database.transaction() as connection:
        await connection.execute(
            b"INSERT INTO jobs (id, flow_id, tenant_id, cost, tier, timeout_s, place)"
            b" SELECT id, (SELECT id FROM flows), 1, 1, 1, 60, uuid_send(id) FROM unnest(%s::uuid[]) id",
            [queued],
        )
        await connection.execute(
            b"INSERT INTO requests (job_id, endpoint, model, body) SELECT unnest(%s::uuid[]), '', '', ''", [queued]
        )
    for table in ("flows", "jobs", "requests"):
        await rows(database, f"ANALYZE {table}")
    found = await plan(database, "claim")
    assert "Merge Join" not in found, found
    assert re.search(r"Scan using jobs_pkey on jobs.*\n\s*Index Cond: \(id = ANY", found), found
    assert re.search(r"(Hash|Merge) Full Join", found), found
    assert found.count("Index Cond: (job_id = t.id)") > 0, found
    # A thousand times as many wait, and as many bodies are kept: reading them all must not seem the shorter way.
    expected = re.search(r"CTE Scan on taken t .*rows=(\d+)", await plan(database, "claim", "COSTS ON"))
    assert expected and int(expected[1]) <= 10, found


@pytest.mark.parametrize("status", ["pending", "succeeded"])
async def test_deliveries_are_found_by_index_however_many_there_are(status: str, database: Database) -> None:
    await rows(
        database,
        "INSERT INTO deliveries (id, subject_id, tenant_id, lane, type, body, status, pending_since, next_at)"
        " SELECT new_id(), gen_random_uuid(), 1, n %% 20, 'job.completed', '', s,"
        " CASE s WHEN 'pending' THEN now() END, CASE s WHEN 'pending' THEN now() END"
        " FROM generate_series(1, 50000) n, (SELECT CAST(%s AS delivery_status) AS s) s",
        status,
    )
    await rows(database, "ANALYZE deliveries")
    for name in ("deliveries_claim", "deliveries_mark", "purge_deliveries", "delivery_again"):
        found = await plan(database, name)
        assert not re.search(r"(Seq Scan|Index Only Scan using deliveries_pkey) on deliveries", found), (
            f"{name}:\n{found}"
        )
        assert not re.search(r"(Hash|Merge) Join(?s:.){0,300} on deliveries\b", found), f"{name}:\n{found}"
    claimed = await plan(database, "deliveries_claim")
    assert claimed.count("deliveries_due") >= 2 and "deliveries_pkey" in claimed, claimed
