"""50,000 lines of half a kilobyte: from their upload until every line is checked and durable, and what that costs.

No worker runs: what is measured is the API that takes the file and control that reads it. Memory is the sum of what
both processes peaked at above what they had, fresh processes each time.
"""

import random
import time
from pathlib import Path

from bench import model, work
from bench.figure import Figure, Goal, Scale, say
from bench.files import Batches, write
from bench.stack import Child, Stores, deployment, stores
from jobs.records import Json

_LINES = 50_000
_BODY_WORDS = 50
"""Of about half a kilobyte a line."""


async def run(scale: Scale) -> list[Figure]:
    """Seconds, and MB added."""
    schemas = await model.schemas()
    count = scale.of(_LINES)
    measured: list[tuple[float, float]] = []
    with stores() as servers:
        path = servers.folder / "large.jsonl"
        write(path, chats(count))
        for number in range(scale.pairs):
            measured.append(await _measure(servers, f"large{number}", schemas, path))
            say(f"  {measured[-1][0]:.2f} s, {measured[-1][1]:.1f} MB")
    seconds, megabytes = (list(column) for column in zip(*measured, strict=True))
    size = f"{count:,} lines of 0.5 KB"
    return [
        Figure(f"{size}: from upload to in_progress", seconds, "s", Goal(5, at_most=True)),
        Figure(f"{size}: memory added, api and control", megabytes, "MB", Goal(150, at_most=True)),
    ]


async def _measure(servers: Stores, name: str, schemas: dict[str, Json], path: Path) -> tuple[float, float]:
    async with deployment(servers, name) as ours:
        await ours.know(model.registration(model.NAME, schemas))
        parts = [await ours.start(part) for part in ("control", "api")]
        batches = Batches.of(ours)
        before = sum(part.resident_mb() for part in parts)
        began = time.perf_counter()
        batch_id = await batches.create(await batches.upload(path))
        await batches.until(batch_id, "in_progress")
        seconds = time.perf_counter() - began
        await batches.close()
        return seconds, sum(map(peak_mb, parts)) - before


def chats(count: int) -> list[Json]:
    """Different chats of about half a kilobyte as lines."""
    chance = random.Random(4)
    return [
        {
            "model": model.NAME,
            "messages": [{"role": "user", "content": " ".join(chance.choices(work.WORDS, k=_BODY_WORDS))}],
            "max_tokens": 16,
        }
        for _ in range(count)
    ]


def peak_mb(child: Child) -> float:
    """The most memory that a process had so far, MB."""
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6
