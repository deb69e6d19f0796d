"""One trace through real processes: from the HTTP request through queue, claim and engine to result and webhook."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from jobs.secrets import new_key
from tests.collector import spans
from tests.jobs.hooks import SECRET
from tests.processes import Deployment, deployed, eventually
from tests.receiver import Receiver, receiving

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
CALLER: Final = "b7ad6b7169203331"
WHOLE: Final = {"POST /v1/completions", "queue", "run", "claim", "engine", "result", "webhook"}


@pytest.fixture
async def collector() -> AsyncIterator[Receiver]:
    async with receiving() as collector:
        yield collector


@pytest.fixture
async def deployment(collector: Receiver, tmp_path: Path) -> AsyncIterator[Deployment]:
    tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url(""), "OTEL_BSP_SCHEDULE_DELAY": "100"}
    more = {"LONGHAUL_SECRET_KEY": new_key(), "WEBHOOK_ALLOW": "127.0.0.1"}
    async with deployed(tmp_path, **tracing, **more) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        yield deployment


async def test_a_callers_trace_goes_on_to_the_webhook(deployment: Deployment, collector: Receiver) -> None:
    async with receiving() as receiver, deployment.client() as client:
        hook = {"url": receiver.url("/hook"), "secret": SECRET}
        answer = await client.post(
            "/v1/completions",
            json={"model": "scripted", "prompt": "hi", "max_tokens": 2, "webhook": hook},
            headers={"traceparent": f"00-{TRACE}-{CALLER}-01"},
        )
        assert answer.status_code == 202, answer.text

        async def whole() -> bool:
            return {span.name for span in spans(collector, TRACE)} >= WHOLE

        await eventually(whole, 20, "the whole trace")
        [hit] = receiver.hits
    found = {span.name: span for span in spans(collector, TRACE)}
    request, run = found["POST /v1/completions"], found["run"]
    assert request.parent == CALLER
    assert {name for name, span in found.items() if span.parent == request.id} == {"queue", "run", "webhook"}
    assert {name for name, span in found.items() if span.parent == run.id} == {"claim", "engine", "result"}
    assert hit.headers["traceparent"] == f"00-{TRACE}-{found['webhook'].id}-01"
    assert {span.service for span in found.values()} == {"longhaul-api", "longhaul-worker", "longhaul-control"}
    assert request.began <= run.began <= found["engine"].began <= found["engine"].ended <= found["result"].ended
