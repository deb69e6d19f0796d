"""The receiver takes and refuses what the verifiers of others take and refuse, and prints what came."""

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpx
import pytest
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook

from jobs import signing
from longhaul.embedded import free_port
from longhaul.receiver import Arrival, Receiver, listening
from tests.until import until

SECRET, OTHER = signing.new_secret(), signing.new_secret()
EVENT = {"id": "evt_1", "object": "event", "created_at": 1, "type": "batch.completed", "data": {"id": "batch_1"}}
BODY = json.dumps(EVENT).encode()


def signed(*secrets: str, shift: float = 0, body: bytes = BODY) -> dict[str, str]:
    """Headers as the library of Standard Webhooks' authors makes them."""
    at = int(time.time() + shift)
    when = datetime.fromtimestamp(at, UTC)
    signatures = " ".join(Webhook(secret).sign("wh_1", when, body.decode()) for secret in secrets)
    return {"webhook-id": "wh_1", "webhook-timestamp": str(at), "webhook-signature": signatures}


class Listener:
    """A receiver that is called in this process, and what it said."""

    def __init__(self, secret: str | None) -> None:
        self.told: list[Arrival] = []
        self.complaints: list[str] = []
        self._receiver = Receiver(secret, self.told.append, self.complaints.append)

    async def post(self, headers: Mapping[str, str], body: bytes = BODY) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._receiver)) as client:
            return await client.post("http://receiver/any/path", content=body, headers=dict(headers))


def openai_takes(headers: Mapping[str, str], body: bytes) -> bool:
    try:
        OpenAI(api_key="none").webhooks.verify_signature(body, dict(headers), secret=SECRET)
    except (InvalidWebhookSignatureError, ValueError):
        return False
    return True


@pytest.mark.parametrize("secrets", [(SECRET,), (SECRET, OTHER), (OTHER, SECRET)])
async def test_a_signed_webhook_is_taken_and_told(secrets: tuple[str, ...]) -> None:
    listener = Listener(SECRET)
    assert openai_takes(signed(*secrets), BODY)
    assert (await listener.post(signed(*secrets))).status_code == 204
    assert listener.told == [Arrival("wh_1", EVENT, verified=True, repeated=False)]
    assert not listener.complaints


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (lambda: signed(OTHER), "no signature is of this secret"),
        (lambda: signed(SECRET, body=BODY + b" "), "no signature is of this secret"),
        (lambda: signed(SECRET) | {"webhook-id": "wh_2"}, "no signature is of this secret"),
        (lambda: signed(SECRET) | {"webhook-signature": "v1, v2,x"}, "no signature is of this secret"),
        (lambda: signed(SECRET, shift=-310), "more than 300 seconds from now"),
        (lambda: signed(SECRET, shift=400), "more than 300 seconds from now"),
        (lambda: signed(SECRET) | {"webhook-timestamp": "now"}, "no number"),
        (lambda: signed(SECRET) | {"webhook-timestamp": "9" * 400}, "no number"),
        (lambda: signed(SECRET) | {"webhook-timestamp": ""}, "missing"),
        (dict, "missing"),
    ],
)
async def test_what_nobody_should_trust_is_refused_and_told_to_nobody(
    headers: Callable[[], dict[str, str]], fault: str
) -> None:
    listener = Listener(SECRET)
    assert not openai_takes(headers(), BODY)
    response = await listener.post(headers())
    assert response.status_code == 401
    assert fault in response.text
    assert fault in listener.complaints[0]
    assert not listener.told


async def test_a_signature_of_strange_letters_is_refused() -> None:
    signature = [(b"webhook-signature", b"v1,\xe9")]
    others = [(name.encode(), value.encode()) for name, value in signed(SECRET).items() if "signature" not in name]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Receiver(SECRET, print, print))) as client:
        assert (await client.post("http://receiver/", content=BODY, headers=signature + others)).status_code == 401


async def test_a_webhook_that_comes_again_is_known_by_its_id() -> None:
    listener = Listener(SECRET)
    await listener.post(signed(SECRET))
    await listener.post(signed(SECRET, shift=5))
    assert [arrival.repeated for arrival in listener.told] == [False, True]


async def test_without_a_secret_everything_is_told_as_unverified() -> None:
    listener = Listener(None)
    assert (await listener.post({})).status_code == 204
    assert [arrival.verified for arrival in listener.told] == [False]


@pytest.mark.parametrize("body", [b"", b"[]", b"hello", b"\xff"])
async def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    listener = Listener(None)
    assert (await listener.post({}, body)).status_code == 401
    assert "no JSON object" in listener.complaints[0]


async def test_a_body_without_end_is_refused() -> None:
    assert (await Listener(None).post({}, b" " * (2**20 + 1))).status_code == 413


async def test_the_command_prints_what_arrives_until_ctrl_c() -> None:
    port = free_port()
    command = ["-P", "-m", "longhaul", "webhooks", "listen", "--port", str(port), "--secret", SECRET]
    listening = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=PIPE, stderr=PIPE)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

            async def answers() -> bool:
                try:
                    return (await client.get("/")).status_code == 405
                except httpx.TransportError:
                    return False

            await until(answers)
            for secret in (SECRET, SECRET, OTHER):
                await client.post("/", content=BODY, headers=signed(secret))
    finally:
        listening.send_signal(signal.SIGINT)
        said, talked = await listening.communicate()
    assert said.decode().splitlines() == [
        "batch.completed  batch_1  verified  wh_1",
        "batch.completed  batch_1  verified  wh_1 (again)",
    ]
    assert talked.decode().splitlines() == [
        f"Listening on http://127.0.0.1:{port}/",
        "refused: no signature is of this secret",
    ]
    assert listening.returncode == 0


async def test_it_can_listen_for_a_while_beside_other_work() -> None:
    told: list[Arrival] = []
    before = signal.getsignal(signal.SIGTERM)
    async with listening(Receiver(SECRET, told.append, pytest.fail)) as url, httpx.AsyncClient() as client:
        assert (await client.post(url, content=BODY, headers=signed(SECRET))).status_code == 204
        assert signal.getsignal(signal.SIGTERM) is before
    assert [arrival.event for arrival in told] == [EVENT]
    async with httpx.AsyncClient() as client:
        with pytest.raises(httpx.ConnectError):
            await client.post(url, content=BODY)
