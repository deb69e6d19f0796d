"""`longhaul batch`: files of requests in, files of results out, through the HTTP API."""

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import typer

from jobs import settings
from jobs.records import Json
from longhaul import batch_files, batch_run
from longhaul.batch_check import Check, in_words
from longhaul.batch_client import BatchClient
from longhaul.batch_files import BadFile, Part
from longhaul.batch_run import Destination, Order
from longhaul.commands.jobs import AsJson, Metadata, pairs
from longhaul.deployment import api_address
from longhaul.output import FAILED, emit, emit_table, failures_said, talk

T = TypeVar("T")

INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as of a shell."""
_LINES: Final = 50_000
_BYTES: Final = 200 * 2**20


Batches = Annotated[list[str], typer.Argument(metavar="BATCH...", help="Ids, as `longhaul batch run` prints them.")]
Output = Annotated[str, typer.Option("--output-file", "-o", metavar="FILE", help="A path, - or a URL to PUT to.")]
Errors = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Where failed requests go; FILE.errors.jsonl beside the output by default."),
]
Format = Annotated[
    Literal["openai", "vllm"],
    typer.Option("--format", help="vllm: the lines of its run-batch, failed ones among them, in the input's order."),
]
Poll = Annotated[float, typer.Option(metavar="SECONDS", min=0.05, help="How often to look how far it is.")]
Lines = Annotated[int, typer.Option(min=1, help="Split a longer file into batches of so many requests.")]
Bytes = Annotated[int, typer.Option(min=1, help="Split a larger file into batches of so many bytes.")]
Endpoint = Annotated[str | None, typer.Option(help="Path of the requests; the first line's url by default.")]

app = typer.Typer(no_args_is_help=True)


@app.command()
def run(
    input_file: Annotated[
        str, typer.Option("--input-file", "-i", metavar="FILE", help="A path, - or a URL of JSON lines.")
    ],
    output_file: Output,
    output_format: Format = "openai",
    errors: Errors = None,
    endpoint: Endpoint = None,
    window: Annotated[str, typer.Option(help="When it must be done: 24h, 90m, 30s.")] = "24h",
    metadata: Metadata = None,
    model: Annotated[str | None, typer.Option(help="For vLLM's run-batch; here the requests name their model.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Start over if the same file was run before.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the batch's id and end.")] = False,
    poll: Poll = 1.0,
    max_lines: Lines = _LINES,
    max_bytes: Bytes = _BYTES,
) -> None:
    """Run a file of requests and write the file of results. Ends with 1 if a request did not complete.

    The same file again goes on with what it began. Ctrl-C leaves it running.
    """
    if model is not None:
        talk("warning: --model has no effect: the engines run elsewhere, and each request names its model")
    destination, tags = _destination(output_file, errors, output_format), pairs(metadata)
    ids: list[str] = []
    parts: list[Part] = []

    def made(batch: Json) -> None:
        ids.append(batch["id"])
        if detach:
            print(batch["id"], flush=True)
        else:
            talk(f"{batch['id']} {batch['status']}")

    async def work(client: BatchClient) -> bool:
        with batch_files.local(input_file) as path:
            order = Order(endpoint or batch_files.first_url(path), window, tags, again)
            parts.extend(batch_files.cut(path, _name(input_file), most_lines=max_lines, most_bytes=max_bytes))
            await batch_run.submit(client, parts, order, made)
        return detach or await _finish(client, ids, destination, poll, parts)

    _end(_call(work, lambda: _way_back(ids, destination, missing=len(parts) - len(ids), again=again)))


@app.command()
def check(
    input_file: Annotated[str, typer.Argument(metavar="FILE", help="A path, - or a URL of JSON lines.")],
    model: Annotated[str | None, typer.Option(help="The name that every request must ask for.")] = None,
    endpoint: Endpoint = None,
    schemas: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="The engine's, as `longhaul models schemas` prints them."
        ),
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=0.001, help="What the engines process, for an estimate of the time.")
    ] = None,
    max_lines: Lines = _LINES,
    max_bytes: Bytes = _BYTES,
    as_json: AsJson = False,
) -> None:
    """Look for bad lines in a file of requests, and estimate what it costs. No service is needed.

    Ends with 1 if a line is bad.
    """
    known = None if schemas is None else _schemas(schemas)

    async def work() -> bool:
        with batch_files.local(input_file) as path:
            wanted = endpoint or batch_files.first_url(path)
            checked = Check(wanted, settings.load(), model=model, schemas=known)
            async for fault in checked.faults(path):
                if as_json:
                    emit(fault)
                else:
                    print(batch_run.spelled(fault))
            parts = batch_files.cut(path, "", most_lines=max_lines, most_bytes=max_bytes)
        estimate = checked.estimate(len(parts), tokens_per_second)
        if as_json:
            emit(estimate)
        else:
            print(in_words(estimate))
        return checked.good

    _end(_run(work))


@app.command("list")
def list_batches(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(metavar="BATCH", help="Go on after this batch.")] = None,
    as_json: AsJson = False,
) -> None:
    """List batches, newest first."""
    filters = {"limit": str(limit)} | ({"after": after} if after else {})
    page = _call(lambda client: client.batch_page(filters))
    if as_json:
        emit(page)
        return
    columns = ("batch", "status", "endpoint", "model", "requests", "completed", "failed", "created")
    emit_table(columns, [_row(batch) for batch in page["data"]])
    if page["has_more"]:
        talk(f"more: longhaul batch list --after {page['last_id']}")


@app.command()
def show(batches: Batches, as_json: AsJson = False) -> None:
    """Print batches whole, as the API's own objects."""
    for batch in _call(lambda client: _each(client.batch, batches)):
        if as_json:
            emit(batch)
        else:
            print(json.dumps(batch, indent=2, ensure_ascii=False))


@app.command()
def cancel(batches: Batches, as_json: AsJson = False) -> None:
    """Cancel batches: what waits ends at once, what runs may finish, and what is done is kept."""
    for batch in _call(lambda client: _each(client.cancel_batch, batches)):
        if as_json:
            emit(batch)
        else:
            talk(f"{batch['id']} {batch['status']}")


@app.command()
def retry(batches: Batches, as_json: AsJson = False) -> None:
    """Run what failed, expired or was cancelled in batches again, as new batches, and print the new ids."""
    for batch in _call(lambda client: _each(client.retry_batch, batches)):
        if as_json:
            emit(batch)
        else:
            print(batch["id"])


@app.command()
def fetch(
    batches: Batches, output_file: Output, output_format: Format = "openai", errors: Errors = None, poll: Poll = 1.0
) -> None:
    """Wait for batches and write their results, joined in the order of the ids. Ends with 1 if a request failed."""
    destination = _destination(output_file, errors, output_format)
    _end(_call(lambda client: _finish(client, batches, destination, poll), lambda: _way_back(batches, destination)))


def _call(work: Callable[[BatchClient], Awaitable[T]], way_back: Callable[[], str] = str) -> T:
    async def call() -> T:
        async with BatchClient(*api_address(settings.load())) as client:
            return await work(client)

    return _run(call, way_back)


def _run(work: Callable[[], Coroutine[Any, Any, T]], way_back: Callable[[], str] = str) -> T:
    """What `work` returns, or the end of the command; after Ctrl-C it says the `way_back`."""
    with failures_said():
        try:
            return asyncio.run(work())
        except BadFile as error:
            talk(f"error: {error}")
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            talk(way_back())
            raise typer.Exit(INTERRUPTED) from None


def _end(good: bool) -> None:
    if not good:
        raise typer.Exit(FAILED)


async def _each(call: Callable[[str], Awaitable[Json]], ids: Sequence[str]) -> list[Json]:
    return [await call(batch_id) for batch_id in ids]


async def _finish(
    client: BatchClient, ids: Sequence[str], to: Destination, poll: float, parts: Sequence[Part] = ()
) -> bool:
    requests = sum(part.requests for part in parts)
    batches = await batch_run.ended(client, ids, poll, requests)
    if not all(map(batch_run.never_began, batches)):
        await batch_run.collect(client, batches, to)
    where = to.errors or ("" if to.format == "vllm" else "--errors FILE writes them")
    return batch_run.report(batches, [part.first_line for part in parts] or [1] * len(ids), where)


def _destination(output: str, errors: str | None, output_format: Literal["openai", "vllm"]) -> Destination:
    """Where failed requests go by default: beside the output, or with it if the format has them there."""
    if output_format == "vllm":
        if errors is not None:
            raise typer.BadParameter("the format vllm has failed requests in the output", param_hint="--errors")
        errors = None
    elif errors is None and output != "-" and not batch_files.is_url(output):
        errors = f"{output}.errors.jsonl"
    if errors == output:
        raise typer.BadParameter("must not be the output", param_hint="--errors")
    for name in (output, errors):
        if name and name != "-" and not batch_files.is_url(name) and not Path(name).resolve().parent.is_dir():
            raise typer.BadParameter(f"there is no folder for {name!r}", param_hint="--output-file")
    return Destination(output, errors, output_format)


def _way_back(ids: Sequence[str], to: Destination, missing: int = 0, again: bool = False) -> str:
    """What to do after Ctrl-C, when `missing` parts of the file are no batches yet."""
    if not ids:
        return "Nothing was begun."
    if missing:
        said = f"{len(ids)} batches go on, {missing} were not begun."
        return said if again else f"{said} The same command goes on from here."
    options = ["-o", to.output, *(["--format", to.format] if to.format == "vllm" else [])]
    options += ["--errors", to.errors] if to.errors and to.errors != f"{to.output}.errors.jsonl" else []
    return f"It goes on without this command. Come back: {shlex.join(['longhaul', 'batch', 'fetch', *ids, *options])}"


def _name(source: str) -> str:
    """What the file is called on the server."""
    if batch_files.is_url(source):
        return PurePosixPath(urlsplit(source).path).name or "input.jsonl"
    return "stdin.jsonl" if source == "-" else Path(source).name


def _schemas(path: Path) -> dict[str, Json]:
    try:
        schemas = json.loads(path.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"is not valid JSON: {error}", param_hint="--schemas") from None
    if not isinstance(schemas, dict) or not all(isinstance(schema, dict) for schema in schemas.values()):
        raise typer.BadParameter("must be an object of an endpoint's schema each", param_hint="--schemas")
    return schemas


def _row(batch: Json) -> tuple[Any, ...]:
    counts, created = batch["request_counts"], datetime.fromtimestamp(batch["created_at"], UTC)
    return (
        batch["id"],
        batch["status"],
        batch["endpoint"],
        batch["model"],
        counts["total"],
        counts["completed"],
        counts["failed"],
        created,
    )
