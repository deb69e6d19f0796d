"""The parts of a deployment as child processes: started, watched, started again, ended."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, Self

from longhaul.output import talk

LONGEST_PAUSE = 30.0
HEALTHY_SECONDS = 60.0
"""A part that ran this long begins again with the shortest pause."""


class Signals:
    """SIGINT and SIGTERM, counted, and a wait that they and the death of a child wake."""

    def __init__(self, bell: socket.socket) -> None:
        self.asked = 0
        self._bell = bell

    @classmethod
    @contextmanager
    def handled(cls) -> Iterator[Self]:
        """Take the process's signals, and give them back."""
        bell, rope = socket.socketpair()
        with bell, rope:
            for end in (bell, rope):
                end.setblocking(False)
            signals = cls(bell)
            ours = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signals._ask)
            ours[signal.SIGCHLD] = signals._wake
            before = {number: signal.signal(number, handler) for number, handler in ours.items()}
            wakeup = signal.set_wakeup_fd(rope.fileno(), warn_on_full_buffer=False)
            try:
                yield signals
            finally:
                signal.set_wakeup_fd(wakeup)
                for number, earlier in before.items():
                    signal.signal(number, earlier)

    def wait(self, seconds: float) -> None:
        """Return after a signal, or so many seconds."""
        if select.select([self._bell], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                self._bell.recv(4096)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked += 1

    def _wake(self, number: int, frame: FrameType | None) -> None: ...


class Part(Protocol):
    """What can be kept running: one of our processes, or an embedded server."""

    process: subprocess.Popen[bytes] | None

    def start(self) -> object: ...

    def alive(self) -> bool: ...


class Child:
    """One of our processes, in a session of its own: Ctrl-C in the terminal reaches neither it nor its children.

    `environment` is what it gets beyond ours; it is asked at every start.
    """

    def __init__(
        self, name: str, command: Sequence[str], home: Path, environment: Callable[[], Mapping[str, str]] = dict
    ) -> None:
        self.name = name
        self.log = home / "logs" / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._environment = environment
        self._pid_file = home / "run" / f"{name}.pid"
        self._began = 0

    def start(self) -> None:
        """Start it, not waiting for it to be of use."""
        self._end_group()
        with self.log.open("ab") as log:
            self._began = log.tell()
            self.process = subprocess.Popen(
                self._command,
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(str(self.process.pid))

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """The end of what it wrote since its last start."""
        with self.log.open("rb") as log:
            log.seek(self._began)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-20:])

    def stop(self, signals: Signals, patience: float) -> None:
        """End it with SIGTERM, sent again when we are told again; with SIGKILL when told a third time, or after
        `patience` seconds."""
        if self.process is None:
            return
        deadline = time.monotonic() + patience
        told = 0
        while self.process.poll() is None and time.monotonic() < deadline and signals.asked < 3:
            if told < max(signals.asked, 1):
                self.process.send_signal(signal.SIGTERM)
                told = max(signals.asked, 1)
            signals.wait(0.2)
        self._end_group()
        self._pid_file.unlink(missing_ok=True)

    def end_leftover(self, signals: Signals, patience: float) -> None:
        """End the process that a killed `longhaul up` left behind."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            pid = int(self._pid_file.read_text())
            deadline = time.monotonic() + patience
            if self._is_ours(pid):
                talk(f"Ending {self.name} (process {pid}), which an earlier `longhaul up` left behind.")
                os.kill(pid, signal.SIGTERM)
            while self._is_ours(pid):
                signals.wait(0.2)
                if time.monotonic() > deadline or signals.asked:
                    os.killpg(pid, signal.SIGKILL)
            self._pid_file.unlink()

    def _is_ours(self, pid: int) -> bool:
        # Numbers are given again, so it has to be one that writes to our log. (What it is called and its environment
        # may be overwritten: Celery sets a title.)
        try:
            return Path(f"/proc/{pid}/fd/1").readlink() == self.log
        except OSError:
            return False

    def _end_group(self) -> None:
        """End what it left in its session: an EngineCore outlives a killed worker and keeps the GPU's memory."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Keeper:
    """Starts a part again when it died, after a pause that grows from 1 s to 30 s while it keeps dying."""

    def __init__(self, name: str, part: Part, on_death: Callable[[int], None] = lambda code: None) -> None:
        self.name = name
        self.part = part
        self._on_death = on_death
        self._pause = 0.0
        self._started_at = time.monotonic()
        self._again_at: float | None = None

    def tend(self) -> None:
        """Look after the part once. Only what `on_death` raises gets out: there is always a next time."""
        now = time.monotonic()
        if self._again_at is None and not self.part.alive():
            self._note_death(now)
        if self._again_at is not None and now >= self._again_at:
            self._start_again(now)

    def _note_death(self, now: float) -> None:
        code = self.part.process.returncode if self.part.process else -1
        if now - self._started_at >= HEALTHY_SECONDS:
            self._pause = 0.0
        self._again_at = now + self._longer_pause()
        self._on_death(code)
        talk(f"{self.name} ended (exit status {code}); starting it again in {self._pause:.0f} s.")

    def _start_again(self, now: float) -> None:
        try:
            self.part.start()
        except Exception as error:
            self._again_at = time.monotonic() + self._longer_pause()
            talk(f"{self.name} cannot be started: {error}\nTrying again in {self._pause:.0f} s.")
        else:
            self._started_at, self._again_at = now, None

    def _longer_pause(self) -> float:
        self._pause = min(2 * self._pause or 1.0, LONGEST_PAUSE)
        return self._pause
