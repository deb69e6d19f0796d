"""Many callers, one flush: whoever comes while a flush is in flight travels in the next one."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """Hands items to `flush` in company; an item that comes alone is flushed at once.

    `flush` gets up to `limit` items and answers with one value, or an exception, for each, in their order.
    What it raises is raised in every caller of that flush. `lanes` flushes may be in flight at once.
    A company is cut before its `size_of` items would add up to more than `load`; one item may be larger.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        limit: int,
        lanes: int = 1,
        size_of: Callable[[Item], int] = lambda item: 0,
        load: int = 0,
    ) -> None:
        self._flush = flush
        self._limit = limit
        self._lanes = lanes
        self._size_of = size_of
        self._load = load
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._flying = 0

    async def add(self, item: Item) -> Answer:
        """Wait until the item's flush is done and return its answer."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._flying < self._lanes:
            self._flying += 1
            flight = asyncio.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await future

    @property
    def waiting(self) -> int:
        """How many items stand behind the flushes in flight."""
        return len(self._waiting)

    async def drain(self) -> None:
        """Return when everything that was added has been flushed."""
        while self._flights:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(self._flights)

    def _company(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        company: list[tuple[Item, asyncio.Future[Answer]]] = []
        load = 0
        while self._waiting and len(company) < self._limit:
            load += self._size_of(self._waiting[0][0])
            if company and load > self._load:
                break
            company.append(self._waiting.popleft())
        return company

    async def _fly(self) -> None:
        # One turn of the loop first: callers that were woken together travel together.
        await asyncio.sleep(0)
        while self._waiting:
            company = self._company()
            try:
                answers = await self._flush([item for item, _ in company])
            except Exception as error:
                for _, future in company:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(company, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        # In the same step as the look above, so that nothing added later counts on this flight.
        self._flying -= 1
