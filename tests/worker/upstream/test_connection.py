"""HTTP/1.1 as servers really speak it: lengths, chunks, none of both; and the many ways in which a connection ends."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from longhaul.embedded import free_port
from tests.control.receivers import Authority, Receiver
from worker.engines.upstream.connection import ConnectionLost, Connections, Unreachable, read

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-Kind: test\r\n\r\nhello"


class Peer:
    """A server that answers its requests, one by one, with these bytes, and keeps their heads and bodies."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: list[bytes] = []
        self.hangs_up = False
        self.opened = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.bodies.append(await reader.readexactly(length))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if self.hangs_up or not answer:
                    break
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    async with await asyncio.start_server(peer, "127.0.0.1", peer.port):
        yield peer


@pytest.fixture
async def connections(peer: Peer) -> AsyncIterator[Connections]:
    connections = Connections(f"http://127.0.0.1:{peer.port}/v1", "sk-1")
    yield connections
    connections.close()


async def ask(connections: Connections, body: bytes = b"{}") -> tuple[int, bytes]:
    connection = await connections.send("POST", "/v1/x", body, [(b"x-request-id", b"7")])
    answer = connection.status, await read(connection, 1000)
    connections.keep(connection)
    return answer


async def test_a_request_goes_out_whole_with_its_key_and_headers(peer: Peer, connections: Connections) -> None:
    peer.answers = [HELLO]
    assert await ask(connections, b'{"n": 1}') == (200, b"hello")
    lines = peer.heads[0].decode().lower().splitlines()
    assert lines[0] == "post /v1/x http/1.1"
    assert {"authorization: bearer sk-1", "x-request-id: 7", "content-length: 8", "accept-encoding: identity"} <= {
        *lines
    }
    assert peer.bodies == [b'{"n": 1}']


async def test_one_connection_carries_many_requests(peer: Peer, connections: Connections) -> None:
    peer.answers = [HELLO] * 3
    for _ in range(3):
        assert await ask(connections) == (200, b"hello")
    assert peer.opened == 1


async def test_requests_at_the_same_time_have_connections_of_their_own(peer: Peer, connections: Connections) -> None:
    peer.answers = [HELLO] * 4
    answers = await asyncio.gather(ask(connections), ask(connections))
    assert [*answers] == [(200, b"hello")] * 2
    assert peer.opened == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ],
    ids=["chunked", "interim", "old"],
)
async def test_a_body_is_read_to_its_end(peer: Peer, connections: Connections, answer: bytes) -> None:
    peer.answers = [answer]
    assert await ask(connections) == (200, b"hello")


async def test_a_body_without_a_length_ends_with_its_connection(peer: Peer, connections: Connections) -> None:
    peer.answers, peer.hangs_up = [b"HTTP/1.1 200 OK\r\n\r\nhello", HELLO], True
    assert await ask(connections) == (200, b"hello")
    assert await ask(connections) == (200, b"hello")
    assert peer.opened == 2


async def test_a_connection_that_is_to_be_closed_is_not_used_again(peer: Peer, connections: Connections) -> None:
    peer.answers = [HELLO.replace(b"X-Kind: test", b"connection: close"), HELLO]
    assert [await ask(connections) for _ in range(2)] == [(200, b"hello")] * 2
    assert peer.opened == 2


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_loss(peer: Peer, connections: Connections) -> None:
    peer.answers, peer.hangs_up = [HELLO] * 3, True
    for _ in range(3):
        assert await ask(connections) == (200, b"hello")
    assert len(peer.bodies) == peer.opened == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n",
        b"HTTP/1.1 200",
        b"220 mail.example ESMTP\r\n",
        b"",
    ],
    ids=["short", "cut", "head", "stranger", "nothing"],
)
async def test_an_answer_that_does_not_end_is_a_lost_connection(
    peer: Peer, connections: Connections, answer: bytes
) -> None:
    peer.answers, peer.hangs_up = [answer], True
    with pytest.raises(ConnectionLost):
        await ask(connections)


async def test_where_nobody_listens_nothing_was_sent() -> None:
    with pytest.raises(Unreachable, match="cannot be reached"):
        await Connections(f"http://127.0.0.1:{free_port()}/v1").send("POST", "/v1/x", b"{}")


async def test_a_server_that_dies_of_a_request_got_it(peer: Peer, connections: Connections) -> None:
    """What was sent on a kept connection may be what killed it, even if then nobody answers a new one."""
    peer.answers = [HELLO, b""]
    await ask(connections)
    connections._port = free_port()
    with pytest.raises(ConnectionLost):
        await ask(connections)


async def test_https_is_spoken_with_whom_the_machine_trusts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with Receiver().listening(authority.serving("localhost")) as trusted:
        connections = Connections(f"https://localhost:{trusted.port}/v1")
        assert await ask(connections) == (200, b"ok")
        connections.close()
    async with Receiver().listening(authority.serving("elsewhere.example")) as stranger:
        with pytest.raises(Unreachable, match="certificate"):
            await ask(Connections(f"https://localhost:{stranger.port}/v1"))
