"""2,000 random chats through `/v1/batches`, against vLLM's own batch runner on the same lines with the same engine.

Ours: from the create of a batch until it says `completed`, by when its result files are written; theirs as in
`bench.batch`.
"""

from collections.abc import Sequence

from bench import model, work
from bench.batch import BatchRunner
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.files import Batches, write
from bench.model import Served
from bench.stack import Deployment, deployment, stores
from jobs.records import Json

_CHATS = 2000


async def run(scale: Scale) -> list[Figure]:
    """One ratio."""
    count = scale.of(_CHATS)
    with stores() as servers:
        tiny = model.tiny(servers.folder)
        async with deployment(servers, "bulk", tiny.environment) as ours:
            sides = await Sides.start(ours, tiny)

            async def our_rate(pair: int) -> float:
                return count / await sides.ours([work.chats(count, model.NAME, pair)])

            async def their_rate(pair: int) -> float:
                return count / await sides.theirs(work.chats(count, model.NAME, pair))

            some = work.chats(count // 10 + 1, model.NAME, 1000)
            await sides.ours([some])
            await sides.theirs(some)
            pairs = await alternate(scale.pairs, our_rate, their_rate)
            await sides.close()
    return [ratios(f"{count:,} random lines through /v1/batches: jobs/s over run_batch", pairs, "/s", Goal(1.0))]


class Sides:
    """Both sides on one engine each. What they measure are seconds."""

    def __init__(self, batches: Batches, runner: BatchRunner) -> None:
        self._batches = batches
        self._runner = runner

    @classmethod
    async def start(cls, ours: Deployment, served: Served) -> "Sides":
        """Return when both engines are loaded."""
        for part in ("control", "api"):
            await ours.start(part)
        await ours.start("worker", "--", *served.arguments)
        return cls(Batches.of(ours), await BatchRunner.start(ours, served))

    async def ours(self, files: Sequence[list[Json]]) -> float:
        """These files as batches, made one after the other."""
        paths = [self._batches.ours.home / f"bulk-{number}.jsonl" for number in range(len(files))]
        count = sum([write(path, bodies) for path, bodies in zip(paths, files, strict=True)])
        return await self._batches.seconds([await self._batches.upload(path) for path in paths], count)

    async def theirs(self, bodies: list[Json]) -> float:
        return await self._runner.seconds(bodies)

    async def close(self) -> None:
        await self._batches.close()
