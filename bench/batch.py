"""2,000 chats submitted as jobs, against vLLM's own batch runner on the same requests with the same engine arguments.

Ours: from the first byte of two `POST /v1/jobs` until the service says that none of the jobs is unfinished; by then
every result is committed to the database. Theirs: `run_batch` from its input file to its output file, in a process
whose engine and serving objects were made before (see `bench.bare`). The engine of the side that is not measured is
idle and uses no CPU. Each pair has prompts of its own, so both prefix caches are cold. Outside the clock it is checked
that every request of both sides came back with every token.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import text

from bench import model, work
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.load import Connection, get, post
from bench.model import Served
from bench.stack import Child, Deployment, Stores, deployment, stores
from jobs.records import Json

_JOBS = 2000
_ARRAY = 1000
_LOOK_SECONDS = 0.05


async def run(scale: Scale) -> list[Figure]:
    """With the tiny model."""
    with stores() as servers:
        return [await measure(scale, servers, model.tiny(servers.folder), "tiny model")]


async def measure(scale: Scale, servers: Stores, served: Served, name: str) -> Figure:
    """Jobs/s of both sides in turn."""
    count = scale.of(_JOBS)
    async with deployment(servers, "batch", served.environment) as ours:
        for part in ("control", "api"):
            await ours.start(part)
        await ours.start("worker", "--", *served.arguments)
        runner = await BatchRunner.start(ours, served)
        await seconds_of(ours, _requests(count // 10 + 1, 1000))
        await runner.seconds(_requests(count // 10 + 1, 1000))

        async def our_rate(pair: int) -> float:
            return count / await seconds_of(ours, _requests(count, pair))

        async def their_rate(pair: int) -> float:
            return count / await runner.seconds(_requests(count, pair))

        pairs = await alternate(scale.pairs, our_rate, their_rate)
    return ratios(f"{count:,} chat jobs, {name}: jobs/s over vLLM's run_batch", pairs, "/s", Goal(1.0))


def _requests(count: int, seed: int) -> list[Json]:
    return work.chats(count, model.NAME, seed)


async def seconds_of(ours: Deployment, bodies: Sequence[Json]) -> float:
    """Submit these as jobs; seconds until all have ended."""
    jobs = [{"endpoint": work.CHAT, "body": body} for body in bodies]
    arrays = [json.dumps(jobs[start : start + _ARRAY]).encode() for start in range(0, len(jobs), _ARRAY)]
    connection = await Connection.open(ours.base_url)
    before = await _stored(ours)
    began = time.perf_counter()
    for array in arrays:
        status, answer = await connection.ask(post("/v1/jobs", array, ours.key))
        if status >= 300:
            raise RuntimeError(f"{status}: {answer.decode()}")
    last = json.loads(answer)["data"][-1]["id"]
    status_then = ""
    while status_then != "completed":
        _, answer = await connection.ask(get(f"/v1/jobs/{last}?wait=60", ours.key))
        status_then = json.loads(answer)["status"]
    await _none_left(connection, ours.key)
    seconds = time.perf_counter() - began
    connection.close()
    after = await _stored(ours)
    _check(after[0] - before[0], after[1] - before[1], bodies)
    return seconds


async def _none_left(connection: Connection, key: str) -> None:
    for status in ("queued", "in_progress"):
        while True:
            _, answer = await connection.ask(get(f"/v1/jobs?status={status}&limit=1", key))
            if not json.loads(answer)["data"]:
                break
            await asyncio.sleep(_LOOK_SECONDS)


async def _stored(ours: Deployment) -> tuple[int, int]:
    """How many results of completed jobs there are, and the tokens in them."""
    query = text(
        "SELECT count(*), coalesce(sum(output_tokens), 0) FROM results JOIN jobs ON id = job_id"
        " WHERE status = 'completed'"
    )
    async with ours.database.engine.connect() as connection:
        count, tokens = (await connection.execute(query)).one()
    return count, tokens


def _check(completed: int, tokens: int, bodies: Sequence[Json]) -> None:
    if (completed, tokens) != (len(bodies), work.tokens(bodies)):
        raise RuntimeError(f"{completed} of {len(bodies)} requests completed, {tokens} of {work.tokens(bodies)} tokens")


class BatchRunner:
    """vLLM's batch runner with a resident engine."""

    def __init__(self, child: Child, folder: Path) -> None:
        self._child = child
        self._folder = folder

    @classmethod
    async def start(cls, ours: Deployment, served: Served) -> "BatchRunner":
        """Return when its engine is loaded."""
        environment = {**served.environment, "VLLM_LOGGING_STREAM": "ext://sys.stderr"}
        command = [sys.executable, "-m", "bench.bare", "run_batch", *served.arguments]
        child = ours.children["run_batch"] = await Child.start("run_batch", command, environment, ours.home, piped=True)
        runner = cls(child, ours.home)
        await runner._line("ready")
        return runner

    async def seconds(self, bodies: Sequence[Json]) -> float:
        """How long it took over these."""
        source, target = self._folder / "in.jsonl", self._folder / "out.jsonl"
        lines = [
            {"custom_id": str(number), "method": "POST", "url": work.CHAT, "body": body}
            for number, body in enumerate(bodies)
        ]
        source.write_text("\n".join(map(json.dumps, lines)))
        await self._child.say(f"{source} {target}")
        seconds = float((await self._line("took ")).split()[1])
        outputs = [json.loads(line) for line in target.read_text().split("\n") if line]
        good = [output["response"]["body"] for output in outputs if output["response"]["status_code"] == 200]
        _check(len(good), sum(body["usage"]["completion_tokens"] for body in good), bodies)
        return seconds

    async def growth_mb(self, source: Path, seconds: float, at_most: float) -> float:
        """What its process, the engine's apart, took on in memory within so many seconds of such a file, MB.

        It ends with that; earlier once it has grown by `at_most`.
        """
        before = self._child.resident_mb()
        await self._child.say(f"{source} {self._folder / 'never.jsonl'}")
        growth, deadline = 0.0, time.monotonic() + seconds
        while time.monotonic() < deadline and growth < at_most:
            await asyncio.sleep(_LOOK_SECONDS)
            growth = self._child.resident_mb() - before
        self._child.process.kill()
        return growth

    async def _line(self, beginning: str) -> str:
        while not (line := await self._child.hear()).startswith(beginning):
            pass
        return line
