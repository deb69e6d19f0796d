"""`longhaul demo`: everything on this machine, real work through every way of handing it back, a table, a clean end."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from longhaul import demo as work
from longhaul.client import Client, Refused, Unreachable
from longhaul.demo import Answer
from longhaul.deployment import read_exports
from longhaul.output import FAILED, emit_table, talk
from longhaul.progress import Bar

_READY_SECONDS: Final = 600
"""A model of somebody's own choice may have to be downloaded and loaded."""
_STOP_SECONDS: Final = 120
_TERMINATED: Final = 128 + signal.SIGTERM


def demo(
    kill: Annotated[bool, typer.Option("--kill", help="Kill the worker (SIGKILL) while it runs jobs.")] = False,
) -> None:
    """Start everything in a temporary folder, run real work through it, show what happened, and end."""
    home = Path(tempfile.mkdtemp(prefix="longhaul-demo-"))
    try:
        passed = asyncio.run(_run(home, kill))
    except asyncio.CancelledError:
        raise typer.Exit(_TERMINATED) from None
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if not passed:
        raise typer.Exit(FAILED)


async def _run(home: Path, kill: bool) -> bool:
    """Whether everything came back. SIGTERM ends it like Ctrl-C: whatever was started ends too."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    passed = False
    try:
        async with _everything_up(home), _client(home, connections=256) as client:
            started = time.monotonic()
            answers = await _work(client, home, kill)
            _show(answers, time.monotonic() - started)
            passed = await _nothing_missing(client, answers)
    except* (_Broken, Refused, Unreachable) as group:
        talk(f"error: {group.exceptions[0]}")
        passed = False
    return passed


def _client(home: Path, connections: int) -> Client:
    exports = read_exports(home / "client.env")
    return Client(exports["OPENAI_BASE_URL"], exports["OPENAI_API_KEY"], connections)


class _Broken(Exception):
    """`longhaul up` did not come up, or did not end well."""


@asynccontextmanager
async def _everything_up(home: Path) -> AsyncIterator[None]:
    """`longhaul up` as a child, on a free port and with stores of its own; ended by SIGTERM, and seen to end well."""
    talk("Starting PostgreSQL, Redis, the API, control and a worker with its engine.")
    started = time.monotonic()
    up = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "longhaul", "up"),
        env=_environment(home),
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert up.stdout is not None
        async with asyncio.timeout(_READY_SECONDS):
            if not (await up.stdout.readline()).startswith(b"ready "):
                raise _Broken("`longhaul up` did not become ready")
        talk(f"Ready after {time.monotonic() - started:.0f} s.")
        yield
    finally:
        if up.returncode is None:
            up.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(up.wait(), _STOP_SECONDS)
    if code != 0:
        raise _Broken(f"`longhaul up` ended with exit code {code}")
    talk("Everything has ended.")


def _environment(home: Path) -> Mapping[str, str]:
    theirs = ("DATABASE_URL", "REDIS_URL")
    ours = {"LONGHAUL_HOME": str(home), "LONGHAUL_HOST": "127.0.0.1", "LONGHAUL_PORT": "0"}
    return {name: value for name, value in os.environ.items() if name not in theirs} | ours


class _Line:
    """The line of stdout on which a stream's text appears as it comes. `begun` is set by its first piece."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._prefix = "a stream, as it comes: "
        self._open = False

    def say(self, piece: str | None) -> None:
        """Add a piece; None: what comes now is another run's, from its start."""
        if piece is None:
            self.end()
            self._prefix = "its worker was lost, its next run says: "
            return
        if not piece:
            return
        if not self._open:
            print(self._prefix, end="")
        print("".join(letter if letter.isprintable() else " " for letter in piece), end="", flush=True)
        self._open, self._prefix = True, "... "
        self.begun.set()

    def end(self) -> None:
        """Let others write."""
        if self._open:
            print(flush=True)
        self._open = False


async def _work(client: Client, home: Path, kill: bool) -> list[Answer]:
    """All answers. With `kill`, the worker is killed while it streams."""
    answers: list[Answer] = []
    line, bar = _Line(), Bar(work.REQUESTS)
    with ExitStack() as drawing:

        def hand(answer: Answer) -> None:
            answers.append(answer)
            if answer.way == work.STREAM:  # before, the bar would be drawn across the stream's text
                line.end()
                drawing.enter_context(bar)
            bar.update(len(answers), answer.way)
            if not bar.drawn and len(answers) % 20 == 0:
                talk(f"{len(answers)} of {work.REQUESTS} answered")

        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(work.run(client, hand, line.say))
            if kill:
                killing = tasks.create_task(_kill_worker(home, line))
                working.add_done_callback(lambda _: killing.cancel())
    return answers


async def _kill_worker(home: Path, line: _Line) -> None:
    await line.begun.wait()
    # In a queue with two hundred other requests, the look could come when nothing runs any more.
    async with _client(home, connections=1) as client:
        while True:
            running = await client.page({"status": "in_progress", "limit": "1"})
            if running["data"]:
                break
            await asyncio.sleep(0.02)
    pid = int((home / "run" / "worker.pid").read_text())
    line.end()
    talk(f"kill -9 {pid}: the worker is gone with all that it ran, and will be started again.")
    os.kill(pid, signal.SIGKILL)


def _show(answers: Sequence[Answer], seconds: float) -> None:
    columns = ("handed back by", "requests", "statuses", "tokens in", "tokens out", "wait p50", "wait p95")
    by_way: dict[str, list[Answer]] = {}
    for answer in answers:
        by_way.setdefault(answer.way, []).append(answer)
    rows = [_row(way, theirs) for way, theirs in sorted(by_way.items())]
    emit_table(columns, [*rows, _row("all", answers)])
    rate, tokens = len(answers) / seconds, sum(answer.output_tokens for answer in answers) / seconds
    print(f"\n{len(answers)} jobs in {seconds:.1f} s: {rate:.1f} jobs/s, {tokens:.0f} output tokens/s")
    example = min(answers, key=lambda answer: (answer.status != "completed", answer.output_tokens))
    print(f"one answer ({example.way}): {example.text!r}")


def _row(way: str, answers: Sequence[Answer]) -> tuple[object, ...]:
    statuses = ", ".join(f"{count} {status}" for status, count in Counter(a.status for a in answers).most_common())
    waits = sorted(answer.seconds for answer in answers)
    p50, p95 = waits[len(waits) // 2], waits[len(waits) * 95 // 100]
    tokens_in, tokens_out = sum(a.input_tokens for a in answers), sum(a.output_tokens for a in answers)
    return (way, len(answers), statuses, tokens_in, tokens_out, f"{p50:.2f} s", f"{p95:.2f} s")


async def _nothing_missing(client: Client, answers: Sequence[Answer]) -> bool:
    """Whether every request completed with tokens in it, and the service knows as many completed jobs and no others."""
    good = sum(answer.status == "completed" and answer.output_tokens > 0 for answer in answers)
    kept = [job async for job in client.every({"limit": "100"})]
    statuses, again = Counter(job["status"] for job in kept), sum(job["attempts"] > 1 for job in kept)
    print(f"asked {work.REQUESTS}, answered {good}, kept by the service: {dict(statuses)}, run more than once: {again}")
    return good == work.REQUESTS and statuses == Counter(completed=work.REQUESTS)
