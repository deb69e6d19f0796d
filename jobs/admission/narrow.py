"""Cutting a faulty body down to its first fault: the validator lists every fault of a union, at any length."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

from jobs.records import Json

Path: TypeAlias = tuple[str | int, ...]
Offsets: TypeAlias = dict[Path, int]
"""Where in the body as it was sent the elements began that are left of the list at this path."""

_LONG: Final = 8
"""A list of more elements is cut."""
_MOST_LISTS: Final = 8
_SHORT: Final = 150
"""What is left of a list whose length is the fault."""
_MOST_VALUES: Final = 1000
"""What is left must be no more than this, else it would take seconds to explain."""


def narrow(body: Json, is_valid: Callable[[Json], bool]) -> Offsets | None:
    """Leave of each long list of an invalid body its first faulty element and the one before it, in place.

    Costs a few checks of the body as it was sent, however many faults it has.

    Returns:
        Where those elements began; None where too much is left, or nothing that is a fault.
    """
    offsets: Offsets = {}
    seen: set[Path] = set()
    for _ in range(_MOST_LISTS):
        lists = list(_long_lists(body, seen))
        if not lists:
            break
        path, holder, key = max(lists, key=lambda found: len(found[1][found[2]]))
        seen.add(path)
        whole = holder[key]
        fault = _first_fault(body, holder, key, is_valid)
        # With the one before: an element may be good alone, and wrong among its likes.
        first = max(0, fault - 1)
        holder[key] = whole[first : fault + 1]
        if is_valid(body):
            holder[key] = whole[:_SHORT]
        else:
            offsets[path] = first
    few = sum(1 for _ in islice(_values(body), _MOST_VALUES + 1)) <= _MOST_VALUES
    return offsets if few and not is_valid(body) else None


def restored(path: Path, offsets: Offsets) -> Path:
    """A path in the body as it was sent, for one in what was left of it."""
    return tuple(
        part + offsets.get(path[:depth], 0) if isinstance(part, int) else part for depth, part in enumerate(path)
    )


def _first_fault(body: Json, holder: Any, key: Any, is_valid: Callable[[Json], bool]) -> int:
    """The index of the first faulty element of `holder[key]`: 0 as well where the fault is not in this list."""
    whole = holder[key]
    first, end = 0, len(whole)
    holder[key] = whole[:1]
    if not is_valid(body):
        return 0
    while end - first > 1:
        middle = (first + end) // 2
        holder[key] = whole[first:middle]
        if is_valid(body):
            first = middle
        else:
            end = middle
    return first


def _long_lists(body: Json, seen: set[Path]) -> Iterator[tuple[Path, Any, Any]]:
    """Every list to cut with what holds it; those inside of long lists come when these are cut."""
    waiting: list[tuple[Path, Any]] = [((), body)]
    while waiting:
        path, holder = waiting.pop()
        children = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in children:
            place = (*path, key)
            if isinstance(value, list) and len(value) > _LONG:
                if place not in seen:
                    yield place, holder, key
            elif isinstance(value, (dict, list)):
                waiting.append((place, value))


def _values(body: Json) -> Iterator[Any]:
    waiting: list[Any] = [body]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, (dict, list)):
            waiting += value.values() if isinstance(value, dict) else value
