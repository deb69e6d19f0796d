"""Claims and results alone, without any part: `jobs` on a queue of one flow and of 51, in companies of 1, 16 and 64."""

from functools import partial

from bench import deep, pipeline
from bench.figure import Figure, Scale, windows
from bench.stack import Deployment, deployment, stores

_QUEUED = 90_000
_FLOWS = (1, 51)
_COMPANIES = {1: 400, 16: 8000, 64: 16_000}
"""How many jobs one window runs of each."""


async def run(scale: Scale) -> list[Figure]:
    """Jobs/s by two workers side by side in one process, bodies read and results stored; no autovacuum."""
    figures = []
    with stores({"autovacuum": "off"}) as servers:
        for flows in _FLOWS:
            async with deployment(servers, f"flows{flows}") as ours:
                model_id = await ours.know(pipeline.registration())
                tenants = await deep.tenants(ours.database, flows)
                await deep.queue(ours.database, (model_id, pipeline.MODEL), tenants, _QUEUED)
                for company, jobs in _COMPANIES.items():
                    rates = await windows(3, partial(_rate, ours, model_id, scale.of(jobs), company))
                    figures.append(Figure(f"claim and finish by {company}, {flows} flows", rates, "/s", None))
    return figures


async def _rate(ours: Deployment, model_id: int, jobs: int, company: int, window: int) -> float:
    return (await deep.run(ours.database, model_id, jobs, company)).rate
