"""The HTTP request's span, and what of it is kept on the job."""

from collections.abc import AsyncIterator

import pytest

from jobs import ids
from jobs.database import Database
from jobs.settings import Settings
from tests.api.conftest import Client, Key, chat, client_of, running, value
from tests.collector import Sent, spans
from tests.receiver import Receiver, receiving

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
KEPT = "SELECT traceparent FROM details"


@pytest.fixture
async def collector() -> AsyncIterator[Receiver]:
    async with receiving() as collector:
        yield collector


@pytest.fixture
def traced(settings: Settings, collector: Receiver) -> Settings:
    return settings.model_copy(update={"otlp_endpoint": collector.url("")})


async def sent(settings: Settings, key: Key, collector: Receiver, path: str, **request: object) -> list[Sent]:
    """The spans of one request to an API that ends after it."""
    async with running(settings) as app, client_of(app, key) as client:
        method = "POST" if "json" in request else "GET"
        response = await client.request(method, path, **request)  # type: ignore[arg-type]
        assert response.status_code < 500, response.text
    return spans(collector)


async def test_a_request_is_a_span_below_the_callers_and_its_job_goes_on_from_there(
    traced: Settings, client: Client, key: Key, collector: Receiver, database: Database
) -> None:
    headers = SAMPLED | {"prefer": "respond-async"}
    [span] = await sent(traced, key, collector, "/v1/chat/completions", json=chat(), headers=headers)
    assert (span.service, span.name) == ("longhaul-api", "POST /v1/chat/completions")
    assert (span.trace, span.parent) == (TRACE, CALLER)
    assert span.facts["http.response.status_code"] == 202
    assert await value(database, KEPT) == f"00-{TRACE}-{span.id}-01"
    assert span.facts["longhaul.job_id"] == ids.job_id(await value(database, "SELECT id FROM jobs"))


async def test_without_a_caller_that_traces_a_trace_begins(
    traced: Settings, client: Client, key: Key, collector: Receiver, database: Database
) -> None:
    item = {"endpoint": "/v1/chat/completions", "body": chat()}
    [span] = await sent(traced, key, collector, "/v1/jobs", json=item)
    assert (span.name, span.parent) == ("POST /v1/jobs", "")
    assert (await value(database, KEPT)).startswith(f"00-{span.trace}-{span.id}-")


async def test_the_first_ten_jobs_of_an_array_are_traced(
    traced: Settings, client: Client, key: Key, collector: Receiver, database: Database
) -> None:
    items = [{"endpoint": "/v1/chat/completions", "body": chat()}] * 12
    [span] = await sent(traced, key, collector, "/v1/jobs", json=items)
    of_its_trace = f"starts_with(traceparent, '00-{span.trace}-{span.id}-')"
    assert await value(database, f"SELECT count(*) FROM details WHERE {of_its_trace}") == 10
    last_traced = "SELECT job_id FROM details ORDER BY job_id DESC LIMIT 1"
    assert await value(database, f"SELECT count(*) FROM jobs WHERE id > ({last_traced})") == 2


async def test_what_the_caller_does_not_sample_is_neither_sent_nor_kept(
    traced: Settings, client: Client, key: Key, collector: Receiver, database: Database
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-00", "prefer": "respond-async"}
    assert await sent(traced, key, collector, "/v1/chat/completions", json=chat(), headers=headers) == []
    assert await value(database, "SELECT count(*) FROM details") == 0


async def test_a_span_is_named_after_the_route_and_not_the_job(
    traced: Settings, client: Client, key: Key, collector: Receiver
) -> None:
    [span] = await sent(traced, key, collector, f"/v1/jobs/{ids.job_id(ids.new())}")
    assert span.name == "GET /v1/jobs/{job_id}"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
async def test_probes_are_not_traced(
    path: str, traced: Settings, client: Client, key: Key, collector: Receiver
) -> None:
    assert await sent(traced, key, collector, path) == []


async def test_while_it_is_off_nothing_is_kept(client: Client, database: Database) -> None:
    headers = SAMPLED | {"prefer": "respond-async"}
    assert (await client.post("/v1/chat/completions", json=chat(), headers=headers)).status_code == 202
    assert await value(database, "SELECT count(*) FROM details") == 0
