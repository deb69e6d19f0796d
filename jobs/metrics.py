"""Every metric of every part, in one table."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_COMPANY: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

# Submitting.
ACCEPT_COMPANY: Final = Histogram("longhaul_accept_company", "Submits that were committed together.", buckets=_COMPANY)
HTTP_REQUESTS: Final = Counter("longhaul_http_requests_total", "Requests that were answered.", ["method", "status"])

# Tickets.
TICKETS: Final = Counter("longhaul_tickets_total", "Tickets that were published.")
TICKETS_LOST: Final = Counter("longhaul_tickets_lost_total", "Queues whose tickets could not be published.")
TICKETS_AGAIN: Final = Counter("longhaul_tickets_again_total", "Queues that control asked tickets for.")

# Running.
CLAIM_COMPANY: Final = Histogram("longhaul_claim_company", "Jobs that were claimed together.", buckets=_COMPANY)

# Recording and waking.
FINISH_COMPANY: Final = Histogram("longhaul_finish_company", "Results that were committed together.", buckets=_COMPANY)
FINISHED: Final = Counter("longhaul_finished_total", "Jobs that ended, by status.", ["status"])
STALE_RESULTS: Final = Counter("longhaul_stale_results_total", "Results refused because their job was no longer held.")
READ_COMPANY: Final = Histogram("longhaul_read_company", "Results read together for waiters.", buckets=_COMPANY)

# Worker.
SLOTS: Final = Gauge("longhaul_slots", "Jobs that this worker's engine wants at once.")
RUNNING: Final = Gauge("longhaul_running", "Jobs in this worker's engine.")

# Control.
QUEUED: Final = Gauge("longhaul_queued", "Jobs that wait, when control last looked.", ["model", "tier"])
OLDEST: Final = Gauge("longhaul_oldest_queued_seconds", "Age of the oldest job that waits, by model.", ["model"])
LEASES_EXPIRED: Final = Counter("longhaul_leases_expired_total", "Workers whose jobs were taken from them.")
ORPHANS: Final = Counter("longhaul_orphans_total", "Jobs of lost workers, by what became of them.", ["end"])
DELIVERIES: Final = Counter("longhaul_deliveries_total", "Attempts to deliver webhooks, by outcome.", ["outcome"])
CHORES: Final = Counter("longhaul_chores_total", "Rounds of control's chores, by how they ended.", ["chore", "end"])
