"""How many traces begin by themselves: so many a second, so that a flood of requests costs no more to trace than a few.

Imported only where traces are made.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

A_SECOND: Final = 10
"""A traced run costs its worker 0.4 ms to record and to send, and a request may have ten: so 4 % of a core at most."""


class Pace(Sampler):
    """Records so many traces a second, the first of each second's; up to a second's worth is saved while none comes."""

    def __init__(self, a_second: float = A_SECOND, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_second = a_second
        self._clock = clock
        self._saved = a_second
        self._at = clock()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        now = self._clock()
        self._saved = min(self._a_second, self._saved + (now - self._at) * self._a_second)
        self._at = now
        if self._saved < 1:
            return SamplingResult(Decision.DROP)
        self._saved -= 1
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return f"Pace({self._a_second:g}/s)"
