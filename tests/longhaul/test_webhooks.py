"""`longhaul webhooks` and the secrets that sign them, against a whole deployment."""

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from openai import OpenAI
from typer.testing import Result

from tests.longhaul.conftest import Service

Command = Callable[..., Result]
Arrived = list[tuple[bytes, dict[str, str]]]


class Inbox(ThreadingHTTPServer):
    """A receiver that keeps what comes, and answers as it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.arrived: Arrived = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.arrived.append((body, dict(self.headers.items())))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        thread = Thread(target=inbox.serve_forever)
        thread.start()
        yield inbox
        inbox.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def secret(service: Service) -> str:
    """What signs for the tenant of the folder's own key."""
    made = service.run("keys", "webhook-secret", "--tenant", "default", "--rotate")
    assert made.exit_code == 0, made.stderr
    return made.stdout.strip()


def deliveries(longhaul: Command, whose: str) -> list[dict[str, Any]]:
    """Those of an endpoint or a job, once each was attempted."""
    deadline = time.monotonic() + 20
    while True:
        page = json.loads(longhaul("webhooks", "list", whose, "--json").stdout)
        found: list[dict[str, Any]] = page["data"]
        if (found and all(delivery["attempts"] for delivery in found)) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_a_submitted_job_is_told_of_signed_with_the_tenants_secret(
    longhaul: Command, secret: str, inbox: Inbox
) -> None:
    job = longhaul("submit", "Hi.", "--webhook", inbox.url).stdout.strip()
    [delivery] = deliveries(longhaul, job)
    assert (delivery["status"], delivery["event"]["data"]) == ("succeeded", {"id": job})
    [(body, headers)] = inbox.arrived
    assert OpenAI(api_key="x").webhooks.unwrap(body, headers, secret=secret).id == delivery["event"]["id"]


def test_what_arrived_is_sent_again_on_request(longhaul: Command, secret: str, inbox: Inbox) -> None:
    job = longhaul("submit", "Hi.", "--webhook", inbox.url).stdout.strip()
    [delivery] = deliveries(longhaul, job)
    again = longhaul("webhooks", "redeliver", job, delivery["id"])
    assert (again.exit_code, again.stdout) == (0, "")
    assert delivery["id"] in again.stderr
    deadline = time.monotonic() + 20
    while len(inbox.arrived) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    first, second = inbox.arrived
    assert first[0] == second[0]


def test_endpoints_and_deliveries_are_listed_as_tables(longhaul: Command, service: Service, inbox: Inbox) -> None:
    environment = service.environment
    with OpenAI(base_url=environment["OPENAI_BASE_URL"], api_key=environment["OPENAI_API_KEY"]) as sdk:
        endpoint = sdk.webhooks.create(name="listed", url=inbox.url, event_types=["batch.completed"])
        inbox.status = 503
        sdk.webhooks.test(endpoint.id, event_type="batch.completed")
    [line] = [line for line in longhaul("webhooks", "list").stdout.splitlines() if endpoint.id in line]
    assert line.split() == [endpoint.id, "listed", inbox.url, "batch.completed", "enabled"]
    head, line = longhaul("webhooks", "list", endpoint.id).stdout.splitlines()
    assert head.startswith("delivery")
    assert line.split()[1] == "batch.completed"
    assert line.split()[3:6] == ["failed", "1", "503"]


def test_what_has_no_deliveries_is_refused(longhaul: Command) -> None:
    assert longhaul("webhooks", "list", "file-1").exit_code == 2
    missing = longhaul("webhooks", "list", "job_" + "0" * 32)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "No job found" in missing.stderr


def test_a_tenants_secret_is_shown_once_and_replaced_only_when_asked(longhaul: Command) -> None:
    longhaul("keys", "create", "--tenant", "signing", "--name", "ci")
    first = longhaul("keys", "webhook-secret", "--tenant", "signing")
    assert first.stdout.startswith("whsec_")
    refused = longhaul("keys", "webhook-secret", "--tenant", "signing")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "--rotate" in refused.stderr
    second = longhaul("keys", "webhook-secret", "--tenant", "signing", "--rotate", "--keep-old", "--json")
    assert json.loads(second.stdout)["signing_secret"] != first.stdout.strip()


def test_a_tenant_that_does_not_exist_gets_no_secret(longhaul: Command) -> None:
    missing = longhaul("keys", "webhook-secret", "--tenant", "nobody")
    assert missing.exit_code == 1
    assert "nobody" in missing.stderr
