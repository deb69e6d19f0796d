"""The table of edges against every statement that changes a status."""

import itertools
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any, TypeAlias
from uuid import UUID

import pytest

from jobs.database import Database, fetch, statement
from jobs.records import Tier
from jobs.states import EDGES, Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import assert_counters_are_true, job_row, rows

Edge: TypeAlias = tuple[str, str]

PARAMETERS: dict[str, Callable[[Any, UUID, int], list[dict[str, Any]]]] = {
    "claim": lambda job, worker, model: [claiming(worker, model, Tier.DEFAULT)],
    "claim_suspects": lambda job, worker, model: [claiming(worker, model, Tier.SUSPECT)],
    "release": lambda job, worker, model: [
        {"ids": [job.id], "lease_tokens": [job.lease_token], "locked": [job.flow_id]}
    ],
    "orphan": lambda job, worker, model: [{"worker": worker, "ids": [job.id], "locked": [job.flow_id]}],
    "cancel": lambda job, worker, model: [{"ids": [job.id], "locked": [job.flow_id]}],
    "lose": lambda job, worker, model: [{"ids": [job.id], "locked": [job.flow_id]}],
    "expire": lambda job, worker, model: [{"ids": [job.id], "locked": [job.flow_id]}],
    "retire": lambda job, worker, model: [{"ids": [job.id], "locked": [job.flow_id]}],
    "batch_stop": lambda job, worker, model: [
        {"flows": [job.flow_id], "status": status} for status in (Status.CANCELLED, Status.EXPIRED)
    ],
    "finish": lambda job, worker, model: [ending(job, status) for status in (Status.COMPLETED, Status.FAILED)],
}
"""What each statement is run with, once for each entry, so that it would change the job if it may."""


def claiming(worker: UUID, model: int, tier: Tier) -> dict[str, Any]:
    return {"worker": worker, "model": model, "tier": int(tier), "free": 8}


def ending(job: Any, status: Status) -> dict[str, Any]:
    nothing = ("status_codes", "bodies", "error_codes", "error_messages")
    none_used = ("input", "cached", "output", "reasoning")
    return {
        "ids": [job.id],
        "lease_tokens": [job.lease_token],
        "statuses": [status.value],
        **{name: [None] for name in nothing},
        **{name: [0] for name in none_used},
        "incomplete": [False],
        **{name: [] for name in ("logged", "log_runs", "log_firsts", "log_bodies")},
    }


def named_by_first_line(name: str) -> set[Edge]:
    """The edges that the first line of a statement's file claims."""
    line = resources.files("jobs").joinpath("sql", f"{name}.sql").read_text().splitlines()[0]
    assert re.fullmatch(r"-- (\S+ -> \S+)(, \S+ -> \S+)*", line), f"{name}.sql does not begin with its edges"
    return {(before, after) for before, after in re.findall(r"(\S+) -> ([^\s,]+)", line)}


def that_change_statuses() -> Iterator[str]:
    for path in sorted(path.name for path in resources.files("jobs").joinpath("sql").iterdir()):
        name = path.removesuffix(".sql")
        text = statement(name).decode().strip()
        fragment = re.match(r"\w+ AS \(", text)  # it stands in others, which are looked at themselves
        if not fragment and re.search(r"UPDATE jobs\b[^;]*?\bSET\b[^;]*?(?<!\.)\bstatus\s*=|INSERT INTO jobs\b", text):
            yield name


async def place(database: Database, worker: UUID, job_id: UUID, status: Status, losses: int, overdue: bool) -> Any:
    """Put a queued job into this state and return its row."""
    await rows(
        database,
        "UPDATE jobs SET status = %s, losses = %s, lease_token = 7, attempts = 3, worker_id = %s, finished_at = %s,"
        " expires_at = CASE WHEN %s THEN now() - interval '1 second' END WHERE id = %s",
        status.value,
        losses,
        worker if status == Status.IN_PROGRESS else None,
        "now" if status.terminal else None,
        overdue,
        job_id,
    )
    queued = status == Status.QUEUED
    await rows(database, "UPDATE flows SET queued = %s, open = %s", int(queued), queued)
    return await job_row(database, job_id)


def test_every_statement_that_changes_a_status_is_tried_here() -> None:
    assert set(that_change_statuses()) == {"accept", *PARAMETERS}


@pytest.mark.parametrize("name", PARAMETERS)
async def test_a_statement_makes_the_edges_that_its_first_line_names_and_no_other(
    name: str, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int
) -> None:
    tier = Tier.SUSPECT if name == "claim_suspects" else Tier.DEFAULT
    seen: set[Edge] = set()
    for status, losses, overdue in itertools.product(Status, (0, 3, 9), (False, True)):
        [job_id] = await accept(new_job(tier=tier))
        before = await place(database, worker, job_id, status, losses, overdue)
        for parameters in PARAMETERS[name](before, worker, model_id):
            before = await place(database, worker, job_id, status, losses, overdue)
            async with database.transaction() as connection:
                # As claim_lock does, which claims rely on; the others are told by a parameter.
                await connection.execute("SELECT set_config('longhaul.locked', %s, true)", [f"{{{before.flow_id}}}"])
                await fetch(connection, name, **parameters)
            after = await job_row(database, job_id)
            if after.status != before.status:
                seen.add((before.status, after.status))
            else:
                assert after == before
            await assert_counters_are_true(database)
            await rows(database, "DELETE FROM results")
        await rows(database, "DELETE FROM jobs")
        await rows(database, "UPDATE flows SET queued = 0, open = false")
    assert seen == named_by_first_line(name)
    assert seen <= {(before.value, after.value) for before, after in EDGES}


@pytest.mark.parametrize("status", Status)
async def test_accepting_again_leaves_a_job_where_it_is(
    status: Status, database: Database, accept: Accept, new_job: MakeJob, worker: UUID
) -> None:
    job = new_job()
    await accept(job)
    before = await place(database, worker, job.id, status, 0, False)
    await accept(job)
    assert await job_row(database, job.id) == before
    await assert_counters_are_true(database)


async def test_accepting_makes_the_edge_that_its_first_line_names(
    database: Database, accept: Accept, new_job: MakeJob
) -> None:
    [job_id] = await accept(new_job())
    assert named_by_first_line("accept") == {("(new)", (await job_row(database, job_id)).status)}


def test_every_edge_is_made_by_some_statement() -> None:
    made = {edge for name in PARAMETERS for edge in named_by_first_line(name)}
    assert made == {(before.value, after.value) for before, after in EDGES}


def test_nothing_leads_out_of_an_end() -> None:
    assert not [edge for edge in EDGES if edge[0].terminal]


async def test_the_database_knows_the_same_statuses_in_the_same_order(database: Database) -> None:
    found = await rows(database, "SELECT unnest(enum_range(NULL::job_status))::text AS status")
    assert [row.status for row in found] == list(Status)
