"""A file's way through the Batch API: its parts go up, are waited for, and come back as one file of results."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import BinaryIO, Final, Literal

from jobs.records import Json
from longhaul.batch_client import BatchClient
from longhaul.batch_files import Part, merged_as_vllm, whole
from longhaul.client import TERMINAL, Refused
from longhaul.output import talk
from longhaul.progress import Bar, Pace

_REUSED: Final = "idempotency_key_reused"
_CUT_SHORT: Final = ("cancelled", "expired")


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of the batches of a file. `again` makes new ones even if the same file was run before."""

    endpoint: str
    window: str
    metadata: dict[str, str] | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where results go: `output` and `errors` are paths, `-` or URLs. `vllm` puts all of them into `output`; without
    a name for the errors, failed lines stay on the server."""

    output: str
    errors: str | None
    format: Literal["openai", "vllm"] = "openai"


async def submit(client: BatchClient, parts: Sequence[Part], order: Order, made: Callable[[Json], None]) -> None:
    """Upload each part and make its batch, or find the one that the same part has already; `made` hears of each."""
    with Bar(sum(part.size for part in parts), in_bytes=True) as bar:
        before = 0
        for part in parts:
            told = _from(before, bar)
            made(await _submitted(client, part, order, told))
            before += part.size


def _from(before: int, bar: Bar) -> Callable[[int], None]:
    return lambda sent: bar.update(before + sent, "uploaded")


async def _submitted(client: BatchClient, part: Part, order: Order, told: Callable[[int], None]) -> Json:
    content = [part.name, part.digest]
    file = await client.upload(part, _key("file", *content), told)
    batch: Json = {
        "input_file_id": file["id"],
        "endpoint": order.endpoint,
        "completion_window": order.window,
        "metadata": order.metadata,
    }
    if order.again:
        return await client.create_batch(batch)
    content.append(order.endpoint)
    try:
        made = await client.create_batch(batch, _key("run", *content))
        while never_began(made):  # what its validation missed may be there by now
            content.append(made["id"])
            made = await client.create_batch(batch, _key("run", *content))
    except Refused as error:
        if error.code != _REUSED:
            raise
        message = "This file was run before, with other options or with an input that is gone; --again runs it anew."
        raise Refused(error.status, message, code=error.code) from None
    return made


def never_began(batch: Json) -> bool:
    """Whether a batch failed its validation, or was stopped before the end of that."""
    return batch["status"] in TERMINAL and not batch["request_counts"]["total"]


def _key(kind: str, *content: str) -> str:
    """The idempotency key of a file or run: the same for the same name and content."""
    digest = hashlib.sha256("\0".join(content).encode())
    return f"longhaul-{kind}-{digest.hexdigest()}"


async def ended(client: BatchClient, batch_ids: Sequence[str], poll: float, requests: int = 0) -> list[Json]:
    """Wait for all of these batches, with a bar. `requests` is how many they have, if that is known."""
    with Bar(requests) as bar:
        pace = Pace()

        def seen(batches: Sequence[Json]) -> None:
            counts = [batch["request_counts"] for batch in batches]
            total = max(requests, sum(count["total"] for count in counts))
            done = sum(count["completed"] + count["failed"] for count in counts)
            tokens = sum((batch.get("usage") or {}).get("total_tokens", 0) for batch in batches)
            pace.saw(time.monotonic(), done, tokens)
            states = sorted({batch["status"] for batch in batches})
            bar.update(done, ", ".join(filter(None, [*states, pace.words(total)])), total)

        return await client.until_all_ended(batch_ids, poll, seen)


async def collect(client: BatchClient, batches: Sequence[Json], to: Destination) -> None:
    """Write the results of batches that have ended, in their order; the files appear when all of it is there."""
    with whole(to.output) as output:
        if to.format == "vllm":
            for batch in batches:
                with tempfile.TemporaryFile() as good, tempfile.TemporaryFile() as bad:
                    await _append(client, batch["output_file_id"], good)
                    await _append(client, batch["error_file_id"], bad)
                    good.seek(0)
                    bad.seek(0)
                    output.writelines(merged_as_vllm(good, bad))
            return
        for batch in batches:
            await _append(client, batch["output_file_id"], output)
        if to.errors is not None:
            with whole(to.errors, keep_empty=False) as errors:
                for batch in batches:
                    await _append(client, batch["error_file_id"], errors)


async def _append(client: BatchClient, file_id: str | None, file: BinaryIO) -> None:
    if file_id is None:
        return
    last = b"\n"
    async for chunk in client.content(file_id):
        file.write(chunk)
        last = chunk[-1:]
    if last != b"\n":
        file.write(b"\n")


def report(batches: Sequence[Json], first_lines: Sequence[int], where: str) -> bool:
    """Say how batches ended; whether every line of them completed.

    `first_lines` are the numbers of the parts' first lines in the file that was cut, so that a fault is told with its
    own line; `where` says where failed requests are.
    """
    for batch, first in zip(batches, first_lines, strict=True):
        for fault in (batch["errors"] or {}).get("data", ()):
            talk(spelled(fault, first - 1))
    for batch in batches:
        if batch["status"] == "failed":
            talk(f"error: {batch['id']} was not run: its input is not valid")
        elif never_began(batch):
            talk(f"error: {batch['id']} was not run: it was {batch['status']} before it began")
        elif batch["status"] in _CUT_SHORT:
            talk(f"{batch['id']} {batch['status']}: `longhaul batch retry {batch['id']}` runs what is left")
    ran = [batch for batch in batches if not never_began(batch)]
    total, completed = (sum(batch["request_counts"][name] for batch in ran) for name in ("total", "completed"))
    if ran:
        failed = f", {total - completed:,} did not" + (f" ({where})" if where else "")
        talk(f"{completed:,} of {total:,} requests completed{speed(ran)}" + (failed if completed < total else ""))
    return all(batch["status"] == "completed" for batch in batches) and completed == total


def speed(batches: Sequence[Json]) -> str:
    """How long batches that ended ran, together, and how fast; nothing if it was less than a second."""
    began = min((batch["in_progress_at"] for batch in batches if batch["in_progress_at"]), default=0)
    stopped = max((batch["finalizing_at"] or batch["cancelling_at"] or began for batch in batches), default=began)
    seconds = stopped - began
    if seconds <= 0:
        return ""
    done = sum(batch["request_counts"]["completed"] + batch["request_counts"]["failed"] for batch in batches)
    tokens = sum((batch["usage"] or {}).get("total_tokens", 0) for batch in batches)
    return f" in {timedelta(seconds=seconds)} ({done / seconds:,.4g} jobs/s, {tokens / seconds:,.0f} tokens/s)"


def spelled(fault: Json, before: int = 0) -> str:
    """One fault of a file as a line of words, its number counted on from `before`."""
    place = "the file" if fault["line"] is None else f"line {fault['line'] + before}"
    param = f" (param: {fault['param']})" if fault["param"] else ""
    return f"{place}: {fault['code']}: {fault['message']}{param}"
