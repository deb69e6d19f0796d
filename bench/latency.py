"""What the queue adds to one synchronous request: an engine that takes 50 ms, behind Longhaul and behind uvicorn.

One client, one request at a time, to either side in turn. Both sides run the same ASGI app; what is added is the
difference of the percentiles of one round, and the goal is about the median round.
"""

import statistics
import sys
import time

from bench import work
from bench.figure import Figure, Goal, Scale, said, say
from bench.load import Connection, post
from bench.stack import Child, answers, deployment, stores, until
from longhaul.embedded import free_port

_ENGINE = "tests.engines.scripted:factory"
_SECONDS = "0.05"
_REQUESTS = 200
"""Of one round and side."""


async def run(scale: Scale) -> list[Figure]:
    """Added p50 and p99, ms."""
    rounds: list[tuple[list[float], list[float]]] = []
    environment = {"LONGHAUL_ENGINE": _ENGINE, "LONGHAUL_TEST_DELAY": _SECONDS}
    with stores() as servers:
        async with deployment(servers, environment=environment) as ours:
            for part in ("control", "api", "worker"):
                await ours.start(part)
            port = free_port()
            command = [sys.executable, "-m", "bench.bare", "uvicorn", _ENGINE, str(port)]
            bare = ours.children["bare"] = await Child.start("bare", command, environment, ours.home)
            theirs = f"http://127.0.0.1:{port}"
            await until(lambda: answers(f"{theirs}/v1/models", 404), bare)
            bodies = work.encoded(work.chats(100, "scripted", seed=0))
            requests = [post(work.CHAT, body, ours.key) for body in bodies]
            connections = [await Connection.open(url) for url in (ours.base_url, theirs)]
            await _round(connections, requests[:20])
            for number in range(scale.pairs):
                rounds.append(await _round(connections, (requests * 2)[: scale.of(_REQUESTS)]))
                say(f"  round {number + 1} of {scale.pairs}: p50 {said(_added(rounds[-1], 50), 'ms')} added")
    return [_figure(rounds, 50, 8), _figure(rounds, 99, 25)]


async def _round(connections: list[Connection], requests: list[bytes]) -> tuple[list[float], list[float]]:
    took: tuple[list[float], list[float]] = ([], [])
    for data in requests:
        for connection, times in zip(connections, took, strict=True):
            sent = time.perf_counter()
            status, body = await connection.ask(data)
            times.append((time.perf_counter() - sent) * 1000)
            if status != 200:
                raise RuntimeError(f"{status}: {body.decode()}")
    return took


def _percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]


def _added(took: tuple[list[float], list[float]], percent: int) -> float:
    return _percentile(took[0], percent) - _percentile(took[1], percent)


def _figure(rounds: list[tuple[list[float], list[float]]], percent: int, limit: float) -> Figure:
    ours, theirs = (
        said(statistics.median(_percentile(took[side], percent) for took in rounds), "ms") for side in (0, 1)
    )
    added = [_added(took, percent) for took in rounds]
    what = f"synchronous chat, one at a time, 50 ms engine: added p{percent}"
    return Figure(what, added, "ms", Goal(limit, at_most=True), ours, theirs)
