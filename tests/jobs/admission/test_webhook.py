"""What may be said about a webhook, and how it is stored."""

import json
from typing import Any

import pytest

from jobs import events, webhooks
from jobs.admission.sealer import Sealer
from jobs.admission.webhook import Webhook, endpoint_name, event_types, headers, read
from jobs.database import Database
from jobs.errors import BadRequest
from jobs.records import OwnWebhook
from jobs.secrets import NoSecretKey, Vault
from jobs.webhook_url import Reach
from tests.jobs.hooks import VAULT

REACH = Reach.of("", "443")
URL = "https://example.com/hook"


def asked(value: Any) -> Webhook:
    found = read(value, REACH, "webhook", events.JOB, events.JOB)
    assert found is not None
    return found


def test_a_url_alone_is_told_of_every_end() -> None:
    webhook = asked(URL)
    assert (webhook.url, webhook.event_types, webhook.secret) == (URL, events.JOB, None)
    assert (webhook.headers, webhook.includes_result) == ({}, False)


def test_an_object_says_more() -> None:
    webhook = asked(
        {"url": URL, "events": ["job.failed"], "secret": "whsec_YWJj", "headers": {"X-A": "b c"}, "include": "result"}
    )
    assert (webhook.event_types, webhook.secret) == (("job.failed",), "whsec_YWJj")
    assert (webhook.headers, webhook.includes_result) == ({"X-A": "b c"}, True)


def test_none_is_none() -> None:
    assert read(None, REACH, "webhook", events.JOB, events.JOB) is None


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        (7, "webhook", "invalid_type"),
        ([URL], "webhook", "invalid_type"),
        ("http://example.com", "webhook", "invalid_url"),
        ("https://127.0.0.1/", "webhook", "invalid_url"),
        ({}, "webhook.url", "missing_required_parameter"),
        ({"url": 7}, "webhook.url", "invalid_type"),
        ({"url": "https://10.0.0.1/"}, "webhook.url", "invalid_url"),
        ({"url": URL, "hearders": {}}, "webhook.hearders", "unknown_parameter"),
        ({"url": URL, "events": "job.failed"}, "webhook.events", "invalid_type"),
        ({"url": URL, "events": []}, "webhook.events", "empty_array"),
        ({"url": URL, "events": ["job.failed", "batch.failed"]}, "webhook.events[1]", "invalid_value"),
        ({"url": URL, "events": [{}]}, "webhook.events[0]", "invalid_value"),
        ({"url": URL, "secret": 7}, "webhook.secret", "invalid_value"),
        ({"url": URL, "secret": ""}, "webhook.secret", "invalid_value"),
        ({"url": URL, "secret": "whsec_!"}, "webhook.secret", "invalid_value"),
        ({"url": URL, "secret": "\ud800"}, "webhook.secret", "invalid_value"),
        ({"url": URL, "include": "everything"}, "webhook.include", "invalid_value"),
        ({"url": URL, "headers": ["X-A"]}, "webhook.headers", "invalid_type"),
    ],
)
def test_every_fault_is_named(value: Any, param: str, code: str) -> None:
    with pytest.raises(BadRequest) as refused:
        asked(value)
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    "name",
    (
        *("Host", "content-type", "Content-Length", "webhook-id", "Webhook-Signature", "connection"),
        *("Transfer-Encoding", "Proxy-Authorization", "TE", "upgrade", "keep-alive", "Trailer", "User-Agent"),
    ),
)
def test_headers_that_are_ours_or_the_connections_are_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="is set by this server") as refused:
        headers({name: "x"}, "headers")
    assert refused.value.param == f"headers.{name}"


@pytest.mark.parametrize(
    "value",
    (
        *({"X-A": "a\r\nX-B: c"}, {"X-A": "a\x00"}, {"X-A": " a"}, {"X-A": "ü"}, {"X-A": 7}, {"X A": "b"}, {"": "b"}),
        *({"X-A": "1", "x-a": "2"}, {f"X-{number}": "" for number in range(21)}, {"X-A": "a" * 5000}),
    ),
)
def test_headers_that_could_not_be_sent_as_they_are_are_refused(value: Any) -> None:
    with pytest.raises(BadRequest):
        headers(value, "headers")


def test_each_event_is_asked_for_once() -> None:
    assert event_types(["job.failed", "batch.failed", "job.failed"], "event_types") == ("job.failed", "batch.failed")


@pytest.mark.parametrize("name", [None, "", 7, "a\nb", "x" * 257])
def test_an_endpoint_has_a_visible_name(name: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        endpoint_name(name)
    assert refused.value.param == "name"


async def test_what_is_stored_tells_nothing(database: Database) -> None:
    webhook = asked({"url": URL, "secret": "whsec_YWJj", "headers": {"Authorization": "Bearer x"}})
    stored = await Sealer(database, VAULT).seal(1, webhook)
    assert isinstance(stored, OwnWebhook)
    assert json.loads(VAULT.open(stored.target)) == {
        "url": URL,
        "secret": "whsec_YWJj",
        "headers": {"Authorization": "Bearer x"},
    }
    for hidden in (b"example.com", b"whsec", b"Bearer"):
        assert hidden not in stored.target


async def test_webhooks_to_one_host_share_a_lane_and_tenants_do_not(database: Database) -> None:
    sealer = Sealer(database, VAULT)

    async def lane(tenant: int, url: str) -> int:
        return (await sealer.seal(tenant, asked({"url": url, "secret": "x"}))).lane

    assert await lane(1, "https://a.example/1") == await lane(1, "https://A.example:443/2?x")
    assert await lane(1, "https://a.example/1") != await lane(1, "https://b.example/1")
    assert await lane(1, "https://a.example/1") != await lane(2, "https://a.example/1")


async def test_something_must_sign(database: Database) -> None:
    sealer = Sealer(database, VAULT)
    with pytest.raises(BadRequest, match="longhaul keys webhook-secret") as refused:
        await sealer.seal(1, asked(URL))
    assert (refused.value.param, refused.value.code) == ("webhook.secret", "webhook_secret_missing")
    await webhooks.rotate_default(database, VAULT, "default")
    assert (await sealer.seal(1, asked(URL))).event_types == events.JOB


async def test_a_server_without_a_key_refuses_by_name(database: Database) -> None:
    with pytest.raises(NoSecretKey, match="'webhook'"):
        await Sealer(database, Vault("")).seal(1, asked({"url": URL, "secret": "x"}))
