"""Responses that are kept, and the conversations that they make."""

import json
from uuid import UUID

import pytest

from control import purge
from jobs import cancel, ids, responses
from jobs.claim import claim
from jobs.database import Database
from jobs.errors import BadRequest, Conflict, NotFound, TooLarge
from jobs.finish import Finisher
from jobs.records import Flags, Json, Outcome, Tier
from jobs.states import Status
from tests.jobs.conftest import Accept, MakeJob
from tests.jobs.ledger import rows

ENDPOINT = "/v1/responses"
LIMIT = 2**20
REFUSED = Outcome(Status.FAILED, 400, b'{"error":{"message":"no"}}')


def message(text: str) -> Json:
    return {
        "type": "message",
        "id": f"msg_{text}",
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


class Talk:
    """Says something to the model and has it answered."""

    def __init__(self, database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int) -> None:
        self._database = database
        self._accept = accept
        self._new_job = new_job
        self._worker = worker
        self._model_id = model_id

    async def ask(
        self, text: str, previous: UUID | None = None, flags: Flags = Flags.NONE, endpoint: str = ENDPOINT
    ) -> UUID:
        body = json.dumps({"input": text}).encode()
        [asked] = await self._accept(self._new_job(endpoint=endpoint, body=body, previous=previous, flags=flags))
        return asked

    async def answer(self, outcome: Outcome | None = None) -> None:
        [job] = await claim(self._database, self._worker, self._model_id, Tier.DEFAULT, 1)
        text = json.loads(job.body)["input"].upper()
        body = json.dumps({"status": "completed", "output": [message(text)]}).encode()
        await Finisher(self._database, lambda ended: None).finish(job, outcome or Outcome(Status.COMPLETED, 200, body))

    async def turn(self, text: str, previous: UUID | None = None, flags: Flags = Flags.NONE) -> UUID:
        asked = await self.ask(text, previous, flags)
        await self.answer()
        return asked


@pytest.fixture
def talk(database: Database, accept: Accept, new_job: MakeJob, worker: UUID, model_id: int) -> Talk:
    return Talk(database, accept, new_job, worker, model_id)


async def tenant(database: Database) -> int:
    [row] = await rows(database, "INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    return int(row.id)


async def refused(database: Database, previous: UUID, limit: int = LIMIT) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        await responses.measure(database, 1, previous, limit)
    assert caught.value.param == "previous_response_id"
    return caught.value


async def test_a_response_is_found_with_what_was_asked_and_answered(database: Database, talk: Talk) -> None:
    first = await talk.turn("one")
    second = await talk.ask("two", first, Flags.BACKGROUND)
    found = await responses.get(database, 1, second)
    assert (found.status, found.flags, found.previous, found.body) == (Status.QUEUED, Flags.BACKGROUND, first, None)
    await talk.answer()
    found = await responses.get(database, 1, second)
    assert (found.status, found.status_code) == (Status.COMPLETED, 200)
    assert b"TWO" in (found.body or b"")
    assert found.request == b'{"input": "two"}'


async def test_who_did_not_store_it_or_is_another_or_asked_for_something_else_finds_none(
    database: Database, talk: Talk
) -> None:
    other = await tenant(database)
    stored, unstored = await talk.turn("one"), await talk.turn("two", flags=Flags.UNSTORED)
    chat = await talk.ask("three", endpoint="/v1/chat/completions")
    for owner, response in ((other, stored), (1, unstored), (1, chat), (1, ids.new())):
        for find in (responses.get, responses.delete, responses.input_items):
            with pytest.raises(NotFound, match=f"^Response with id 'resp_{response.hex}' not found.$"):
                await find(database, owner, response)
        with pytest.raises(BadRequest, match=f"^Previous response with id 'resp_{response.hex}' not found.$") as caught:
            await responses.measure(database, owner, response, LIMIT)
        assert caught.value.code == "previous_response_not_found"
    assert await responses.get(database, 1, stored)


async def test_a_conversation_is_all_turns_in_their_order(database: Database, talk: Talk) -> None:
    first = await talk.turn("one")
    second = await talk.turn("two", first)
    third = await talk.turn("three", second)
    await talk.turn("elsewhere", first)
    found = await responses.turns(database, 1, third)
    assert [turn.id for turn in found] == [first, second, third]
    assert [(turn.said[0]["content"], turn.answered[0]["content"][0]["text"]) for turn in found] == [
        ("one", "ONE"),
        ("two", "TWO"),
        ("three", "THREE"),
    ]


async def test_a_continued_request_has_every_item_before_its_own(database: Database, talk: Talk) -> None:
    earlier = await responses.turns(database, 1, await talk.turn("two", await talk.turn("one")))
    request = {"input": "three", "instructions": "be short", "previous_response_id": "resp_1"}
    assert responses.continued(request, earlier) == {
        "input": [
            {"role": "user", "content": "one"},
            message("ONE"),
            {"role": "user", "content": "two"},
            message("TWO"),
            {"role": "user", "content": "three"},
        ],
        "instructions": "be short",
        "previous_response_id": None,
    }


async def test_a_conversations_size_is_that_of_its_turns(database: Database, talk: Talk) -> None:
    first = await talk.turn("one")
    second = await talk.turn("two", first)
    found = [await responses.get(database, 1, each) for each in (first, second)]
    size = sum(len(each.request) + len(each.body or b"") for each in found)
    assert await responses.measure(database, 1, second, size) == size
    error = await refused(database, second, size - 1)
    assert isinstance(error, TooLarge)


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed"])
async def test_what_has_no_answer_is_not_continued(
    status: str, database: Database, talk: Talk, worker: UUID, model_id: int
) -> None:
    asked = await talk.ask("one")
    if status == "in_progress":
        await claim(database, worker, model_id, Tier.DEFAULT, 1)
    elif status == "cancelled":
        await cancel.cancel(database, [asked])
    elif status == "failed":
        await talk.answer(REFUSED)
    error = await refused(database, asked)
    assert f"'resp_{asked.hex}' with status '{status}'" in error.message


async def test_a_turn_that_was_deleted_ends_what_continued_it(database: Database, talk: Talk) -> None:
    first = await talk.turn("one")
    second = await talk.turn("two", first)
    third = await talk.turn("three", second)
    await responses.delete(database, 1, second)
    with pytest.raises(NotFound):
        await responses.get(database, 1, second)
    error = await refused(database, third)
    assert error.message == f"Previous response with id 'resp_{second.hex}' not found."
    with pytest.raises(BadRequest, match=second.hex):
        await responses.turns(database, 1, third)
    assert await responses.measure(database, 1, first, LIMIT)
    assert [item["content"][0]["text"] for item in await responses.input_items(database, 1, third)] == ["three"]


async def test_what_runs_is_not_deleted(database: Database, talk: Talk) -> None:
    asked = await talk.ask("one")
    with pytest.raises(Conflict, match="a response with status 'queued'"):
        await responses.delete(database, 1, asked)


async def test_a_response_was_made_from_the_items_of_its_whole_conversation(database: Database, talk: Talk) -> None:
    second = await talk.ask("two", await talk.turn("one"))
    items = await responses.input_items(database, 1, second)
    assert [item["content"][0]["text"] for item in items] == ["one", "ONE", "two"]
    assert len({item["id"] for item in items}) == 3
    assert await responses.input_items(database, 1, second) == items


async def test_a_response_is_kept_as_long_as_its_job(database: Database, talk: Talk) -> None:
    asked = await talk.turn("one")
    old = UUID(int=ids.floor(ids.seconds(asked) - 40 * 86_400).int | asked.int & (1 << 60) - 1)
    for table, column in (("jobs", "id"), ("requests", "job_id"), ("results", "job_id")):
        await rows(database, f"UPDATE {table} SET {column} = %s WHERE {column} = %s", old, asked)
    assert (await responses.get(database, 1, old)).status is Status.COMPLETED
    await purge.run(database, 30)
    with pytest.raises(NotFound):
        await responses.get(database, 1, old)
    assert (await refused(database, old)).code == "previous_response_not_found"
