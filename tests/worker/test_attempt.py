"""One run of one job: what stands between it and the engine, before anything is replayed."""

import json
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from jobs.records import Flags, Json, Outcome, Registration
from jobs.states import Status
from jobs.streams import Writer
from tests.engines.script import ENDPOINTS
from tests.engines.scripted import ScriptedEngine
from tests.worker.test_assemble import JOB
from worker.asgi import Receive, Scope, Send
from worker.attempt import BackOff, attempt
from worker.dialect import Dialect
from worker.engines import EngineDead, JobLost
from worker.tokens import TOKENIZE

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
REGISTRATION = Registration("m", (), (), ENDPOINTS, None, 1)
MESSAGES = [{"role": "user", "content": "hello"}]
WRITER = Writer("redis://127.0.0.1:1/0", "unused")


async def away(job_id: UUID) -> list[Json]:
    raise OperationalError("SELECT", {}, Exception("the connection was lost"))


@pytest.mark.parametrize(
    ("asked", "flags"),
    [({"best_of": 1, "n": 2}, Flags.DIALECT), ({"best_of": 2, "stream": True}, Flags.DIALECT | Flags.STREAMS)],
    ids=["whole", "stream"],
)
async def test_what_cannot_be_translated_is_a_400_that_the_engine_never_sees(asked: Json, flags: Flags) -> None:
    engine = ScriptedEngine()
    dialect = Dialect(REGISTRATION, engine, away, separate_caches=False)
    body = json.dumps({"messages": MESSAGES, **asked, "script": {"crash": True}}).encode()
    outcome = await attempt(engine, dialect, WRITER, replace(JOB, flags=flags, body=body))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.status_code, outcome.log) == (Status.FAILED, 400, None)
    assert json.loads(outcome.body or b"")["error"]["param"] == "best_of"


@pytest.mark.parametrize(
    ("endpoint", "asked", "samples"),
    [(CHAT, {"messages": MESSAGES}, 8), (COMPLETIONS, {"prompt": ["one two", "three"]}, 16)],
)
async def test_an_engine_that_makes_too_few_samples_fails_the_job_whose_tokens_count(
    endpoint: str, asked: Json, samples: int
) -> None:
    engine = ScriptedEngine()
    dialect = Dialect(REGISTRATION, engine, away, separate_caches=False)
    body = json.dumps({**asked, "best_of": 8, "n": 2}).encode()
    outcome = await attempt(engine, dialect, WRITER, replace(JOB, endpoint=endpoint, flags=Flags.DIALECT, body=body))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.status_code, outcome.usage.output) == (Status.FAILED, 400, 16)
    error = json.loads(outcome.body or b"")["error"]
    assert (error["param"], error["code"]) == ("best_of", "invalid_value")
    assert f"needs {samples} samples, and this model's engine made 1" in error["message"]


class Untokenizing(ScriptedEngine):
    """Loses the connection on which it is asked for tokens, and dies of it if it is `frail`."""

    frail = False

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == TOKENIZE:
            if self.frail:
                await self.stop()
            raise JobLost("the connection was lost")
        await super()._serve(scope, receive, send)


@pytest.mark.parametrize("frail", [False, True])
async def test_a_connection_lost_before_the_replay_is_the_engines_trouble_unless_it_is_dead(frail: bool) -> None:
    engine = Untokenizing()
    engine.frail = frail
    described = replace(REGISTRATION, endpoints={**ENDPOINTS, TOKENIZE: {}})
    body = json.dumps({"messages": MESSAGES, "logit_bias": {"yes": 1}}).encode()
    running = attempt(
        engine,
        Dialect(described, engine, away, separate_caches=False),
        WRITER,
        replace(JOB, flags=Flags.DIALECT, body=body),
    )
    if frail:
        with pytest.raises(EngineDead):
            await running
    else:
        assert isinstance(await running, BackOff)


async def test_a_conversation_that_cannot_be_read_is_no_outcome() -> None:
    engine = ScriptedEngine()
    body = json.dumps({"messages": MESSAGES, "conversation_id": "c"}).encode()
    with pytest.raises(OperationalError):
        await attempt(
            engine,
            Dialect(REGISTRATION, engine, away, separate_caches=False),
            WRITER,
            replace(JOB, flags=Flags.DIALECT, body=body),
        )
