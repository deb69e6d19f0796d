"""How far the work is, drawn on stderr while a person looks on, and silent in a pipe."""

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jobs.records import Json
from longhaul.client import TERMINAL


class Bar:
    """A bar of `total` steps. Leaves nothing behind on the screen."""

    def __init__(self, total: int) -> None:
        console = Console(stderr=True)
        self.drawn = console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
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

    def update(self, done: int, words: str) -> None:
        """So many steps are done; `words` say what the others do."""
        self._bar.update(self._task, completed=done, description=words)


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
