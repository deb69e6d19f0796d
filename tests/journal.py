"""What the scripted engine really did, written by itself: the oracle that knows nothing of the database."""

import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Event: TypeAlias = Literal["start", "end", "abort"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. `request` is the body's `request_id`, `job` its part before the dash: the job's UUID in hex.

    `tokens` are those that were made: none at the start, all at the end, at an abort those until then.
    """

    event: Event
    request: str
    job: str
    pid: int
    time: float
    tokens: int


class Journal:
    """A file to which many processes append whole lines, each by one write: a killed process leaves no half line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def write(self, event: Event, request: str, tokens: int = 0) -> None:
        """Append one entry with this process and moment."""
        line = {"event": event, "request": request, "pid": os.getpid(), "time": time.time(), "tokens": tokens}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)


def read(path: Path) -> list[Entry]:
    """All entries, as they were written; none where nothing was."""
    if not path.exists():
        return []
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [Entry(job=line["request"].partition("-")[0], **line) for line in lines]


def starts(entries: Iterable[Entry]) -> Counter[str]:
    """How often each job was begun, by its hex id."""
    return Counter(entry.job for entry in entries if entry.event == "start")


def ends(entries: Iterable[Entry]) -> Counter[str]:
    """How often each job was answered, by its hex id."""
    return Counter(entry.job for entry in entries if entry.event == "end")


def unfinished(entries: Iterable[Entry]) -> list[Entry]:
    """The starts after which nothing came: still running, or killed with their process."""
    open_runs: dict[tuple[int, str], Entry] = {}
    for entry in entries:
        if entry.event == "start":
            open_runs[entry.pid, entry.request] = entry
        else:
            open_runs.pop((entry.pid, entry.request), None)
    return list(open_runs.values())
