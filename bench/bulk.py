"""Files of chats through `/v1/batches`, against vLLM's own batch runner on the same lines with the same engine.

Ours: from the create of a batch until it says `completed`, by when its result files are written; theirs as in
`bench.batch`. First 2,000 random chats. Then 1,000 lines that ask 10 questions each about 100 documents of about 1,000
tokens, shuffled, with room for 65,536 tokens in the KV cache: over the runner on the same lines, and over the runner on
those lines sorted. Last the same documents spread over two batches, over the same two run apart.
"""

import random
from collections.abc import Sequence

from bench import model, work
from bench.batch import BatchRunner
from bench.figure import Figure, Goal, Scale, alternate, ratios
from bench.files import Batches, write
from bench.stack import deployment, stores
from jobs.records import Json

_CHATS = 2000
_DOCUMENTS, _QUESTIONS = 100, 10
_WORDS = 735
"""Of a document: about 1,000 tokens of the tiny model's vocabulary."""


async def run(scale: Scale) -> list[Figure]:
    """Four ratios."""
    with stores() as servers:
        tiny = model.tiny(servers.folder)
        narrow = model.narrow(servers.folder)
        figures = []
        async with deployment(servers, "bulk", tiny.environment) as ours:
            for part in ("control", "api"):
                await ours.start(part)
            await ours.start("worker", "--", *tiny.arguments)
            side = Side(Batches.of(ours), await BatchRunner.start(ours, tiny))
            figures.append(await side.random(scale))
            await side.batches.close()
        async with deployment(servers, "documents", tiny.environment) as ours:
            for part in ("control", "api"):
                await ours.start(part)
            await ours.start("worker", "--", *narrow.arguments)
            side = Side(Batches.of(ours), await BatchRunner.start(ours, narrow))
            figures += [await side.documents(scale, in_order) for in_order in (False, True)]
            figures.append(await side.two_batches(scale))
            await side.batches.close()
    return figures


class Side:
    """Both sides on one engine each."""

    def __init__(self, batches: Batches, runner: BatchRunner) -> None:
        self.batches = batches
        self._runner = runner

    async def random(self, scale: Scale) -> Figure:
        count = scale.of(_CHATS)

        async def ours(pair: int) -> float:
            return count / await self._ours([work.chats(count, model.NAME, pair)])

        async def theirs(pair: int) -> float:
            return count / await self._runner.seconds(work.chats(count, model.NAME, pair))

        await self._ours([work.chats(count // 10 + 1, model.NAME, 1000)])
        await self._runner.seconds(work.chats(count // 10 + 1, model.NAME, 1000))
        pairs = await alternate(scale.pairs, ours, theirs)
        return ratios(f"{count:,} random lines through /v1/batches: jobs/s over run_batch", pairs, "/s", Goal(1.0))

    async def documents(self, scale: Scale, in_order: bool) -> Figure:
        """Shuffled on our side, and on theirs unless `in_order`."""
        count = scale.of(_DOCUMENTS) * _QUESTIONS

        async def ours(pair: int) -> float:
            return count / await self._ours([_shuffled(questions(count // _QUESTIONS, 10 * pair + in_order), pair)])

        async def theirs(pair: int) -> float:
            bodies = questions(count // _QUESTIONS, 10 * pair + in_order)
            return count / await self._runner.seconds(bodies if in_order else _shuffled(bodies, pair))

        pairs = await alternate(scale.pairs, ours, theirs)
        name = "sorted" if in_order else "shuffled"
        what = f"{count:,} shuffled lines on {count // _QUESTIONS} documents: jobs/s over run_batch on the {name} file"
        return ratios(what, pairs, "/s", Goal(0.95 if in_order else 1.9))

    async def two_batches(self, scale: Scale) -> Figure:
        """Half of the questions on every document in each of two batches: together, over one after the other's end."""
        count = scale.of(_DOCUMENTS) * _QUESTIONS

        def halves(seed: int) -> list[list[Json]]:
            bodies = _shuffled(questions(count // _QUESTIONS, seed), seed)
            return [bodies[: count // 2], bodies[count // 2 :]]

        async def together(pair: int) -> float:
            return count / await self._ours(halves(200 + pair))

        async def apart(pair: int) -> float:
            return count / sum([await self._ours([half]) for half in halves(300 + pair)])

        pairs = await alternate(scale.pairs, together, apart)
        return ratios(f"{count:,} such lines in two batches: jobs/s over one after the other", pairs, "/s", Goal(1.0))

    async def _ours(self, files: Sequence[list[Json]]) -> float:
        paths = [self.batches.ours.home / f"bulk-{number}.jsonl" for number in range(len(files))]
        count = sum([write(path, bodies) for path, bodies in zip(paths, files, strict=True)])
        return await self.batches.seconds([await self.batches.upload(path) for path in paths], count)


def questions(documents: int, seed: int) -> list[Json]:
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
