"""Resident memory of an API process that knows 3 models, after 100,000 submits, and what they added to it.

The growth is counted from the moment when each model was asked once, so that validators and caches are in place.
"""

from bench import model
from bench.figure import Figure, Goal, Scale, say
from bench.load import generate
from bench.stack import Stores, deployment, stores
from bench.submit import CONNECTIONS, submits
from jobs.records import Json

_SUBMITS = 100_000
_MODELS = ("first", "second", "third")
_PROCESSES = 3


async def run(scale: Scale) -> list[Figure]:
    """MB after the submits, and MB more than before; a fresh process each time."""
    schemas = await model.schemas()
    count = scale.of(_SUBMITS)
    sizes: list[tuple[float, float]] = []
    with stores() as servers:
        for number in range(min(scale.pairs, _PROCESSES)):
            sizes.append(await _measure(servers, f"memory{number}", schemas, count))
            say(f"  {sizes[-1][0]:.1f} MB, after {count:,} submits {sizes[-1][1]:.1f} MB")
    after = [last for _, last in sizes]
    growth = [last - first for first, last in sizes]
    what = f"memory of an API process, 3 models, {count:,} submits:"
    return [
        Figure(f"{what} resident", after, "MB", Goal(170, at_most=True)),
        Figure(f"{what} growth", growth, "MB", Goal(20, at_most=True)),
    ]


async def _measure(servers: Stores, name: str, schemas: dict[str, Json], count: int) -> tuple[float, float]:
    async with deployment(servers, name) as ours:
        for known in _MODELS:
            await ours.know(model.registration(known, schemas))
        api = await ours.start("api")
        by_model = [submits(known, ours.key) for known in _MODELS]
        mixed = [request for group in zip(*by_model, strict=True) for request in group]
        await generate(ours.base_url, mixed, CONNECTIONS, count=len(_MODELS))
        before = api.resident_mb()
        await generate(ours.base_url, mixed, CONNECTIONS, count=count)
        return before, api.resident_mb()
