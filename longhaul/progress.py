"""How far the work is, drawn on stderr while a person looks on, and silent in a pipe."""

from collections import Counter, deque
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from jobs.records import Json
from longhaul.client import TERMINAL

_PACE_SECONDS: Final = 30


class Bar:
    """A bar of `total` steps, or of bytes. Leaves nothing behind on the screen."""

    def __init__(self, total: int, in_bytes: bool = False) -> None:
        console = Console(stderr=True)
        self.drawn = console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            DownloadColumn() if in_bytes else MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not self.drawn,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, done: int, words: str, total: int | None = None) -> None:
        """So many steps are done; `words` say what the others do. `total` corrects how many there are."""
        self._bar.update(self._task, completed=done, description=words, total=total)


class JobStates:
    """The states of some jobs as they become known, in one line of words."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._place: int | None = None

    def saw(self, job: Json) -> None:
        """Take in a job object."""
        self._states[job["id"]] = job["status"]
        self._place = (job.get("queue") or {}).get("position")

    @property
    def ended(self) -> int:
        """How many have reached a terminal state."""
        return sum(state in TERMINAL for state in self._states.values())

    def __str__(self) -> str:
        words = [f"{count} {status}" for status, count in Counter(self._states.values()).most_common()]
        if len(self._states) == 1 and self._place is not None:
            words.append(f"place {self._place} in the queue")
        return ", ".join(words)


class Pace:
    """How fast jobs are worked off, by the last half minute, and how long the rest takes at that speed."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def saw(self, now: float, done: int, tokens: int) -> None:
        """By `now`, in seconds of any clock, so many jobs were done and tokens counted."""
        self._seen.append((now, done, tokens))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _PACE_SECONDS:
            self._seen.popleft()

    def words(self, total: int) -> str:
        """The speed, and the time until `total` jobs are done; empty until something was done."""
        if not self._seen:
            return ""
        (began, before, tokens_before), (now, done, tokens) = self._seen[0], self._seen[-1]
        seconds = now - began
        if seconds <= 0 or done <= before:
            return ""
        rate = (done - before) / seconds
        words = [f"{rate:,.0f} jobs/s" if rate >= 10 else f"{rate:.2g} jobs/s"]
        if tokens > tokens_before:
            words.append(f"{(tokens - tokens_before) / seconds:,.0f} tokens/s")
        words.append(f"{timedelta(seconds=round((total - done) / rate))} left")
        return ", ".join(words)
