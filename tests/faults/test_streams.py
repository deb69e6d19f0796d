"""Streams whose worker, Redis or client goes away in the middle, on real processes."""

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx

from jobs.records import Json
from tests import journal
from tests.faults import invariants
from tests.processes import Deployment, deployed, eventually

CHAT = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"


class Hearing:
    """One request, heard piece by piece; what it heard stays when the connection breaks."""

    def __init__(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> None:
        self.body = b""
        self.status = 0
        self.task = asyncio.create_task(self._hear(client, method, path, request))

    async def _hear(self, client: httpx.AsyncClient, method: str, path: str, request: Json) -> bytes:
        async with client.stream(method, path, **request) as response:
            self.status = response.status_code
            async for piece in response.aiter_raw():
                self.body += piece
        return self.body

    @property
    def words(self) -> str:
        """The text of the chunks so far."""
        return "".join(
            chunk["choices"][0]["delta"].get("content") or ""
            for chunk in map(json.loads, self.data)
            if chunk.get("choices")
        )

    @property
    def data(self) -> list[bytes]:
        lines = [line for line in self.body.split(b"\n") if line.startswith(b"data: {")]
        return [line.removeprefix(b"data: ") for line in lines]

    async def has_heard(self, words: int) -> None:
        async def heard() -> bool:
            return self.words.count("word") >= words

        await eventually(heard, 30, f"{words} words heard")


def ask(client: httpx.AsyncClient, **script: Any) -> Hearing:
    return Hearing(client, "POST", CHAT, json=request(**script))


def request(**script: Any) -> Json:
    return {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "stream": True, "script": script}


async def submit(client: httpx.AsyncClient, **script: Any) -> str:
    response = await client.post("/v1/jobs", json={"endpoint": CHAT, "body": request(**script)})
    identity: str = response.json()["id"]
    return identity


async def ended(deployment: Deployment, expected: dict[str, int], seconds: float = 30) -> None:
    async def they_have() -> bool:
        return await invariants.statuses(deployment.database) == expected

    await eventually(they_have, seconds, str(expected))


def starts(deployment: Deployment) -> int:
    return sum(journal.starts(journal.read(deployment.journal)).values())


async def started(deployment: Deployment, runs: int) -> None:
    async def begun() -> bool:
        return starts(deployment) == runs

    await eventually(begun, 30, f"{runs} runs")


async def test_a_worker_killed_in_mid_stream_ends_it_with_an_error(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        await deployment.start_worker("other", LONGHAUL_TEST_MODEL="other")
        async with deployment.client() as client:
            hearing = ask(client, tokens=1000, pace=0.05)
            await hearing.has_heard(3)
            worker.kill()
            body = await asyncio.wait_for(hearing.task, 30)
            assert body.endswith(DONE)
            assert json.loads(hearing.data[-1])["error"]["code"] == "worker_lost"
            await ended(deployment, {"failed": 1})
            await deployment.start_worker("next")
            done = await submit(client, tokens=2)
            await client.get(f"/v1/jobs/{done}", params={"wait": 20})
        assert await invariants.statuses(deployment.database) == {"failed": 1, "completed": 1}
        assert starts(deployment) == 2


async def test_before_its_first_word_another_worker_says_it_to_the_same_reader(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client:
            hearing = ask(client, tokens=3, hang=True, times=1)
            await started(deployment, 1)
            worker.kill()
            await deployment.start_worker("other")
            await asyncio.wait_for(hearing.task, 30)
        assert hearing.words == "word word word"
        assert hearing.body.endswith(DONE)
        await ended(deployment, {"completed": 1})


async def test_a_job_that_was_left_alone_runs_again_and_its_readers_go_on(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client:
            job = await submit(client, tokens=6, break_after=3, hang=True, times=1)
            reading = Hearing(client, "GET", f"/v1/jobs/{job}/events")
            await reading.has_heard(3)
            worker.kill()
            await asyncio.wait_for(reading.task, 30)
            assert json.loads(reading.data[-1])["error"]["code"] == "worker_lost"
            [last] = [line for line in reading.body.split(b"\n") if line.startswith(b"id: ")][-1:]
            await deployment.start_worker("other")
            again = Hearing(client, "GET", f"/v1/jobs/{job}/events", headers={"Last-Event-ID": last[4:].decode()})
            await asyncio.wait_for(again.task, 30)
            numbers = [line[4:].split(b"-") for line in again.body.split(b"\n") if line.startswith(b"id: ")]
            first = int(last.rpartition(b"-")[2]) + 1
            assert numbers == [[b"2", b"%d" % number] for number in range(first, first + 8)]
            assert again.words == "word word word word word word"
            shown = (await client.get(f"/v1/jobs/{job}")).json()
        assert shown["status"] == "completed"
        assert shown["response"]["body"]["choices"][0]["message"]["content"] == again.words


async def test_a_drain_lets_streams_end_and_gives_up_the_rest(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker(LONGHAUL_DRAIN="2")
        async with deployment.client() as client:
            short = ask(client, tokens=20, pace=0.05)
            long = ask(client, tokens=1000, pace=0.05)
            await short.has_heard(1)
            await long.has_heard(1)
            worker.send(signal.SIGTERM)
            await asyncio.wait_for(asyncio.gather(short.task, long.task), 30)
            assert await worker.ended(20) == 0
        assert short.words.count("word") == 20
        assert json.loads(long.data[-1])["error"]["code"] == "worker_lost"
        assert await invariants.statuses(deployment.database) == {"completed": 1, "failed": 1}


async def test_an_engine_that_dies_in_mid_stream_is_no_end_of_it(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        async with deployment.client() as client:
            job = await submit(client, tokens=6, break_after=3, die=True, times=1)
            assert await worker.ended(30) == 1
            await deployment.start_worker("other")
            shown = (await client.get(f"/v1/jobs/{job}", params={"wait": 30})).json()
        assert shown["status"] == "completed"
        assert shown["response"]["body"]["choices"][0]["message"]["content"].count("word") == 6


async def test_an_engines_error_in_mid_stream_is_its_last_word(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            hearing = ask(client, tokens=6, break_after=3, fail=500)
            await asyncio.wait_for(hearing.task, 30)
            assert hearing.words == "word word word"
            assert json.loads(hearing.data[-1])["error"]["message"] == "It was told to fail."
            assert hearing.body.endswith(DONE)
            crashed = ask(client, tokens=6, break_after=3, crash=True)
            await asyncio.wait_for(crashed.task, 30)
            assert json.loads(crashed.data[-1])["error"]["code"] == "server_error"
            late = Hearing(client, "POST", CHAT, json=request(tokens=6, break_after=3, hang=True) | {"timeout": 1})
            await asyncio.wait_for(late.task, 30)
            assert json.loads(late.data[-1])["error"]["code"] == "request_timeout"
        await ended(deployment, {"failed": 3})


async def test_redis_lost_in_mid_stream_with_all_it_held_loses_no_word(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            hearing = ask(client, tokens=60, pace=0.05)
            left = await submit(client, tokens=60, pace=0.05)
            reading = Hearing(client, "GET", f"/v1/jobs/{left}/events")
            await hearing.has_heard(3)
            await reading.has_heard(3)
            await asyncio.to_thread(deployment.redis.stop, immediate=True)
            for file in (tmp_path / "redis").rglob("*"):
                if file.suffix in (".aof", ".rdb") or ("appendonly" in file.name and file.is_file()):
                    file.unlink()
            await asyncio.sleep(1)
            await asyncio.to_thread(deployment.redis.start)
            await asyncio.wait_for(asyncio.gather(hearing.task, reading.task), 30)
        for heard in (hearing, reading):
            assert heard.words.count("word") == 60
            assert b'"error":{' not in heard.body
        assert hearing.body.endswith(DONE)
        await ended(deployment, {"completed": 2})


async def test_redis_away_until_after_the_end_readers_get_the_rest_from_the_result(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            hearing = ask(client, tokens=30, pace=0.05)
            await hearing.has_heard(3)
            await asyncio.to_thread(deployment.redis.stop, immediate=True)
            await asyncio.wait_for(hearing.task, 30)
            begun_without = ask(client, tokens=5)
            await asyncio.wait_for(begun_without.task, 30)
        assert hearing.words.count("word") == 30
        assert begun_without.words.count("word") == 5
        assert hearing.body.endswith(DONE) and begun_without.body.endswith(DONE)


async def test_readers_of_events_outlive_the_database(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        worker, _ = await deployment.start_worker()
        worker.send(signal.SIGTERM)
        assert await worker.ended(20) == 0
        async with deployment.client() as client:
            plain = await client.post("/v1/jobs", json={"endpoint": CHAT, "body": request() | {"stream": False}})
            streamed = await submit(client, tokens=40, pace=0.05)
            jobs = plain.json()["id"], streamed
            readings = [Hearing(client, "GET", f"/v1/jobs/{job}/events") for job in jobs]

            async def both_wait() -> bool:
                return all(b"event: job.queued" in reading.body for reading in readings)

            await eventually(both_wait, 30, "two readers")
            await asyncio.to_thread(deployment.postgres.stop, immediate=True)
            await asyncio.sleep(2)  # a look at the plain job is due every second
            await asyncio.to_thread(deployment.postgres.start)
            deployment.spawn("worker", "other")
            await asyncio.wait_for(asyncio.gather(*(reading.task for reading in readings)), 30)
        assert all(b"event: job.completed" in reading.body for reading in readings)
        assert readings[1].words.count("word") == 40


async def test_a_client_that_goes_away_in_mid_stream_frees_the_slot(tmp_path: Path) -> None:
    async with deployed(tmp_path, LONGHAUL_TEST_SLOTS="1", LONGHAUL_LEASE="60") as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        async with deployment.client() as client:
            hearing = ask(client, tokens=1000, pace=0.05)
            await hearing.has_heard(2)
            hearing.task.cancel()
            await ended(deployment, {"cancelled": 1}, seconds=10)
            other = ask(client, tokens=2)
            await asyncio.wait_for(other.task, 10)
        assert other.words == "word word"
        assert [entry.event for entry in journal.read(deployment.journal)][:2] == ["start", "abort"]


async def test_a_reader_that_stalls_holds_up_nobody_and_misses_nothing(tmp_path: Path) -> None:
    async with deployed(tmp_path) as deployment:
        await deployment.start_api()
        await deployment.start_worker()
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", deployment.port))
        body = json.dumps(request(tokens=40_000)).encode()  # 8 MB of events: more than the API's buffers hold
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {deployment.key}\r\n"
        narrow.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        async with deployment.client() as client:
            await started(deployment, 1)
            beside = ask(client, tokens=3)
            await asyncio.wait_for(beside.task, 30)
        assert beside.words == "word word word"
        await ended(deployment, {"completed": 2})
        reader, writer = await asyncio.open_connection(sock=narrow, limit=2**25)
        stalled = await asyncio.wait_for(reader.readuntil(b"data: [DONE]"), 30)
        assert stalled.count(b"word") == 40_000
        writer.close()
