"""Every metric of every part, in one table, which docs/watching.md explains."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_COMPANY: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_WAITS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400, 86_400)
_RUNS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

# Submitting.
ACCEPT_COMPANY: Final = Histogram("longhaul_accept_company", "Submits that were committed together.", buckets=_COMPANY)
HTTP_REQUESTS: Final = Counter("longhaul_http_requests_total", "Requests that were answered.", ["method", "status"])

# Tickets.
TICKETS: Final = Counter("longhaul_tickets_total", "Tickets that were published.")
TICKETS_LOST: Final = Counter("longhaul_tickets_lost_total", "Queues whose tickets could not be published.")
TICKETS_AGAIN: Final = Counter("longhaul_tickets_again_total", "Queues that control asked tickets for.")
PUBLISH_QUEUE_DEPTH: Final = Gauge(
    "longhaul_publish_queue_depth", "Queues whose tickets this process has not published yet."
)
BROKER_UP: Final = Gauge("longhaul_broker_up", "Whether this process reaches Redis: 1, or 0.")

# Running.
CLAIM_COMPANY: Final = Histogram("longhaul_claim_company", "Jobs that were claimed together.", buckets=_COMPANY)
WAIT_SECONDS: Final = Histogram(
    "longhaul_wait_seconds", "From a job's submit to its first claim.", ["tier"], buckets=_WAITS
)
RUN_SECONDS: Final = Histogram(
    "longhaul_run_seconds", "From a job's claim to its outcome, in the engine.", ["tier"], buckets=_RUNS
)

# Recording and waking.
FINISH_COMPANY: Final = Histogram("longhaul_finish_company", "Results that were committed together.", buckets=_COMPANY)
FINISHED: Final = Counter("longhaul_finished_total", "Jobs that this process ended, by status.", ["status"])
ORPHANS: Final = Counter("longhaul_orphans_total", "Jobs lost with what ran them, by what became of them.", ["end"])
TOKENS: Final = Counter("longhaul_tokens_total", "Tokens of recorded results, by kind.", ["tier", "kind"])
STALE_RESULTS: Final = Counter("longhaul_stale_results_total", "Results refused because their job was no longer held.")
READ_COMPANY: Final = Histogram("longhaul_read_company", "Results read together for waiters.", buckets=_COMPANY)

# Worker.
WORKER_INFO: Final = Gauge("longhaul_worker_info", "1; its labels say who this worker is.", ["worker", "model"])
SLOTS: Final = Gauge("longhaul_slots", "Jobs that this worker's engine wants at once.")
RUNNING: Final = Gauge("longhaul_running", "Jobs in this worker's engine.")

# The whole deployment, when this control last measured it.
QUEUED: Final = Gauge("longhaul_queued", "Jobs that wait and may be claimed.", ["model", "tier"])
QUEUED_TOKENS: Final = Gauge("longhaul_queued_tokens", "Estimated tokens of the jobs that wait.", ["model", "tier"])
OLDEST: Final = Gauge("longhaul_oldest_queued_seconds", "Age of the oldest job that waits.", ["model", "tier"])
IN_PROGRESS: Final = Gauge("longhaul_in_progress", "Jobs that workers hold.", ["model", "tier"])
WORKERS: Final = Gauge("longhaul_workers", "Workers: serving, draining, or lost in the last hour.", ["model", "state"])
WORKER_SPEED: Final = Gauge(
    "longhaul_worker_tokens_per_second", "Measured speed of one worker while jobs wait.", ["model"]
)
DEADLINE: Final = Gauge(
    "longhaul_nearest_deadline_seconds", "Until the nearest end of a batch's window or of a job's time.", ["model"]
)
WORKERS_WANTED: Final = Gauge("longhaul_workers_wanted", "Workers that would make every window.", ["model"])
TICKETS_OUT: Final = Gauge("longhaul_tickets_out", "Tickets that stand in Redis.", ["queue"])
UNACKED: Final = Gauge("longhaul_unacked", "Messages that Celery took from Redis and has not acknowledged.")

# Control.
LEASES_EXPIRED: Final = Counter("longhaul_leases_expired_total", "Workers whose jobs were taken from them.")
DELIVERIES: Final = Counter("longhaul_deliveries_total", "Attempts to deliver webhooks, by outcome.", ["outcome"])
MARK_COMPANY: Final = Histogram("longhaul_mark_company", "Deliveries marked together.", buckets=_COMPANY)
CHORES: Final = Counter("longhaul_chores_total", "Rounds of control's chores, by how they ended.", ["chore", "end"])


def show(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    """Give a gauge these values, by its labels, and no others. What stays is never missing in between."""
    for family in gauge.collect():
        for sample in family.samples:
            labels = tuple(sample.labels.values())
            if labels not in values:
                gauge.remove(*labels)
    for labels, value in values.items():
        gauge.labels(*labels).set(value)
