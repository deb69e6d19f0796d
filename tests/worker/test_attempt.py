"""One run of one job: what stands between it and the engine, before anything is replayed."""

import json
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError

from jobs.records import Flags, Json, Outcome, Registration
from jobs.states import Status
from tests.engines.script import ENDPOINTS
from tests.engines.scripted import ScriptedEngine
from tests.worker.test_assemble import JOB
from worker.attempt import attempt
from worker.dialect import Dialect

REGISTRATION = Registration("m", (), (), ENDPOINTS, None, 1)
MESSAGES = [{"role": "user", "content": "hello"}]


async def away(job_id: UUID) -> list[Json]:
    raise OperationalError("SELECT", {}, Exception("the connection was lost"))


async def test_what_cannot_be_translated_is_a_400_that_the_engine_never_sees() -> None:
    engine = ScriptedEngine()
    dialect = Dialect(REGISTRATION, engine, away)
    body = json.dumps({"messages": MESSAGES, "best_of": 1, "n": 2, "script": {"crash": True}}).encode()
    outcome = await attempt(engine, dialect, replace(JOB, flags=Flags.DIALECT, body=body))
    assert isinstance(outcome, Outcome)
    assert (outcome.status, outcome.status_code) == (Status.FAILED, 400)
    assert json.loads(outcome.body or b"")["error"]["param"] == "best_of"


async def test_a_conversation_that_cannot_be_read_is_no_outcome() -> None:
    engine = ScriptedEngine()
    body = json.dumps({"messages": MESSAGES, "conversation_id": "c"}).encode()
    with pytest.raises(OperationalError):
        await attempt(engine, Dialect(REGISTRATION, engine, away), replace(JOB, flags=Flags.DIALECT, body=body))
