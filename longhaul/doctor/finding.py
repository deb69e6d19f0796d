"""What a look at one thing has found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`trouble` has to be seen to; a `warning` may be meant so."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at (`check`), how it is, and what to do unless it is well."""

    check: str
    level: Level
    says: str
    do: str | None = None


def ok(check: str, says: str) -> Finding:
    return Finding(check, Level.OK, says)


def warning(check: str, says: str, do: str) -> Finding:
    return Finding(check, Level.WARNING, says, do)


def trouble(check: str, says: str, do: str) -> Finding:
    return Finding(check, Level.TROUBLE, says, do)
