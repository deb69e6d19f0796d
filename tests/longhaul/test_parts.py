"""Child processes: how they end, what they leave, when they are started again."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from longhaul.parts import Child, Keeper, Signals

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = (
    f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]).pid, flush=True); " + SLEEPER
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("logs", "run"):
        (tmp_path / name).mkdir()
    return tmp_path


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals.handled() as signals:
        yield signals


def python(home: Path, code: str) -> Child:
    return Child("part", [sys.executable, "-c", code], home, lambda: {"GIVEN": "yes"})


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_is_out_of_reach_of_the_terminal_and_ends_by_sigterm(home: Path, signals: Signals) -> None:
    child = python(home, SLEEPER)
    child.start()
    assert child.process is not None and os.getsid(child.process.pid) == child.process.pid
    child.stop(signals, 10)
    assert child.process.returncode == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed_in_the_end(home: Path, signals: Signals) -> None:
    child = python(home, DEAF)
    child.start()
    until(lambda: "up" in child.said())
    child.stop(signals, 0.5)
    assert child.process is not None and child.process.returncode == -signal.SIGKILL


def test_a_second_signal_is_passed_on(home: Path, signals: Signals) -> None:
    child = python(
        home,
        "import signal, time, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True))\n"
        "print('up', flush=True)\n"
        "while True: time.sleep(0.05)\n",
    )
    child.start()
    until(lambda: "up" in child.said())
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
    assert signals.asked == 2
    child.stop(signals, 0.6)
    assert "told" in child.said()


def test_what_a_killed_child_leaves_in_its_session_is_ended_before_it_starts_again(
    home: Path, signals: Signals
) -> None:
    child = python(home, PARENT)
    child.start()
    until(lambda: child.said().count("up") == 2)
    grandchild = next(int(line) for line in child.said().splitlines() if line.isdigit())
    assert child.process is not None
    child.process.kill()
    until(lambda: not child.alive())
    assert runs(grandchild)
    child.start()
    until(lambda: not runs(grandchild))
    child.stop(signals, 5)


def test_a_child_of_a_killed_parent_is_ended_first_and_a_stranger_is_not(home: Path, signals: Signals) -> None:
    left = python(home, SLEEPER)
    left.start()
    until(lambda: "up" in left.said())
    python(home, SLEEPER).end_leftover(signals, 5)
    assert left.process is not None and left.process.wait(5) == -signal.SIGTERM
    (home / "run" / "part.pid").write_text(str(os.getpid()))
    python(home, SLEEPER).end_leftover(signals, 5)
    assert signals.asked == 0


def test_only_what_was_said_since_the_last_start_is_shown(home: Path) -> None:
    child = python(home, "import os; print(os.environ['GIVEN'])")
    for _ in range(2):
        child.start()
        until(lambda: not child.alive())
    assert child.said() == "yes"


def test_a_part_that_keeps_dying_is_started_again_with_a_growing_pause(home: Path) -> None:
    deaths: list[int] = []
    child = python(home, "raise SystemExit(3)")
    child.start()
    keeper = Keeper("part", child, deaths.append)
    began = time.monotonic()
    while len(deaths) < 3:
        keeper.tend()
        time.sleep(0.02)
    assert deaths == [3, 3, 3]
    assert time.monotonic() - began >= 1 + 2


def test_a_part_that_lives_is_left_alone(home: Path, signals: Signals) -> None:
    child = python(home, SLEEPER)
    child.start()
    before = child.process
    Keeper("part", child).tend()
    assert child.process is before
    child.stop(signals, 5)


def test_a_signal_and_the_death_of_a_child_wake_the_wait(home: Path, signals: Signals) -> None:
    began = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
    signals.wait(30)
    child = python(home, "pass")
    child.start()
    signals.wait(30)
    assert time.monotonic() - began < 20
    assert signals.asked == 1
    assert not child.alive()
