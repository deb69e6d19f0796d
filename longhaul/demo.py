"""The work of the demonstration: real text, every way of handing an answer back, and what is counted about it."""

import asyncio
import importlib
import inspect
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jobs.records import Json
from jobs.signing import new_secret
from longhaul.client import TERMINAL, Client, Unreachable, answer_text, failure_text
from longhaul.output import talk
from longhaul.receiver import Arrival, Receiver, listening

CHAT: Final = "/v1/chat/completions"
STREAM: Final = "stream, as it comes"
_PATIENCE_SECONDS: Final = 600
_MODULES: Final = (
    "argparse", "asyncio", "calendar", "codecs", "collections", "contextlib", "csv", "datetime", "decimal", "difflib",
    "enum", "fractions", "functools", "heapq", "inspect", "ipaddress", "json", "logging", "optparse", "pathlib",
    "pickle", "random", "re", "shutil", "socket", "statistics", "string", "subprocess", "tempfile", "textwrap",
    "threading", "traceback", "unittest", "urllib.parse", "uuid", "zipfile",
)  # fmt: skip


def paragraphs(count: int) -> list[str]:
    """So many different paragraphs of 10 to 120 words from the documentation that ships inside Python."""
    texts = (" ".join(part.split()) for page in _documentation() for part in page.split("\n\n"))
    found = list(dict.fromkeys(text for text in texts if 10 <= len(text.split()) <= 120))
    return found[:: len(found) // count][:count]


def _documentation() -> Iterator[str]:
    for name in _MODULES:
        module = importlib.import_module(name)
        yield inspect.getdoc(module) or ""
        for member in vars(module).values():
            if getattr(member, "__module__", None) == name and (inspect.isroutine(member) or inspect.isclass(member)):
                yield inspect.getdoc(member) or ""


def chats(count: int) -> list[Json]:
    """So many chat requests, each about its own paragraph, for 16 to 96 tokens."""
    return [
        {
            "messages": [
                {"role": "system", "content": "You explain Python to a newcomer."},
                {"role": "user", "content": f"In one sentence: {paragraph}"},
            ],
            "max_tokens": 16 + number * 37 % 81,
        }
        for number, paragraph in enumerate(paragraphs(count))
    ]


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request came back: `seconds` from the submit to the answer in hand, on the client's clock."""

    way: str
    status: str
    text: str
    input_tokens: int
    output_tokens: int
    seconds: float


Hand = Callable[[Answer], None]
Say = Callable[[str | None], None]
"""Told of each piece of a streamed text as it comes; None: its worker was lost, and it comes anew."""
Way = Callable[[Client, Sequence[Json], Hand], Coroutine[Any, Any, None]]


async def array_and_long_poll(client: Client, bodies: Sequence[Json], hand: Hand) -> None:
    """All in one `POST /v1/jobs`, then `GET /v1/jobs/{id}?wait=` for each."""
    since = time.monotonic()
    jobs = await client.submit_all([{"endpoint": CHAT, "body": body} for body in bodies])

    async def collect(job: Json) -> None:
        hand(_answer("one array, long polls", await client.until_done(job["id"]), since))

    await _all(collect(job) for job in jobs)


async def respond_async_and_poll(client: Client, bodies: Sequence[Json], hand: Hand) -> None:
    """`Prefer: respond-async`, then a look twice a second."""

    async def one(body: Json) -> None:
        since = time.monotonic()
        job = await client.infer(CHAT, body, prefer="respond-async")
        while job["status"] not in TERMINAL:
            await asyncio.sleep(0.5)
            job = await client.job(job["id"])
        hand(_answer("respond-async, polls", job, since))

    await _all(one(body) for body in bodies)


async def respond_async_and_wait(client: Client, bodies: Sequence[Json], hand: Hand) -> None:
    """`Prefer: respond-async, wait=5`: the response where it is quick, else a job to wait for."""

    async def one(body: Json) -> None:
        since = time.monotonic()
        found = await client.infer(CHAT, body, prefer="respond-async, wait=5")
        if found["object"] == "job":
            found = await client.until_done(found["id"])
        hand(_answer("respond-async, wait=5", found, since))

    await _all(one(body) for body in bodies)


async def told_by_webhook(client: Client, bodies: Sequence[Json], hand: Hand) -> None:
    """A `webhook` that is to bring the result: nobody asks, and what is not signed with our secret is refused."""
    secret = new_secret()
    events: defaultdict[str, asyncio.Future[Json]] = defaultdict(asyncio.get_running_loop().create_future)

    def tell(arrival: Arrival) -> None:
        data = arrival.event["data"]
        if not events[data["id"]].done():
            events[data["id"]].set_result(data)

    async def one(body: Json, url: str) -> None:
        since = time.monotonic()
        webhook = {"url": url, "secret": secret, "include": "result"}
        job = await client.infer(CHAT, {**body, "webhook": webhook})
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                told = await events[job["id"]]
        except TimeoutError:
            raise Unreachable(f"No webhook came for {job['id']}") from None
        hand(_answer("webhook, verified", {"object": "job", **told}, since))

    async with listening(Receiver(secret, tell, lambda fault: talk(f"refused a webhook: {fault}"))) as url:
        await _all(one(body, url) for body in bodies)


async def read_as_it_comes(client: Client, body: Json, hand: Hand, say: Say) -> None:
    """A stream for nobody in particular, listened to by `GET /v1/jobs/{id}/events`, anew if its worker is lost."""
    since = time.monotonic()
    asked = {**body, "max_tokens": 48, "stream": True, "service_tier": "priority"}
    job = await client.infer(CHAT, asked, prefer="respond-async")
    while True:
        async for event in client.events(job["id"]):
            for choice in event.get("choices", ()):
                say(choice["delta"].get("content") or "")
        job = await client.job(job["id"])
        if job["status"] in TERMINAL:
            break
        say(None)
    hand(_answer(STREAM, job, since))


async def wait_like_openai(client: Client, bodies: Sequence[Json], hand: Hand) -> None:
    """The plain request of OpenAI's SDK, whose answer is the response."""

    async def one(body: Json) -> None:
        since = time.monotonic()
        hand(_answer("plain OpenAI request", await client.infer(CHAT, body), since))

    await _all(one(body) for body in bodies)


WAYS: Final[tuple[tuple[Way, int], ...]] = (
    (array_and_long_poll, 59),
    (respond_async_and_poll, 80),
    (respond_async_and_wait, 40),
    (told_by_webhook, 20),
    (wait_like_openai, 20),
)
"""The ways of handing back, and how many requests go by each; with the one stream they are 200 asynchronous, and 20."""
REQUESTS: Final = 1 + sum(requests for _, requests in WAYS)


async def run(client: Client, hand: Hand, say: Say) -> None:
    """Send all the work at once, by every way; `hand` is given each answer as it comes, `say` what the stream says."""
    bodies = iter(chats(REQUESTS))
    stream = read_as_it_comes(client, next(bodies), hand, say)
    await _all([stream, *(way(client, list(itertools.islice(bodies, requests)), hand) for way, requests in WAYS)])


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for each in work:
            tasks.create_task(each)


def _answer(way: str, found: Json, since: float) -> Answer:
    """Of a job object, or of the response itself."""
    if found["object"] == "job":
        job, body = found, (found["response"] or {}).get("body") or {}
    else:
        job, body = {"status": "completed", "response": {"body": found}}, found
    usage = body.get("usage") or {}
    return Answer(
        way=way,
        status=job["status"],
        text=answer_text(job) if job["status"] == "completed" else failure_text(job),
        input_tokens=usage.get("prompt_tokens", 0),
        output_tokens=usage.get("completion_tokens", 0),
        seconds=time.monotonic() - since,
    )
