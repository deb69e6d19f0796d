"""Many callers, one flush: whoever comes while a flush is in flight travels in the next one."""

import asyncio
import contextlib
import math
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
        self._leave_at = math.inf
        self._hurry = asyncio.Event()

    async def add(self, item: Item, patience: float = 0) -> Answer:
        """Wait until the item's flush is done and return its answer.

        With every item on board having the patience, in seconds, the flush waits that long for company.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        self._leave_at = min(self._leave_at, loop.time() + patience)
        if not patience or len(self._waiting) >= self._limit:
            self._hurry.set()
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
        if self._waiting:  # they have waited
            self._hurry.set()
        return company

    async def _gather(self) -> None:
        """Wait for company until the first on board has to leave."""
        left = self._leave_at - asyncio.get_running_loop().time()
        if left > 0 and not self._hurry.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._hurry.wait()
        self._hurry.clear()
        self._leave_at = math.inf

    async def _fly(self) -> None:
        # One turn of the loop first: callers that were woken together travel together.
        await asyncio.sleep(0)
        while self._waiting:
            await self._gather()
            company = self._company()
            if not company:  # another lane took them
                break
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
