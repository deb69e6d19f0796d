"""What an engine leaves behind when its worker is killed: processes, noted while they live, killed at the next start.

An orphaned EngineCore keeps the GPU's memory, so the next engine would not fit beside it.
"""

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from jobs.records import Json

_KILL_SECONDS: Final = 10.0
_log = structlog.get_logger()


class Ledger:
    """This worker's own note: a file in `folder` with its pid and those of its engine."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"engine-{os.getpid()}.json"
        self._noted: frozenset[int] = frozenset()

    def note(self, pids: Iterable[int]) -> None:
        """These processes belong to this worker now, and no others."""
        pids = frozenset(pids)
        if pids == self._noted:
            return
        content = {"worker": _moments([os.getpid()]), "engine": _moments(pids)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.replace(self._path)
        self._noted = pids

    def close(self) -> None:
        """Nothing is left of the engine."""
        self._path.unlink(missing_ok=True)
        self._noted = frozenset()


def kill(folder: Path) -> list[int]:
    """Kill what the workers noted in `folder` that are gone themselves, and return its pids once they are gone too."""
    killed = []
    for path in sorted(folder.glob("engine-*.json")):
        try:
            content: Json = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if any(_lives(pid, moment) for pid, moment in content["worker"].items()):
            continue
        strays = [(pid, moment) for pid, moment in content["engine"].items() if _lives(pid, moment)]
        for pid, moment in strays:
            _log.warning("killing a process that a killed worker's engine left behind", pid=int(pid))
            _end(pid, moment)
        killed += [int(pid) for pid, _ in strays]
        path.unlink(missing_ok=True)
    return killed


def _end(pid: str, moment: str) -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    try:
        os.kill(int(pid), signal.SIGKILL)
        while _lives(pid, moment) and time.monotonic() < deadline:
            time.sleep(0.05)
    except OSError as error:
        _log.warning("cannot kill it", pid=int(pid), error=str(error))


def _moments(pids: Iterable[int]) -> dict[str, str]:
    moments = {str(pid): _began(str(pid)) for pid in pids}
    return {pid: moment for pid, moment in moments.items() if moment}


def _lives(pid: str, moment: str) -> bool:
    return _began(pid) == moment


def _began(pid: str) -> str | None:
    """When a process began, so that a pid used again is told apart. None without `/proc`, and for the dead."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"
