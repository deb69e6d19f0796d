"""Leaves the cores to which an engine on the CPU has bound its computing threads to these threads alone.

vLLM binds one OpenMP thread to a core and all its others to none. A step waits for the slowest of the bound ones, so
whatever else runs on their cores delays every job in the batch.
"""

import contextlib
import os
from collections.abc import Iterable, Set
from pathlib import Path

import structlog

_log = structlog.get_logger()


def leave(engine: Iterable[int]) -> frozenset[int]:
    """Move this process and those of `engine`, as pids, off the cores to which a child of theirs has bound threads.

    Returns the cores that were left, to come `back` to. Nothing moves where no thread is bound to one core, where no
    core would be left, and where the system has no such notion.
    """
    engine = list(engine)
    try:
        allowed = os.sched_getaffinity(0)
        bound = {core for pid in engine for child in _children(pid) for core in _bound(child)} & allowed
        if not bound or bound == allowed:
            return frozenset()
        for pid in (os.getpid(), *engine):
            _move(pid, allowed - bound)
    except (AttributeError, OSError) as error:
        _log.warning("the engine's cores are shared with the rest of the worker", error=str(error))
        return frozenset()
    _log.info("the engine computes on cores of its own", cores=sorted(bound))
    return frozenset(bound)


def back(left: frozenset[int]) -> None:
    """Use the cores again that were `left`: the engine has ended."""
    if left:
        _move(os.getpid(), os.sched_getaffinity(0) | left)


def _move(pid: int, cores: Set[int]) -> None:
    for thread in _threads(pid):
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(thread, cores)


def _children(pid: int) -> list[int]:
    return [
        int(child)
        for thread in _threads(pid)
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
    ]


def _bound(pid: int) -> set[int]:
    """The cores that a thread of this process may not leave."""
    affinities = [os.sched_getaffinity(thread) for thread in _threads(pid)]
    return {core for cores in affinities if len(cores) == 1 for core in cores}


def _threads(pid: int) -> list[int]:
    return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
