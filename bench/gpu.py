"""The batch and the serving figure with a model of real size, where a GPU is at hand."""

from bench import batch, model, serve
from bench.figure import Figure, Goal, Scale
from bench.stack import stores


async def run(scale: Scale) -> list[Figure]:
    """Nothing without a GPU."""
    if not await model.has_gpu():
        return []
    with stores() as servers:
        served = model.real_size(servers.folder)
        name = "8 billion random weights"
        return [
            await batch.measure(scale, servers, served, name),
            await serve.measure(scale, servers, served, name, Goal(0.97)),
        ]
