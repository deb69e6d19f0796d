"""Sends webhooks: due deliveries are claimed, signed and posted, to many receivers at once, and marked."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from control import verdict
from control.egress import Egress, Undelivered
from control.lanes import Lane
from jobs import ids, metrics, outbox, signing
from jobs.database import Database, is_connection_lost
from jobs.group_commit import GroupCommit
from jobs.outbox import Due, Mark, Receiver
from jobs.secrets import Vault
from jobs.traces import Facts, Span, Traces

_LOOK_SECONDS: Final = 1.0
_COMPANY: Final = 500
_MOST_IN_HAND: Final = 5000
_STOP_SECONDS: Final = 2.0
_AGENT: Final = "Longhaul/1.0 (webhooks)"
_log = structlog.get_logger()


class Courier:
    """One process's share of the deliveries. Each receiver has a lane, so that none waits for another's slowness."""

    def __init__(
        self, database: Database, vault: Vault, egress: Egress, jitter: float, traces: Traces | None = None
    ) -> None:
        self._database = database
        self._vault = vault
        self._egress = egress
        self._jitter = jitter
        self._traces = traces
        self._lanes: defaultdict[int, Lane] = defaultdict(Lane)
        self._news = asyncio.Event()
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: Counter[int] = Counter()
        """POSTs by tenant."""
        self._marks: GroupCommit[Mark, None] = GroupCommit(self._mark, limit=_COMPANY)

    def wake(self) -> None:
        """Look now: something may be due."""
        self._news.set()

    async def run(self) -> None:
        """Look for what is due whenever somebody says so, and every second, until cancelled.

        What is under way then gets a moment to end; what does not is sent again by whoever claims it next.
        """
        try:
            while True:
                self._news.clear()
                if not await self._look():
                    await asyncio.sleep(_LOOK_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._news.wait()
        finally:
            self._stopping = True
            for lane in self._lanes.values():
                self._put_off(lane.empty(), 0)
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
                for task in late:
                    task.cancel()

    async def _look(self) -> bool:
        """Claim and send; False if the database does not answer."""
        now = time.monotonic()
        for number, lane in list(self._lanes.items()):
            if lane.is_idle(now):
                del self._lanes[number]
            else:
                self._send_from(lane)
        room = _MOST_IN_HAND - len(self._tasks)
        if room <= 0:
            return True
        # What one tenant holds is never more than what is left for the others, however many dead receivers it has.
        crowded = [tenant for tenant, count in self._under_way.items() if count > room]
        full = [number for number, lane in self._lanes.items() if lane.is_full(now)]
        quick = [number for number, lane in self._lanes.items() if lane.quick]
        try:
            claimed = await outbox.claim(self._database, self._vault, full, quick, crowded, _COMPANY)
        except Exception as error:  # the loop must outlive it, and looks again in a second
            lost = isinstance(error, (TimeoutError, OSError)) or is_connection_lost(error)
            _log.warning("cannot look for webhooks", error=str(error), exc_info=None if lost else error)
            return False
        now = time.monotonic()
        for number, several in _by_lane(claimed).items():
            self._lanes[number].put(several, now)
            self._send_from(self._lanes[number])
        if len(claimed) == _COMPANY:
            self._news.set()
        return True

    def _send_from(self, lane: Lane) -> None:
        """Send what this receiver can take now, and give back what it cannot take for a while."""
        now = time.monotonic()
        while not self._stopping and (due := lane.take(now)):
            self._start(self._deliver(lane, due))
        if seconds := lane.closed_for(now):
            self._put_off(lane.empty(), seconds)
        if lane.wants_more(now):
            self._news.set()

    def _put_off(self, several: Sequence[Due], seconds: float) -> None:
        for due in several:
            self._start(self._note(verdict.put_off(due, seconds)))

    async def _deliver(self, lane: Lane, due: Due) -> None:
        """One delivery, from its claim to its mark."""
        well, pause, began = True, 0.0, time.monotonic()
        mark: Mark | None = None
        self._under_way[due.tenant_id] += 1
        try:
            mark, well, pause = await self._attempt(due)
        except Exception as error:  # a fault of ours: its claim runs out, and it is tried again
            _log.error("a webhook could not be sent", delivery=due.webhook_id, exc_info=error)
        finally:
            self._under_way[due.tenant_id] -= 1
            now = time.monotonic()
            lane.ended(now, now - began, well, pause)
            self._send_from(lane)
        if mark is not None:
            await self._note(mark)

    async def _attempt(self, due: Due) -> tuple[Mark | None, bool, float]:
        """What became of it, whether the receiver is well, and how long it asks to be left alone."""
        receiver = due.receiver
        if receiver is None:
            return verdict.of_nowhere(due, self._jitter), True, 0.0
        if due.includes_result:
            included = await outbox.include_result(self._database, due)
            if included is None:
                return None, True, 0.0
            due = included
        began = datetime.now(UTC)
        span = self._span(due)
        headers = _headers(due, receiver, began) | ({} if span is None else {"traceparent": span.traceparent})
        try:
            answer = await self._egress.post(receiver.url, headers, due.body, due.tenant_id)
        except Undelivered as silence:
            if span:
                span.end(error=silence.reason)
            return verdict.of_silence(due, began, silence, self._jitter), False, 0.0
        if span:
            failed = not 200 <= answer.status < 300
            span.end({"http.response.status_code": answer.status}, error=f"status {answer.status}" if failed else None)
        trouble = verdict.is_trouble(answer)
        pause = (answer.retry_after or 0.0) if trouble else 0.0
        return verdict.of_answer(due, began, answer, self._jitter), not trouble, pause

    def _span(self, due: Due) -> Span | None:
        """One attempt, in the trace of the request that the event is about."""
        if self._traces is None or due.traceparent is None:
            return None
        facts: Facts = {
            "longhaul.event": due.type,
            "longhaul.delivery": due.webhook_id,
            "longhaul.attempt": due.attempts + 1,
        }
        return self._traces.begin("webhook", due.traceparent, kind="client", facts=facts)

    async def _note(self, mark: Mark) -> None:
        await self._marks.add(mark)
        outcome = "put off" if mark.at is None else "tried again" if mark.delay else mark.status.value
        metrics.DELIVERIES.labels(outcome).inc()

    async def _mark(self, marks: Sequence[Mark]) -> Sequence[None]:
        metrics.MARK_COMPANY.observe(len(marks))
        await self._write(sorted(marks, key=lambda mark: mark.due.id))
        return [None] * len(marks)

    async def _write(self, marks: Sequence[Mark]) -> None:
        """Write these, however long the database is away: a delivery that was made is not made again for nothing."""
        pause = 0.05
        while True:
            try:
                disabled = await outbox.mark(self._database, marks)
            except (DataError, IntegrityError, UnicodeError) as error:
                if len(marks) == 1:
                    _log.error("a mark cannot be stored", delivery=marks[0].due.webhook_id, error=str(error))
                    return
                for mark in marks:  # one that cannot be stored must not hold up its company
                    await self._write([mark])
                return
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                _log.warning("cannot mark webhooks, the database does not answer", error=str(error))
                await asyncio.sleep(pause)
                pause = min(1.0, pause * 2)
            else:
                for endpoint, reason in disabled.items():
                    _log.warning("a webhook endpoint is disabled", endpoint=ids.endpoint_id(endpoint), reason=reason)
                return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _by_lane(claimed: Sequence[Due]) -> dict[int, list[Due]]:
    lanes: defaultdict[int, list[Due]] = defaultdict(list)
    for due in claimed:
        lanes[due.lane].append(due)
    return lanes


def _headers(due: Due, receiver: Receiver, at: datetime) -> dict[str, str]:
    """Those of Standard Webhooks, signed anew for each attempt, after the receiver's own."""
    timestamp = int(at.timestamp())
    return {
        **receiver.headers,
        "content-type": "application/json",
        "user-agent": _AGENT,
        "webhook-id": due.webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign(due.webhook_id, timestamp, due.body, receiver.secrets),
    }
