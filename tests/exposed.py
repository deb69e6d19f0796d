"""What this process's metrics say, as Prometheus would read it."""

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase


def sample(name: str, **labels: str) -> float | None:
    """One sample by its full name (`..._total`, `..._count`) and labels; None if there is none."""
    return REGISTRY.get_sample_value(name, labels)


def count(name: str, **labels: str) -> float:
    """The same of a counter, which begins at 0."""
    return sample(name, **labels) or 0.0


def values(gauge: MetricWrapperBase) -> dict[tuple[str, ...], float]:
    """Everything that a gauge shows, by its labels' values."""
    [family] = gauge.collect()
    return {tuple(sample.labels.values()): sample.value for sample in family.samples}
