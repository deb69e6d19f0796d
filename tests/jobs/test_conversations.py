"""Turns of one conversation run one after another, whatever becomes of them, each behind what was said before it."""

import asyncio
import json
import time
from dataclasses import dataclass
from uuid import UUID

import pytest

from control import purge, turns
from jobs import cancel, claim, conversations, ids, lease, read
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import ClaimedJob, IdempotencyKey, Json, NewJob, Outcome, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import assert_counters_are_true, job_row, rows, statuses, value

CHAT = "/v1/chat/completions"


@dataclass
class Talk:
    """A worker that claims and ends turns."""

    database: Database
    worker: UUID
    model_id: int
    published: list[tuple[str, int]]

    async def claim(self) -> list[ClaimedJob]:
        await assert_counters_are_true(self.database)
        return await claim.claim(self.database, self.worker, self.model_id, Tier.DEFAULT, 100)

    def publish(self, queue: str, count: int) -> None:
        self.published.append((queue, count))

    async def end(self, job: ClaimedJob, status: Status = Status.COMPLETED, said: str = "yes") -> None:
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": said, "audio": None}}]}).encode()
        outcome = Outcome(status, 200 if status is Status.COMPLETED else 400, body)
        assert await Finisher(self.database, lambda ids: None, publish=self.publish).finish(job, outcome)
        await assert_counters_are_true(self.database)


@pytest.fixture
def talk(database: Database, worker: UUID, model_id: int) -> Talk:
    return Talk(database, worker, model_id, [])


def turn(new_job: MakeJob, text: str = "hello", conversation: str = "c", **fields: object) -> NewJob:
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    return new_job(endpoint=CHAT, body=body, conversation=conversation, **fields)


async def test_a_turn_waits_until_the_one_before_it_has_ended(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    first, second, third = [(await accept(turn(new_job)))[0] for _ in range(3)]
    for job_id in (first, second, third):
        [claimed] = await talk.claim()
        assert claimed.id == job_id
        assert await talk.claim() == []
        await talk.end(claimed)
    assert talk.published == [("q", 1), ("q", 1)]
    assert await statuses(talk.database, [first, second, third]) == [Status.COMPLETED] * 3


async def test_the_position_of_a_turn_has_those_ahead_of_it_that_wait_too(
    talk: Talk, accept: Accept, new_job: MakeJob
) -> None:
    await rows(talk.database, f"INSERT INTO lanes (model_id, tier, tokens_per_second) VALUES ({talk.model_id}, 1, 10)")
    turns = [(await accept(turn(new_job, cost=10)))[0] for _ in range(4)]
    [other] = await accept(new_job(cost=10))

    async def told(job_id: UUID) -> tuple[int, float] | None:
        found = await read.position(talk.database, job_id)
        return None if found is None else (found.place, found.tokens_per_second)

    assert [await told(job_id) for job_id in (*turns, other)] == [(0, 10), (1, 0), (2, 0), (3, 0), (1, 10)]
    [running, _] = await talk.claim()
    assert running.id == turns[0]
    assert [await told(job_id) for job_id in turns] == [None, (0, 0), (1, 0), (2, 0)]


async def test_turns_that_are_accepted_together_keep_their_order(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    together = await accept(*(turn(new_job) for _ in range(3)), new_job(), turn(new_job, conversation="other"))
    first = await talk.claim()
    assert {job.id for job in first} == {together[0], together[3], together[4]}
    for job in first:
        await talk.end(job)
    for job_id in together[1:3]:
        [claimed] = await talk.claim()
        assert claimed.id == job_id
        await talk.end(claimed)


async def test_conversations_of_two_tenants_are_two(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    other = await value(talk.database, "INSERT INTO tenants (name) VALUES ('acme') RETURNING id")
    await accept(turn(new_job))
    await accept(turn(new_job, tenant_id=other))
    assert len(await talk.claim()) == 2


async def test_a_failed_turn_frees_the_next(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    await accept(turn(new_job))
    [next_one] = await accept(turn(new_job))
    [failing] = await talk.claim()
    await talk.end(failing, Status.FAILED)
    assert [job.id for job in await talk.claim()] == [next_one]


async def test_a_cancelled_turn_frees_the_next_but_not_past_one_that_runs(
    talk: Talk, accept: Accept, new_job: MakeJob
) -> None:
    [first], [second], [third] = [await accept(turn(new_job)) for _ in range(3)]
    [running] = await talk.claim()
    assert await cancel.cancel(talk.database, [second]) == [second]
    assert (await job_row(talk.database, third)).blocked_on == first
    [fourth] = await accept(turn(new_job))
    assert await talk.claim() == []
    await talk.end(running)
    [running] = await talk.claim()
    assert running.id == third
    assert await cancel.cancel(talk.database, [third], talk.publish) == [third]
    assert talk.published[-1] == ("q", 1)
    assert [job.id for job in await talk.claim()] == [fourth]


async def test_a_turn_behind_a_cancelled_one_waits_for_the_one_that_runs(
    talk: Talk, accept: Accept, new_job: MakeJob
) -> None:
    [first], [second] = [await accept(turn(new_job)) for _ in range(2)]
    await talk.claim()
    await cancel.cancel(talk.database, [second])
    [third] = await accept(turn(new_job))
    assert (await job_row(talk.database, third)).blocked_on == first


async def test_a_turn_that_expires_frees_the_next(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    await accept(turn(new_job, expires_seconds=60))
    [next_one] = await accept(turn(new_job))
    await rows(talk.database, "UPDATE jobs SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")
    assert len(await cancel.expire(talk.database)) == 1
    assert [job.id for job in await talk.claim()] == [next_one]


async def test_a_turn_that_a_lost_worker_ends_frees_the_next(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    [first] = await accept(turn(new_job))
    [next_one] = await accept(turn(new_job))
    await talk.claim()
    await rows(talk.database, "UPDATE jobs SET losses = 9 WHERE id = %s", first)
    assert (await lease.orphan(talk.database, talk.worker)).failed == [first]
    assert [job.id for job in await talk.claim()] == [next_one]


async def test_a_turn_that_goes_back_keeps_the_next_waiting(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    [first] = await accept(turn(new_job))
    await accept(turn(new_job))
    [running] = await talk.claim()
    await lease.release(talk.database, [(running.id, running.lease_token)])
    assert [job.id for job in await talk.claim()] == [first]


@pytest.mark.parametrize("left", ["ended", "deleted"])
async def test_control_frees_what_nobody_else_did(talk: Talk, accept: Accept, new_job: MakeJob, left: str) -> None:
    [first] = await accept(turn(new_job))
    [next_one] = await accept(turn(new_job))
    await talk.claim()
    await rows(
        talk.database,
        "UPDATE jobs SET status = 'completed', worker_id = NULL, finished_at = now() WHERE id = %s",
        first,
    )
    if left == "deleted":
        await read.delete(talk.database, 1, first)
    assert await talk.claim() == []
    published: list[tuple[str, int, int]] = []
    assert await turns.run(talk.database, lambda *ticket: published.append(ticket)) == 1
    assert published == [("q", 1, 1)]
    assert [job.id for job in await talk.claim()] == [next_one]
    assert await turns.run(talk.database, lambda *ticket: None) == 0


async def test_a_turn_that_is_sent_twice_is_added_once(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    job = turn(new_job)
    await accept(job)
    await accept(job)
    keyed = turn(new_job, key=IdempotencyKey("k", b"0" * 16))
    assert await accept(keyed) == await accept(turn(new_job, key=keyed.key)) == [keyed.id]
    assert await value(talk.database, "SELECT count(*) FROM turns") == 2
    await assert_counters_are_true(talk.database)


async def test_however_turns_come_and_end_no_two_run_at_once(talk: Talk, database: Database, new_job: MakeJob) -> None:
    acceptors = [Acceptor(database, lambda model, count: None) for _ in range(3)]
    jobs = [turn(new_job) for _ in range(60)]

    async def submit(acceptor: Acceptor, mine: list[NewJob]) -> None:
        for job in mine:
            await acceptor.accept(job)

    submitting = asyncio.gather(*(submit(acceptor, jobs[n::3]) for n, acceptor in enumerate(acceptors)))
    ended: list[UUID] = []
    while len(ended) < len(jobs):
        running = await claim.claim(database, talk.worker, talk.model_id, Tier.DEFAULT, 100)
        assert len(running) <= 1
        for job in running:
            await Finisher(database, lambda ids: None).finish(job, Outcome(Status.COMPLETED, 200, b"{}"))
            ended.append(job.id)
    await submitting
    in_order = await rows(database, "SELECT job_id FROM turns ORDER BY turn")
    assert [row.job_id for row in in_order] == ended
    await assert_counters_are_true(database)


async def test_a_turn_hears_what_was_said_before_it(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    said: list[tuple[str, Status]] = [("one", Status.COMPLETED), ("two", Status.FAILED), ("three", Status.COMPLETED)]
    for text, status in said:
        await accept(turn(new_job, text))
        [running] = await talk.claim()
        await talk.end(running, status, f"{text}!")
    await accept(turn(new_job, "elsewhere", conversation="other"))
    [last] = await accept(turn(new_job, "four"))
    assert await conversations.before(talk.database, last) == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one!"},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": "three!"},
    ]


async def test_a_deleted_turn_is_not_heard_any_more(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    [first] = await accept(turn(new_job))
    [running] = await talk.claim()
    await talk.end(running)
    await read.delete(talk.database, 1, first)
    [last] = await accept(turn(new_job))
    assert await conversations.before(talk.database, last) == []


@pytest.mark.parametrize(
    ("earlier", "new", "system"),
    [(["a"], ["b"], "b"), (["a"], [], "a"), ([], ["b"], "b"), ([], [], None)],
)
def test_the_newest_system_message_stands_in_front(earlier: list[str], new: list[str], system: str | None) -> None:
    def spoken(systems: list[str], text: str) -> list[Json]:
        return [*({"role": "system", "content": one} for one in systems), {"role": "user", "content": text}]

    messages = conversations.joined(spoken(earlier, "one"), spoken(new, "two"))
    assert messages == spoken([system] if system else [], "one") + spoken([], "two")


def test_a_tool_call_is_part_of_what_was_said() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    assert conversations.joined([call], [{"role": "tool", "content": "done"}])[0] == call


async def test_jobs_that_are_purged_take_their_turns_along(talk: Talk, accept: Accept, new_job: MakeJob) -> None:
    old = turn(new_job, id=ids.floor(time.time() - 40 * 86_400))
    [kept] = (await accept(old), await accept(turn(new_job)))[1]
    for _ in range(2):
        [running] = await talk.claim()
        await talk.end(running)
    await purge.run(talk.database, 30)
    assert [row.job_id for row in await rows(talk.database, "SELECT job_id FROM turns")] == [kept]
