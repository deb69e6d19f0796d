"""1,000 lines that ask 10 questions each about 100 documents of about 1,000 tokens, shuffled, through `/v1/batches`.

There is room for 65,536 tokens in the KV cache. Over vLLM's batch runner on the same lines, and over it on those lines
sorted. Last the same documents spread over two batches, over the same two run apart. Measured as in `bench.bulk`.
"""

import random

from bench import model, work
from bench.bulk import Sides
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.stack import deployment, stores
from jobs.records import Json

_DOCUMENTS, _QUESTIONS = 100, 10
_WORDS = 735
"""Of a document: about 1,000 tokens of the tiny model's vocabulary."""


async def run(scale: Scale) -> list[Figure]:
    """Three ratios."""
    with stores() as servers:
        narrow = model.narrow(servers.folder)
        async with deployment(servers, "documents", narrow.environment) as ours:
            sides = await Sides.start(ours, narrow)
            figures = [await _over_runner(scale, sides, in_order) for in_order in (False, True)]
            figures.append(await _two_batches(scale, sides))
            await sides.close()
    return figures


async def _over_runner(scale: Scale, sides: Sides, in_order: bool) -> Figure:
    """Shuffled on our side, and on theirs unless `in_order`."""
    count = scale.of(_DOCUMENTS) * _QUESTIONS

    async def ours(pair: int) -> float:
        return count / await sides.ours([_shuffled(_questions(count // _QUESTIONS, 10 * pair + in_order), pair)])

    async def theirs(pair: int) -> float:
        bodies = _questions(count // _QUESTIONS, 10 * pair + in_order)
        return count / await sides.theirs(bodies if in_order else _shuffled(bodies, pair))

    pairs = await alternate(scale.pairs, ours, theirs)
    name = "sorted" if in_order else "shuffled"
    what = f"{count:,} shuffled lines on {count // _QUESTIONS} documents: jobs/s over run_batch on the {name} file"
    return ratios(what, pairs, "/s", Goal(0.95 if in_order else 1.9))


async def _two_batches(scale: Scale, sides: Sides) -> Figure:
    """Half of the questions on every document in each of two batches: together, over one after the other's end."""
    count = scale.of(_DOCUMENTS) * _QUESTIONS

    def halves(seed: int) -> list[list[Json]]:
        bodies = _shuffled(_questions(count // _QUESTIONS, seed), seed)
        return [bodies[: count // 2], bodies[count // 2 :]]

    async def together(pair: int) -> float:
        return count / await sides.ours(halves(200 + pair))

    async def apart(pair: int) -> float:
        return count / sum([await sides.ours([half]) for half in halves(300 + pair)])

    pairs = await alternate(scale.pairs, together, apart)
    return ratios(f"{count:,} such lines in two batches: jobs/s over one after the other", pairs, "/s", Goal(1.0))


def _questions(documents: int, seed: int) -> list[Json]:
    """Ten questions on each document, document by document; other seeds have other documents."""
    chance = random.Random(seed)
    bodies = []
    for _ in range(documents):
        document = " ".join(chance.choices(work.WORDS, k=_WORDS))
        for _ in range(_QUESTIONS):
            question = " ".join(chance.choices(work.WORDS, k=12))
            message = {"role": "user", "content": f"{document} {question}"}
            bodies.append({"model": model.NAME, "messages": [message], "max_tokens": 16, "ignore_eos": True})
    return bodies


def _shuffled(bodies: list[Json], seed: int) -> list[Json]:
    random.Random(seed).shuffle(bodies)
    return bodies
