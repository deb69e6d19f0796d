"""`longhaul submit`, `wait` and `jobs`: one request at a time, through the HTTP API."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeVar

import typer

from jobs import settings
from jobs.records import Json
from longhaul.client import Client, answer_text, failure_text
from longhaul.deployment import api_address
from longhaul.output import FAILED, emit, emit_table, failures_said, talk
from longhaul.progress import Bar, JobStates

T = TypeVar("T")

JobIds = Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids, as `longhaul submit` prints them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's own object, one JSON value a line.")]
Metadata = Annotated[list[str] | None, typer.Option("--metadata", metavar="KEY=VALUE", help="May be repeated.")]

app = typer.Typer(no_args_is_help=True)


def call(work: Callable[[Client], Awaitable[T]]) -> T:
    """What the API answers; the command ends with one line where it cannot."""

    async def run() -> T:
        async with Client(*api_address(settings.load())) as client:
            return await work(client)

    with failures_said():
        return asyncio.run(run())


def submit(
    request: Annotated[str, typer.Argument(metavar="PROMPT|JSON|-", help="A prompt, a JSON body, or - for stdin.")],
    model: Annotated[str | None, typer.Option(help="Needed only where several models are known.")] = None,
    endpoint: Annotated[str, typer.Option(help="Path of the request.")] = "/v1/chat/completions",
    tier: Annotated[Literal["priority", "default", "flex"] | None, typer.Option(help="How urgent it is.")] = None,
    metadata: Metadata = None,
    expires_after: Annotated[
        int | None, typer.Option(metavar="SECONDS", help="Give up if not started by then.")
    ] = None,
    timeout: Annotated[int | None, typer.Option(metavar="SECONDS", help="How long it may run.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(metavar="KEY", help="The same key is the same job.")] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Tell it of the end, signed with the tenant's default secret.")
    ] = None,
    wait_for_it: Annotated[bool, typer.Option("--wait", help="Wait, and print the answer instead of the id.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit one request as a job and print its id."""
    body = _body(sys.stdin.read() if request == "-" else request, endpoint)
    if model is not None:
        body["model"] = model
    optional: Json = {
        "service_tier": tier,
        "metadata": pairs(metadata),
        "expires_after": expires_after,
        "timeout": timeout,
        "idempotency_key": idempotency_key,
        "webhook": webhook,
    }
    given = {name: value for name, value in optional.items() if value is not None}
    job = call(lambda client: client.submit({"endpoint": endpoint, "body": body, **given}))
    if wait_for_it:
        talk(job["id"])
        _wait([job["id"]], as_json)
    elif as_json:
        emit(job)
    else:
        print(job["id"])


def wait(jobs: JobIds, as_json: AsJson = False) -> None:
    """Wait for jobs and print their answers, in the order of the ids. Ends with 1 if one of them has none."""
    _wait(jobs, as_json)


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="queued, in_progress, completed, failed...")] = None,
    model: Annotated[str | None, typer.Option()] = None,
    metadata: Metadata = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(metavar="JOB", help="Go on after this job.")] = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    filters = {"limit": str(limit)}
    filters.update({name: value for name, value in (("status", status), ("model", model), ("after", after)) if value})
    filters.update({f"metadata[{key}]": value for key, value in (pairs(metadata) or {}).items()})
    page = call(lambda client: client.page(filters))
    if as_json:
        emit(page)
        return
    columns = ("job", "status", "endpoint", "model", "tier", "created", "attempts")
    emit_table(columns, [_row(job) for job in page["data"]])
    if page["has_more"]:
        talk(f"more: longhaul jobs list --after {page['last_id']}")


@app.command()
def show(jobs: JobIds, as_json: AsJson = False) -> None:
    """Print jobs whole, as the API's own objects."""
    for job in call(lambda client: _each(client.job, jobs)):
        if as_json:
            emit(job)
        else:
            print(json.dumps(job, indent=2, ensure_ascii=False))


@app.command()
def cancel(jobs: JobIds, as_json: AsJson = False) -> None:
    """Cancel jobs that have not ended; running ones are aborted in the engine."""
    _report(call(lambda client: _each(client.cancel, jobs)), as_json)


@app.command()
def retry(jobs: JobIds, as_json: AsJson = False) -> None:
    """Run jobs that have ended again, as new jobs, and print the new ids."""
    for job in call(lambda client: _each(client.retry, jobs)):
        if as_json:
            emit(job)
        else:
            print(job["id"])


@app.command()
def delete(jobs: JobIds, as_json: AsJson = False) -> None:
    """Erase jobs that have ended, with their requests and results."""
    deleted = call(lambda client: _each(client.delete, jobs))
    if as_json:
        for answer in deleted:
            emit(answer)


def _body(text: str, endpoint: str) -> Json:
    if text.lstrip().startswith("{"):
        try:
            body = json.loads(text)
        except ValueError as error:
            raise typer.BadParameter(f"begins like a JSON body, but is not valid JSON: {error}") from None
        return dict(body)
    if not text.strip():
        raise typer.BadParameter("is empty: give a prompt, a JSON body, or - and text on stdin")
    match endpoint:
        case "/v1/chat/completions":
            return {"messages": [{"role": "user", "content": text}]}
        case "/v1/completions":
            return {"prompt": text}
        case "/v1/embeddings" | "/v1/responses":
            return {"input": text}
    raise typer.BadParameter(
        f"must be a JSON body for {endpoint}; a bare prompt fits chat, completions, embeddings, responses"
    )


def pairs(given: Sequence[str] | None) -> dict[str, str] | None:
    """What `--metadata` says, as often as it was given."""
    if not given:
        return None
    found = dict(pair.partition("=")[::2] for pair in given if "=" in pair)
    if len(found) < len(given):
        raise typer.BadParameter("each must be KEY=VALUE, and each key given once", param_hint="--metadata")
    return found


def _wait(ids: Sequence[str], as_json: bool) -> None:
    states = JobStates()
    with Bar(len(ids)) as bar:

        def seen(job: Json) -> None:
            states.saw(job)
            bar.update(states.ended, str(states))

        done = call(lambda client: _together(lambda job_id: client.until_done(job_id, seen), ids))
    _report(done, as_json, answers=True)
    if any(job["status"] != "completed" for job in done):
        raise typer.Exit(FAILED)


async def _each(call: Callable[[str], Awaitable[Json]], ids: Sequence[str]) -> list[Json]:
    return [await call(job_id) for job_id in ids]


async def _together(call: Callable[[str], Awaitable[Json]], ids: Sequence[str]) -> list[Json]:
    return list(await asyncio.gather(*(call(job_id) for job_id in ids)))


def _report(jobs: Sequence[Json], as_json: bool, answers: bool = False) -> None:
    for job in jobs:
        if as_json:
            emit(job)
        elif answers and job["status"] == "completed":
            print(answer_text(job))
        else:
            talk(failure_text(job))


def _row(job: Json) -> tuple[Any, ...]:
    created = datetime.fromtimestamp(job["created_at"], UTC)
    tier = job["service_tier"]
    return (job["id"], job["status"], job["endpoint"], job["model"], tier, created, job["attempts"])
