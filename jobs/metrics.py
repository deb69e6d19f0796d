"""Every metric of every part, in one table."""

from typing import Final

from prometheus_client import Counter, Histogram

_COMPANY: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

ACCEPT_COMPANY: Final = Histogram("longhaul_accept_company", "Submits that were committed together.", buckets=_COMPANY)
FINISH_COMPANY: Final = Histogram("longhaul_finish_company", "Results that were committed together.", buckets=_COMPANY)
FINISHED: Final = Counter("longhaul_finished_total", "Jobs that ended, by status.", ["status"])
STALE_RESULTS: Final = Counter("longhaul_stale_results_total", "Results refused because their job was no longer held.")
