"""The events that webhooks tell of, by OpenAI's names and ours."""

from typing import Final

BATCH: Final = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
RESPONSE: Final = ("response.completed", "response.failed", "response.incomplete", "response.cancelled")
JOB: Final = ("job.completed", "job.failed", "job.cancelled", "job.expired")
STARTED: Final = "job.started"
TYPES: Final = (*BATCH, *RESPONSE, *JOB, STARTED)
"""Everything that an endpoint may subscribe to. `job.started` is told to who asks for it only."""
