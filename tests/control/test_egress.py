"""The way out reaches receivers, tells what they said, and connects to nothing that it should not."""

import asyncio
import base64
import os
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_address
from pathlib import Path

import pytest

from control import egress as egress_module
from control.egress import Answer, Egress, Undelivered
from jobs.webhook_url import LOOPBACK, Address, Reach
from tests.control.receivers import Authority, Receiver

TRUSTING = Reach.of(LOOPBACK, "443")
BODY = b'{"id":"evt_1","object":"event"}'
PUBLIC = "93.184.215.14"
TENANT = 1


class Resolver:
    """A name server of the test's own: one answer after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)

    async def __call__(self, host: str) -> Sequence[Address]:
        self.asked.append(host)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ip_address(address) for address in answer]


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    """One that trusts this machine."""
    async with Egress(TRUSTING) as egress:
        yield egress


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as receiver:
        yield receiver


async def send(egress: Egress, url: str) -> Answer:
    return await egress.post(url, {"Webhook-Id": "wh_1"}, BODY, TENANT)


async def refused(egress: Egress, url: str) -> str:
    with pytest.raises(Undelivered) as refusal:
        await send(egress, url)
    assert refusal.value.seconds >= 0
    return refusal.value.reason


async def test_the_body_arrives_byte_for_byte_with_the_callers_headers_and_our_own(
    egress: Egress, receiver: Receiver
) -> None:
    answer = await send(egress, receiver.url())
    assert (answer.status, answer.body, answer.retry_after) == (200, b"ok", None)
    assert 0 < answer.seconds < 5
    assert receiver.bodies == [BODY]
    first, *headers = receiver.heads[0].strip().splitlines()
    assert first == "POST /hook?a=b HTTP/1.1"
    assert sorted(headers) == [f"Content-Length: {len(BODY)}", f"Host: 127.0.0.1:{receiver.port}", "Webhook-Id: wh_1"]


async def test_posts_that_follow_use_the_same_connection(egress: Egress, receiver: Receiver) -> None:
    for _ in range(3):
        await send(egress, receiver.url())
    assert receiver.connections == 1
    await asyncio.gather(*(send(egress, receiver.url()) for _ in range(3)))
    await asyncio.gather(*(send(egress, receiver.url()) for _ in range(3)))
    assert receiver.connections == 3
    assert len(receiver.bodies) == 9


async def test_a_connection_that_the_receiver_closed_is_not_used_again(egress: Egress, receiver: Receiver) -> None:
    await send(egress, receiver.url())
    await receiver.hang_up()
    assert (await send(egress, receiver.url())).status == 200
    assert receiver.connections == 2


async def test_connections_that_nobody_uses_any_more_are_closed(
    egress: Egress, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(egress, receiver.url())
    monkeypatch.setattr(egress_module, "_IDLE_SECONDS", 0)
    await receiver.hang_up()
    async with Receiver().listening() as other:
        await send(egress, other.url())
        assert list(egress._idle) == [f"http://127.0.0.1:{other.port}"]


async def test_a_redirect_is_an_answer_and_leads_nowhere(egress: Egress, receiver: Receiver) -> None:
    moved = f"HTTP/1.1 307 Moved\r\nLocation: {receiver.url()}\r\nContent-Length: 0\r\n\r\n"
    async with Receiver(moved.encode()).listening() as redirecting:
        assert (await send(egress, redirecting.url())).status == 307
    assert receiver.connections == 0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        (3600, 3600),
        (-3600, 0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9" * 100, None),
        ("NaN", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999", None),
    ],
    ids=[
        *("seconds", "none", "in an hour", "an hour ago", "no date", "negative", "a float", "too many", "no number"),
        *("a year of many digits", "a zone of many digits"),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(
    egress: Egress, said: str | int, seconds: float | None
) -> None:
    if isinstance(said, int):  # so many seconds from now, as a date
        said = format_datetime(datetime.now(UTC) + timedelta(seconds=said), usegmt=True)
    busy = f"HTTP/1.1 503 Busy\r\nRetry-After: {said}\r\nContent-Length: 0\r\n\r\n"
    async with Receiver(busy.encode()).listening() as receiver:
        answer = await send(egress, receiver.url())
    assert answer.status == 503
    assert answer.retry_after == (None if seconds is None else pytest.approx(seconds, abs=60))


async def test_of_a_long_answer_the_start_is_kept_and_the_end_is_not_read(egress: Egress) -> None:
    endless = b"HTTP/1.1 500 Oops\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1_000_000
    async with Receiver(endless).listening() as receiver:
        answer = await send(egress, receiver.url())
        again = await send(egress, receiver.url())
    assert (answer.status, answer.body) == (500, b"x" * 1024)
    assert (again.status, receiver.connections) == (500, 2)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nX-Slow:", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nslow"]
)
async def test_an_answer_that_is_not_whole_in_time_is_none(
    egress: Egress, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress_module, "TIMEOUT_SECONDS", 0.3)
    async with Receiver(start, then_silent=True).listening() as receiver:
        began = time.monotonic()
        assert await refused(egress, receiver.url()) == "no whole answer within 0.3 seconds"
        assert time.monotonic() - began < 5
    assert not egress._idle


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "the answer is not HTTP: Server disconnected"),
        (b"hello\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nless", "the answer is not HTTP: peer closed"),
    ],
)
async def test_what_is_no_answer_is_said(egress: Egress, answer: bytes, reason: str) -> None:
    async with Receiver(answer, then_close=True).listening() as receiver:
        assert (await refused(egress, receiver.url())).startswith(reason)


async def test_of_what_a_receiver_says_in_the_wrong_place_little_is_quoted(egress: Egress) -> None:
    endless = b"HTTP/1.1 200 OK\r\nX: " + b"\0" * 50_000 + b"\r\n\r\n"
    async with Receiver(endless).listening() as receiver:
        reason = await refused(egress, receiver.url())
    assert reason.startswith("the answer is not HTTP: illegal header line")
    assert len(reason) == 300


async def test_tls_that_breaks_after_its_handshake_is_a_failure_like_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))

    async def speak_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        os.write(writer.get_extra_info("socket").fileno(), b"this is no record of TLS")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(speak_no_tls, "127.0.0.1", 0, ssl=authority.serving("hooks.example"))
    port = server.sockets[0].getsockname()[1]
    async with server, Egress(Reach.of(LOOPBACK, str(port)), lookup=Resolver(["127.0.0.1"])) as egress:
        reason = await refused(egress, f"https://hooks.example:{port}/")
    assert reason == "the connection broke before the answer was whole"


async def test_nobody_listening_is_said_in_the_systems_words(egress: Egress) -> None:
    async with Receiver().listening() as gone:
        pass
    assert await refused(egress, gone.url()) == "no connection: Connection refused"


async def test_a_header_that_would_break_the_request_is_not_sent(egress: Egress, receiver: Receiver) -> None:
    with pytest.raises(Undelivered, match="cannot be sent"):
        await egress.post(receiver.url(), {"X-Note": "a\r\nHost: elsewhere"}, BODY, TENANT)
    assert receiver.heads == []


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "[::1]", "[::ffff:127.0.0.1]"],
)
async def test_a_url_whose_form_is_refused_now_is_not_even_looked_up(host: str, receiver: Receiver) -> None:
    resolver = Resolver(["127.0.0.1"])
    async with Egress(Reach.of("", str(receiver.port)), lookup=resolver) as egress:
        assert "address" in await refused(egress, receiver.url(host, "https"))
    assert (resolver.asked, receiver.connections) == ([], 0)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["::7f00:1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::1"],
        ["169.254.169.254"],
        ["0.0.0.0"],
        ["fe80::1%lo"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
    ],
)
async def test_a_name_that_leads_inside_is_not_connected_to(addresses: list[str], receiver: Receiver) -> None:
    async with Egress(Reach.of("", str(receiver.port)), lookup=Resolver(addresses)) as egress:
        reason = await refused(egress, receiver.url("hooks.example", "https"))
    assert reason == "the host hooks.example leads to an address that is not public"
    assert receiver.connections == 0


async def test_a_name_that_leads_elsewhere_the_next_time_is_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.1 stands for a public address here, 127.0.0.2 for something inside with the same port open."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
    async with (
        Receiver().listening(authority.serving("hooks.example")) as outside,
        Receiver().listening(host="127.0.0.2", port=outside.port) as inside,
        Egress(Reach.of("127.0.0.1", str(outside.port)), lookup=resolver) as egress,
    ):
        assert (await send(egress, outside.url("hooks.example", "https"))).status == 200
        await outside.hang_up()
        assert "not public" in await refused(egress, outside.url("hooks.example", "https"))
    assert resolver.asked == ["hooks.example"] * 2
    assert (outside.connections, inside.connections) == (1, 0)


async def test_the_address_that_was_judged_is_the_one_connected_to(receiver: Receiver) -> None:
    """A name that no other resolver knows: nobody looks it up a second time on the way to the socket."""
    resolver = Resolver(["127.0.0.1"])
    async with Egress(Reach.of("hooks.invalid", "443"), lookup=resolver) as egress:
        assert (await send(egress, receiver.url("hooks.invalid"))).status == 200
    assert resolver.asked == ["hooks.invalid"]
    assert f"Host: hooks.invalid:{receiver.port}" in receiver.heads[0]


async def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    resolver = Resolver(["127.0.0.3", "127.0.0.1"])
    async with Egress(Reach.of("hooks.invalid", "443"), lookup=resolver) as egress:
        assert (await send(egress, receiver.url("hooks.invalid"))).status == 200


async def test_a_name_that_does_not_exist_is_said() -> None:
    async with Egress(Reach.of("", "443")) as egress:
        assert await refused(egress, "https://hooks.invalid/") == "the host hooks.invalid was not found"


async def test_tls_proves_the_hosts_name_whatever_address_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with Receiver().listening(authority.serving("hooks.example")) as receiver:
        reach = Reach.of(LOOPBACK, str(receiver.port))
        async with Egress(reach, lookup=Resolver(["127.0.0.1"])) as egress:
            assert (await send(egress, receiver.url("hooks.example", "https"))).status == 200
            assert "Hostname mismatch" in await refused(egress, receiver.url("other.example", "https"))
    assert len(receiver.bodies) == 1


async def test_a_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async with Receiver().listening(Authority(tmp_path).serving("hooks.example")) as receiver:
        reach = Reach.of(LOOPBACK, str(receiver.port))
        async with Egress(reach, lookup=Resolver(["127.0.0.1"])) as egress:
            reason = await refused(egress, receiver.url("hooks.example", "https"))
    assert reason.startswith("no connection")
    assert "certificate verify failed" in reason
    assert receiver.bodies == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    async with Receiver().listening() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url())
        async with Egress(TRUSTING) as egress:
            assert (await send(egress, receiver.url())).status == 200
    assert (proxy.connections, receiver.connections) == (0, 1)


async def test_an_egress_proxy_is_asked_for_the_name_and_judges_it_itself() -> None:
    refusal = b"HTTP/1.1 407 Request rejected by proxy\r\nContent-Length: 0\r\n\r\n"
    async with (
        Receiver(refusal).listening() as proxy,
        Egress(Reach.of("", "443"), f"http://user:p%40ss@127.0.0.1:{proxy.port}") as egress,
    ):
        reason = await refused(egress, "https://hooks.invalid/x")
    assert reason == "the egress proxy refused: 407 Request rejected by proxy"
    assert proxy.heads[0].startswith("CONNECT hooks.invalid:443 HTTP/1.1\r\n")
    assert f"Basic {base64.b64encode(b'user:p@ss').decode()}" in proxy.heads[0]


async def test_a_trusted_receiver_without_tls_is_reached_through_the_proxy_too() -> None:
    async with (
        Receiver().listening() as proxy,
        Egress(Reach.of("hooks.invalid", ""), f"http://127.0.0.1:{proxy.port}") as egress,
    ):
        assert (await send(egress, "http://hooks.invalid/x")).status == 200
    assert proxy.heads[0].startswith("POST http://hooks.invalid:80/x HTTP/1.1\r\nHost: hooks.invalid\r\n")


async def test_an_ipv6_address_has_brackets_where_the_proxy_is_told_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy answers to CONNECT and goes on as the receiver, whose certificate is for the address."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    connects: list[bytes] = []
    relayed = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", receiver.port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        relayed.set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(2**16):
            writer.write(part)
        writer.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    async with (
        Receiver().listening(authority.serving("2606:4700:4700::1111")) as receiver,
        proxy,
        Egress(Reach.of("", "443"), f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}") as egress,
    ):
        assert (await send(egress, "https://[2606:4700:4700::1111]/x")).status == 200
        await egress.close()
        await relayed.wait()
    assert connects[0].startswith(b"CONNECT [2606:4700:4700::1111]:443 HTTP/1.1\r\n")
    assert b"Host: [2606:4700:4700::1111]:443\r\n" in connects[0]
    assert "Host: [2606:4700:4700::1111]\r\n" in receiver.heads[0]


async def test_a_trusted_ipv6_address_without_tls_has_them_too() -> None:
    async with (
        Receiver().listening() as proxy,
        Egress(Reach.of("fd00::/8", ""), f"http://127.0.0.1:{proxy.port}") as egress,
    ):
        assert (await send(egress, "http://[fd00::1]/x")).status == 200
    assert proxy.heads[0].startswith("POST http://[fd00::1]:80/x HTTP/1.1\r\nHost: [fd00::1]\r\n")
