"""The scripted engine does what it is told, and its journal says what it did."""

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests import journal
from tests.engines.script import ENDPOINTS
from tests.engines.scripted import ScriptedEngine
from worker.replay import Replay

CHAT = "/v1/chat/completions"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LONGHAUL_TEST_JOURNAL", str(tmp_path / "journal"))
    return tmp_path / "journal"


@pytest.fixture
def engine(path: Path) -> ScriptedEngine:
    return ScriptedEngine()


async def ask(engine: ScriptedEngine, script: dict[str, Any], job: str = "a") -> tuple[int, Any]:
    body = {"request_id": f"{job}-1", "messages": [{"role": "user", "content": "one two three"}], "script": script}
    assert jsonschema_rs.validator_for(ENDPOINTS[CHAT]).is_valid(body)
    async with Replay(engine.app, CHAT, json.dumps(body).encode()) as response:
        return response.status, json.loads(b"".join([chunk async for chunk in response]))


def events(path: Path) -> list[tuple[str, str, int]]:
    return [(entry.event, entry.job, entry.tokens) for entry in journal.read(path)]


async def test_it_answers_with_tokens_counted_from_the_request(engine: ScriptedEngine, path: Path) -> None:
    status, body = await ask(engine, {"tokens": 5})
    assert status == 200
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert body["id"] == "chatcmpl-a-1"
    assert events(path) == [("start", "a", 0), ("end", "a", 5)]


async def test_it_fails_only_as_often_as_it_is_told(engine: ScriptedEngine) -> None:
    statuses = [(await ask(engine, {"fail": 500, "times": 2}))[0] for _ in range(3)]
    assert statuses == [500, 500, 200]


async def test_a_disconnect_ends_it(engine: ScriptedEngine, path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ask(engine, {"hang": True})
    assert events(path) == [("start", "a", 0), ("abort", "a", 0)]


async def test_its_death_is_the_end_of_all_that_runs_on_it(engine: ScriptedEngine, path: Path) -> None:
    killer = {"die": True, "delay": 0.01}
    answers = await asyncio.gather(ask(engine, {"hang": True}, "a"), ask(engine, killer, "b"))
    assert [status for status, _ in answers] == [500, 500]
    assert not engine.alive()
    assert not journal.unfinished(journal.read(path))


async def test_a_crash_raises_and_the_engine_lives(engine: ScriptedEngine) -> None:
    with pytest.raises(RuntimeError):
        await ask(engine, {"crash": True})
    assert engine.alive()


async def test_what_a_killed_process_had_begun_stays_unfinished(path: Path) -> None:
    written = journal.Journal(path)
    written.write("start", "a-1")
    written.write("start", "b-1")
    written.write("end", "b-1", 7)
    entries = journal.read(path)
    assert [entry.job for entry in journal.unfinished(entries)] == ["a"]
    assert journal.starts(entries) == {"a": 1, "b": 1}
    assert journal.ends(entries) == {"b": 1}
    written.close()


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "nothing") == []


async def test_it_streams_a_response_that_ends_as_the_whole_one(engine: ScriptedEngine) -> None:
    body = {"request_id": "resp_a", "input": "one two", "script": {"text": "yes indeed"}}
    async with Replay(engine.app, "/v1/responses", json.dumps(body).encode()) as response:
        whole = json.loads(b"".join([chunk async for chunk in response]))
    async with Replay(engine.app, "/v1/responses", json.dumps(body | {"stream": True}).encode()) as response:
        said = b"".join([chunk async for chunk in response])
    events = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["response"] == whole | {"created_at": events[-1]["response"]["created_at"]}
    deltas = [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(deltas) == whole["output"][0]["content"][0]["text"] == "yes indeed"


SIZES: dict[str, Any] = {"type": "object", "properties": {"size": {"type": "integer"}, "colour": {"type": "string"}}}
PAINT = {"type": "function", "function": {"name": "paint", "parameters": SIZES}}
TOLD = [{"role": "user", "content": "paint 3 of them 'bright red'"}]


async def chat(engine: ScriptedEngine, **body: Any) -> dict[str, Any]:
    async with Replay(engine.app, CHAT, json.dumps({"messages": TOLD, **body}).encode()) as response:
        answer: dict[str, Any] = json.loads(b"".join([chunk async for chunk in response]))
    choice: dict[str, Any] = answer["choices"][0]
    return choice


async def test_a_tool_is_called_with_what_the_user_said(engine: ScriptedEngine) -> None:
    choice = await chat(engine, tools=[PAINT])
    [call] = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "paint")
    assert json.loads(call["function"]["arguments"]) == {"size": 3, "colour": "bright red"}


@pytest.mark.parametrize(
    ("choice", "last", "calls"),
    [("auto", "user", 1), ("auto", "tool", 0), ("none", "user", 0), ("required", "tool", 1)],
)
async def test_a_tool_is_called_where_it_may_or_must_be(
    engine: ScriptedEngine, choice: str, last: str, calls: int
) -> None:
    answer = await chat(engine, tools=[PAINT], tool_choice=choice, messages=[{"role": last, "content": "painted"}])
    assert len(answer["message"].get("tool_calls", ())) == calls


async def test_a_form_is_filled_in(engine: ScriptedEngine) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sizes", "schema": SIZES}}
    choice = await chat(engine, response_format=form)
    assert json.loads(choice["message"]["content"]) == {"size": 3, "colour": "bright red"}


async def test_a_call_is_streamed_under_its_name_and_piece_by_piece(engine: ScriptedEngine) -> None:
    whole = (await chat(engine, tools=[PAINT]))["message"]["tool_calls"][0]["function"]
    body = {"messages": TOLD, "tools": [PAINT], "stream": True}
    async with Replay(engine.app, CHAT, json.dumps(body).encode()) as response:
        said = b"".join([chunk async for chunk in response])
    chunks = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert deltas[0]["function"] == {"name": whole["name"], "arguments": ""}
    assert "".join(delta["function"]["arguments"] for delta in deltas) == whole["arguments"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-2:] == [None, "tool_calls"]
