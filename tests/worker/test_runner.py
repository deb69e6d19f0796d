"""Free slots become claimed jobs, and each of them an outcome or a job that waits again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from control import expire
from jobs import lease, read
from jobs.cancel import cancel
from jobs.claim import claim
from jobs.database import Database
from jobs.records import Tier
from jobs.states import Status
from tests.engines.scripted import ScriptedEngine
from tests.exposed import count
from tests.worker.place import Place, place, scalar, until, until_asked
from worker.asgi import Receive, Scope, Send
from worker.engines import JobLost


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    made = await place(database, tmp_path / "journal")
    yield made
    await made.engine.stop()


async def test_a_waiting_job_is_run_and_its_result_stored(here: Place) -> None:
    [job] = await here.submit(text="hello")
    async with here.running():
        await here.all_are(Status.COMPLETED, [job])
    row = await here.row(job)
    assert json.loads(row.body)["choices"][0]["message"]["content"] == "hello"
    assert (row.status_code, row.attempts, row.input_tokens, row.output_tokens) == (200, 1, 2, 16)
    assert here.announced == [job]
    assert here.runner.held == {}


async def test_a_refusal_of_the_engine_is_the_jobs_result(here: Place) -> None:
    [job] = await here.submit(fail=400)
    async with here.running():
        await here.all_are(Status.FAILED, [job])
    row = await here.row(job)
    assert (row.status_code, json.loads(row.body)["error"]["message"]) == (400, "It was told to fail.")


async def test_an_app_that_crashes_fails_its_job_alone(here: Place) -> None:
    [bad], [good] = await here.submit(crash=True), await here.submit()
    async with here.running():
        await here.all_are(Status.FAILED, [bad])
        await here.all_are(Status.COMPLETED, [good])
    row = await here.row(bad)
    assert (row.status_code, json.loads(row.body)["error"]["type"]) == (500, "server_error")
    assert here.deaths == 0


async def test_no_more_jobs_run_than_there_are_slots(here: Place) -> None:
    jobs = await here.submit(9, delay=0.05)
    async with here.running() as runner:
        await until(lambda: runner.running == 4)
        assert len(runner.held) == 4
        await here.all_are(Status.COMPLETED, jobs)
    events = sorted((entry.time, entry.event == "start") for job in jobs for entry in here.entries(job))
    load = peak = 0
    for _, starts in events:
        load += 1 if starts else -1
        peak = max(peak, load)
    assert peak == 4


async def test_slots_that_an_engine_grows_are_used(here: Place) -> None:
    await here.submit(9, hang=True)
    async with here.running() as runner:
        await until(lambda: runner.running == 4)
        here.engine.slots = 7
        await until(lambda: runner.running == 7)


async def test_a_ticket_wakes_the_claim_loop(here: Place) -> None:
    async with here.running() as runner:
        jobs = await here.submit(3)
        await runner.take()
        await here.all_are(Status.COMPLETED, jobs)


async def test_who_hears_of_jobs_takes_them(here: Place) -> None:
    async with here.running() as runner:
        jobs = await here.submit(3, hang=True)
        assert await runner.hear()
        assert runner.held.keys() == set(jobs)


async def test_who_hears_of_more_jobs_than_it_can_take_says_so(here: Place) -> None:
    async with here.running() as runner:
        await here.submit(5, hang=True)
        assert not await runner.hear()
        assert runner.running == 4


async def test_who_is_full_or_stops_takes_nothing_that_it_hears_of(here: Place) -> None:
    await here.submit(4, hang=True)
    async with here.running() as runner:
        await until(lambda: runner.running == 4)
        assert not await runner.hear()
        runner.stop()
        assert not await runner.hear()


async def test_a_ticket_waits_while_no_slot_is_free(here: Place) -> None:
    jobs = await here.submit(4, hang=True)
    async with here.running() as runner:
        await until(lambda: runner.running == 4)
        ticket = asyncio.create_task(runner.take())
        await asyncio.wait({ticket}, timeout=0.05)
        assert not ticket.done()
        runner.abort(jobs[:1])
        await ticket


async def test_a_stop_lets_waiting_tickets_go(here: Place) -> None:
    await here.submit(4, hang=True)
    async with here.running() as runner:
        await until(lambda: runner.running == 4)
        ticket = asyncio.create_task(runner.take())
        runner.stop()
        await ticket


async def test_nothing_is_claimed_on_a_lease_that_ran_out(here: Place) -> None:
    here.lease_is_good = False
    [job] = await here.submit()
    async with here.running() as runner:
        ticket = asyncio.create_task(runner.take())
        await asyncio.wait({ticket}, timeout=0.2)
        assert not ticket.done()
        assert await here.statuses([job]) == [Status.QUEUED]
        here.lease_is_good = True
        await here.all_are(Status.COMPLETED, [job])
        await ticket


async def test_a_job_over_its_time_limit_ends_as_request_timeout(here: Place) -> None:
    [job] = await here.submit(hang=True, timeout=1)
    async with here.running():
        await here.all_are(Status.FAILED, [job])
    row = await here.row(job)
    assert (row.error_code, row.status_code, row.body) == ("request_timeout", None, None)
    assert [entry.event for entry in here.entries(job)] == ["start", "abort"]


async def test_an_aborted_job_is_disconnected_and_nothing_is_written(here: Place) -> None:
    [job] = await here.submit(hang=True)
    async with here.running() as runner:
        await until(lambda: here.began([job]))
        assert await cancel(here.database, [job]) == [job]
        runner.abort([job])
        await runner.quiet()
    assert [entry.event for entry in here.entries(job)] == ["start", "abort"]
    row = await here.row(job)
    assert (row.status, row.job_id) == (Status.CANCELLED, None)


async def test_what_the_engine_cannot_take_now_goes_back_refunded(here: Place) -> None:
    [job] = await here.submit(fail=429, retry_after=1, times=1)
    async with here.running() as runner:
        await until(lambda: len(here.entries(job)) >= 2)
        [other] = await here.submit()
        await here.all_are(Status.COMPLETED, [job, other])
    assert runner.held == {}
    first_end = next(entry for entry in here.entries(job) if entry.event == "end")
    pause = min(entry.time for entry in here.entries(other)) - first_end.time
    assert pause >= 0.9, "the engine's back-off holds for all of its jobs"
    row = await here.row(job)
    assert (row.attempts, row.losses) == (1, 0)


async def test_a_job_that_the_engine_keeps_refusing_expires_without_an_attempt(here: Place) -> None:
    [job] = await here.submit(fail=429, retry_after=0, expires=1)
    expired: list[UUID] = []
    async with here.running() as runner:
        await until_asked(lambda: expire.run(here.database, expired.extend))
        [other] = await here.submit()
        await here.all_are(Status.COMPLETED, [other])
        assert runner.held == {}
    row = await here.row(job)
    assert (expired, row.status, row.attempts, row.losses) == ([job], Status.EXPIRED, 0, 0)
    assert len([entry for entry in here.entries(job) if entry.event == "start"]) > 1


class Losing(ScriptedEngine):
    """Loses each job whose script crashes, as one of several servers behind an engine would."""

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super()._serve(scope, receive, send)
        except RuntimeError as error:
            raise JobLost() from error


async def test_a_job_that_the_engine_lost_goes_back_alone_with_the_loss_counted(
    database: Database, tmp_path: Path
) -> None:
    here = await place(database, tmp_path / "journal", kind=Losing)
    [unlucky], others = await here.submit(crash=True, times=1), await here.submit(2, delay=0.3)
    async with here.running():
        await here.all_are(Status.COMPLETED, [unlucky, *others])
    rows = [await here.row(job) for job in (unlucky, *others)]
    assert [(row.attempts, row.losses) for row in rows] == [(2, 1), (1, 0), (1, 0)]
    assert here.deaths == 0 and here.runner.held == {}
    await here.engine.stop()


async def test_who_waits_and_webhooks_hear_of_a_job_that_the_engine_lost_too_often(
    database: Database, tmp_path: Path
) -> None:
    here = await place(database, tmp_path / "journal", kind=Losing)
    [job] = await here.submit(crash=True)
    await scalar(database, "UPDATE jobs SET losses = 9 RETURNING id")
    failed = count("longhaul_orphans_total", end="failed")
    async with here.running():
        await until(lambda: here.announced == [job])
    assert (await here.row(job)).error_code == "worker_lost"
    assert here.deliveries == 1
    assert count("longhaul_orphans_total", end="failed") == failed + 1
    await here.engine.stop()


async def test_with_the_engine_dead_nothing_is_a_result(here: Place) -> None:
    jobs = [*await here.submit(2, hang=True), *await here.submit(die=True, delay=0.05)]
    async with here.running() as runner:
        await until(lambda: here.deaths > 0)
        runner.stop()
        await runner.quiet()
        assert set(runner.held) == set(jobs), "their loss is not counted yet, so they are no strays"
    assert set(await here.statuses(jobs)) == {Status.IN_PROGRESS}


async def test_nothing_is_claimed_for_a_dead_engine(here: Place) -> None:
    jobs = [*await here.submit(3, hang=True), *await here.submit(die=True, delay=0.05)]
    waiting = await here.submit(20)
    async with here.running() as runner:
        await until(lambda: here.deaths > 0)
        await runner.quiet()
        assert set(runner.held) == set(jobs)
    assert set(await here.statuses(waiting)) == {Status.QUEUED}


async def test_a_claim_whose_answer_was_lost_is_handed_back(here: Place) -> None:
    [job] = await here.submit(delay=0.05)
    [lost] = await claim(here.database, here.worker, here.model_id, Tier.DEFAULT, 1)
    async with here.running() as runner:
        runner.reconcile({}, {lost.id: lost.lease_token})
        await here.all_are(Status.COMPLETED, [job])
    row = await here.row(job)
    assert (row.attempts, row.losses, row.lease_token) == (1, 0, 2)


async def test_what_the_database_does_not_confirm_is_aborted(here: Place) -> None:
    kept, gone, regained = await here.submit(3, hang=True)
    async with here.running() as runner:
        await until(lambda: here.began([kept, gone, regained]))
        runner.reconcile(runner.held, {kept: 1, regained: 2})
        await until(lambda: runner.running == 1)
        assert set(runner.held) == {kept}


async def test_a_job_that_came_after_the_question_is_left_alone(here: Place) -> None:
    async with here.running() as runner:
        before = runner.held
        [job] = await here.submit(hang=True)
        await runner.take()
        await until(lambda: here.began([job]))
        runner.reconcile(before, {})
        await asyncio.sleep(0)
        assert runner.running == 1


@pytest.mark.parametrize("served", [None, Tier.DEFAULT, Tier.BATCH, Tier.FLEX])
async def test_where_an_idle_engine_begins_takes_nothing_from_other_tiers(here: Place, served: Tier | None) -> None:
    here.engine.slots = 20
    async with here.running() as runner:
        if served is not None:
            await here.all_are(Status.COMPLETED, await here.submit(tier=served))
        here.lease_is_good = False
        chats = await here.submit(30, tier=Tier.DEFAULT, delay=30)
        lines = await here.submit(30, tier=Tier.BATCH, delay=30)
        here.lease_is_good = True
        runner.ring()
        await until(lambda: sum(here.began([job]) for job in chats + lines) == 20)
        assert sum(here.began([job]) for job in chats) == 11, "its own six, and half of what priority and flex leave"


async def test_suspects_run_with_nothing_beside_them(here: Place) -> None:
    suspects = await here.submit(2, delay=0.1)
    await lose_twice(here, 2)
    ordinary = await here.submit(3, delay=0.2)
    async with here.running():
        await here.all_are(Status.COMPLETED, ordinary + suspects)
    spans = {job: [entry.time for entry in here.entries(job)] for job in ordinary + suspects}
    for suspect in suspects:
        for other in ordinary:
            assert spans[suspect][0] >= spans[other][1] or spans[suspect][1] <= spans[other][0]


async def test_suspects_do_not_keep_others_waiting_for_ever(here: Place) -> None:
    suspects = await here.submit(20, delay=0.05)
    await lose_twice(here, 20)
    [ordinary] = await here.submit()
    async with here.running():
        await here.all_are(Status.COMPLETED, [ordinary])
        assert Status.QUEUED in await here.statuses(suspects)


async def test_flows_get_back_what_their_jobs_did_not_cost(here: Place) -> None:
    [job] = await here.submit(tokens=1)
    async with here.running() as runner:
        await here.all_are(Status.COMPLETED, [job])
        await runner.pay()
    assert await scalar(here.database, "SELECT vtime FROM flows") == 3, (
        "two tokens in and one out, of the ten that it was charged with"
    )


async def lose_twice(here: Place, count: int) -> None:
    """So many jobs are taken and lost twice, which makes suspects of them."""
    for _ in range(2):
        assert len(await claim(here.database, here.worker, here.model_id, Tier.DEFAULT, count)) == count
        await lease.orphan(here.database, here.worker)


async def test_what_a_queued_job_is_told_is_what_then_happens(here: Place) -> None:
    """Two workers with four slots each take forty jobs of ten tokens a second."""
    other = Place(here.database, here.engine, here.model_id, here.journal)
    await other.employ()
    jobs = await here.submit(200, delay=0.2, tokens=8)
    async with here.running() as runner, other.running():
        chores = [asyncio.create_task(each.settle()) for each in (runner, other.runner)]
        await until_asked(lambda: scalar(here.database, "SELECT tokens_per_second > 0 FROM lanes WHERE tier = 1"))
        told_at = time.time()
        told = await read.position(here.database, jobs[180])
        assert told is not None and told.tokens_ahead == 10 * told.place
        await here.all_are(Status.COMPLETED, jobs)
        for chore in chores:
            chore.cancel()
    started = {job: (await here.row(job)).started_at.timestamp() for job in jobs}
    before = sum(told_at < at < started[jobs[180]] for at in started.values())
    assert told.place == pytest.approx(before, abs=16), "as many as may be claimed while one asks"
    assert told.tokens_ahead / told.tokens_per_second == pytest.approx(started[jobs[180]] - told_at, rel=0.5, abs=1)
