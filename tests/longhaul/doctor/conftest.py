"""What the doctor's tests share: the model, worker and jobs that the tests of `jobs` have too."""

from collections.abc import Iterable

from longhaul.doctor.finding import Finding, Level
from tests.jobs.conftest import accept, model_id, new_job, new_worker, worker

__all__ = ["accept", "faults", "model_id", "new_job", "new_worker", "said", "worker"]


def faults(found: Iterable[Finding]) -> list[tuple[str, Level]]:
    """Everything that is not well."""
    return [(finding.check, finding.level) for finding in found if finding.level is not Level.OK]


def said(found: Iterable[Finding], check: str) -> str:
    """All that was said about one thing."""
    return " ".join(finding.says for finding in found if finding.check == check)
