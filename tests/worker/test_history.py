"""The turns before a job's own, as the engine gets them: from the database, whichever worker runs it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from jobs import claim, ids, responses
from jobs.accept import Acceptor
from jobs.database import Database
from jobs.finish import Finisher
from jobs.records import ClaimedJob, NewJob, Outcome, Tier
from jobs.states import Status
from tests.worker.place import Place, place
from worker import history

SAID = {"role": "user", "content": "one"}
ANSWERED = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ONE"}]}


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[Place]:
    made = await place(database, tmp_path / "journal")
    yield made
    await made.engine.stop()


@pytest.fixture
async def first(here: Place) -> UUID:
    """A response that has been answered."""
    asked = await claimed(here, {"input": "one", "instructions": "shout"})
    body = json.dumps({"output": [ANSWERED]}).encode()
    await Finisher(here.database, lambda ended: None).finish(asked, Outcome(Status.COMPLETED, 200, body))
    return asked.id


async def submitted(here: Place, body: object, previous: UUID | None = None) -> UUID:
    """A response that waits for a worker."""
    asked = NewJob(
        id=ids.new(),
        tenant_id=1,
        model_id=here.model_id,
        model=here.engine.model,
        endpoint="/v1/responses",
        body=json.dumps(body).encode(),
        tier=Tier.DEFAULT,
        waited=False,
        cost=10,
        timeout_seconds=60,
        previous=previous,
    )
    return (await Acceptor(here.database, lambda model, count: None).accept(asked)).id


async def claimed(here: Place, body: object, previous: UUID | None = None) -> ClaimedJob:
    """A response that a worker has just claimed."""
    await submitted(here, body, previous)
    [job] = await claim.claim(here.database, here.worker, here.model_id, Tier.DEFAULT, 1)
    return job


async def test_a_job_that_continues_nothing_stays_as_it_is(here: Place) -> None:
    job = await claimed(here, {"input": "one"})
    assert await history.joined(here.database, job) is job


@pytest.mark.parametrize("given", ["two", [{"role": "user", "content": "two"}]])
async def test_the_turns_before_come_first_without_their_instructions(here: Place, first: UUID, given: object) -> None:
    body = {"input": given, "temperature": 0, "previous_response_id": ids.response_id(first)}
    whole = await history.joined(here.database, await claimed(here, body, first))
    assert isinstance(whole, ClaimedJob)
    assert json.loads(whole.body) == {
        "input": [SAID, ANSWERED, {"role": "user", "content": "two"}],
        "temperature": 0,
        "previous_response_id": None,
    }


async def test_a_conversation_that_went_while_the_job_waited_fails_it(
    here: Place, first: UUID, database: Database
) -> None:
    job = await claimed(here, {"input": "two"}, first)
    await responses.delete(database, 1, first)
    outcome = await history.joined(here.database, job)
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 400)
    assert json.loads(outcome.body or b"")["error"] == {
        "message": f"Previous response with id 'resp_{first.hex}' not found.",
        "type": "invalid_request_error",
        "param": "previous_response_id",
        "code": "previous_response_not_found",
    }


async def test_the_runner_ends_such_a_job_and_never_asks_the_engine(here: Place, first: UUID) -> None:
    asked = await submitted(here, {"input": "two"}, first)
    await responses.delete(here.database, 1, first)
    async with here.running():
        await here.all_are(Status.FAILED, [asked])
    assert not here.entries(asked)
