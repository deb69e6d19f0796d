"""The model, worker and jobs that the tests of `jobs` have too, and ears for what chores tell others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from tests.control.batches import blobs, ingest, model, new_batch, published, worker_of_model
from tests.jobs.conftest import accept, model_id, new_job, new_worker, outage, worker

__all__ = [
    "accept",
    "blobs",
    "ears",
    "ingest",
    "model",
    "model_id",
    "new_batch",
    "new_job",
    "new_worker",
    "outage",
    "published",
    "worker",
    "worker_of_model",
]


@dataclass
class Ears:
    """What was announced, aborted and published."""

    announced: list[UUID] = field(default_factory=list)
    aborted: list[UUID] = field(default_factory=list)
    published: list[tuple[int, int]] = field(default_factory=list)
    lost: list[tuple[UUID, int]] = field(default_factory=list)

    def announce(self, jobs: Sequence[UUID]) -> None:
        self.announced += jobs

    def abort(self, jobs: Sequence[UUID]) -> None:
        self.aborted += jobs

    def lose(self, runs: Sequence[tuple[UUID, int]]) -> None:
        self.lost += runs

    def publish(self, model_id: int, jobs: int) -> None:
        self.published.append((model_id, jobs))


@pytest.fixture
def ears() -> Ears:
    return Ears()
