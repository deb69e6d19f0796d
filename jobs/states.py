"""A job's life. Everything else derives from this page: the enum type, the CHECKs, the tests of every statement.

               ┌──────── release (refunded), rescue (counted) ────────┐
               ▼                                                      │
accept ──▶  queued ──────────────── claim ──────────────▶  in_progress
               │                                                      │
               ├─ cancel ──▶ cancelled ◀────────────────── cancel ────┤
               ├─ expire ──▶ expired                                  ├─ finish ──▶ completed
               └─ retire ──▶ failed    ◀───────── finish, rescue ─────┘
"""

from enum import StrEnum


class Status(StrEnum):
    """A job's status, in OpenAI's words. The order is that of the database's enum type."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in (Status.QUEUED, Status.IN_PROGRESS)


EDGES: frozenset[tuple[Status, Status]] = frozenset(
    {
        (Status.QUEUED, Status.IN_PROGRESS),
        (Status.QUEUED, Status.CANCELLED),
        (Status.QUEUED, Status.EXPIRED),
        (Status.QUEUED, Status.FAILED),
        (Status.IN_PROGRESS, Status.COMPLETED),
        (Status.IN_PROGRESS, Status.FAILED),
        (Status.IN_PROGRESS, Status.CANCELLED),
        (Status.IN_PROGRESS, Status.QUEUED),
    }
)
"""Every change of status that a statement may make."""


class BatchStatus(StrEnum):
    """A batch's status, in OpenAI's words. The order is that of the database's enum type.

    validating ──▶ in_progress ──▶ finalizing ──▶ completed
        │               │              │
        │               └──────────────┴──▶ expired: at the end of its window, with what was done
        ├──▶ failed: by its input file alone, nothing ran
        └──▶ cancelling ──▶ cancelled: from every state above but the last
    """

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        return self in (BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED)
