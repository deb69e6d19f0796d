"""`longhaul webhooks`: what is told to receivers, and a receiver to try it with."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from jobs.records import Json
from longhaul.client import Client
from longhaul.commands.jobs import AsJson, call
from longhaul.output import emit, emit_table, talk

_FOLDERS: Final = {"whe_": "webhook_endpoints", "job_": "jobs", "batch_": "batches"}

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_webhooks(
    whose: Annotated[str | None, typer.Argument(metavar="[ENDPOINT|JOB|BATCH]")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on after this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the endpoints, or what was told to one of them, of a job or of a batch; newest first."""
    filters = {"limit": str(limit)} | ({"after": after} if after else {})
    path = None if whose is None else _path(whose)
    page = call(lambda client: client.endpoints(filters) if path is None else client.deliveries(path, filters))
    if as_json:
        emit(page)
        return
    if path is None:
        emit_table(("endpoint", "name", "url", "events", "state"), [_endpoint(one) for one in page["data"]])
    else:
        columns = ("delivery", "event", "of", "status", "attempts", "last answer", "created")
        emit_table(columns, [_delivery(one) for one in page["data"]])
    if page["has_more"]:
        talk(f"more: longhaul webhooks list {whose or ''} --after {page['last_id']}".replace("  ", " "))


@app.command()
def redeliver(
    whose: Annotated[str, typer.Argument(metavar="ENDPOINT|JOB|BATCH", help="Where `list` shows the deliveries.")],
    deliveries: Annotated[list[str], typer.Argument(metavar="DELIVERY...", help="Ids, as `list` shows them.")],
    as_json: AsJson = False,
) -> None:
    """Send deliveries again, now, with the same ids and bodies."""
    path = _path(whose)

    async def again(client: Client) -> list[Json]:
        return [await client.redeliver(path, delivery) for delivery in deliveries]

    for delivery in call(again):
        if as_json:
            emit(delivery)
        else:
            talk(f"{delivery['id']} is sent again.")


@app.command()
def listen(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Where to listen.")] = 9000,
    host: Annotated[str, typer.Option(help="On which address.")] = "127.0.0.1",
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="whsec_...",
            envvar="OPENAI_WEBHOOK_SECRET",
            help="What signs; without it nothing is verified. The variable keeps it out of the list of processes.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the events themselves, one a line.")] = False,
) -> None:
    """Receive webhooks until Ctrl-C, verify them and print them. For development.

    A service reaches it at http://HOST:PORT/ if its WEBHOOK_ALLOW names this address; `longhaul up` on 127.0.0.1 allows
    its own machine.
    """
    import uvicorn

    from jobs.signing import key_of
    from longhaul.receiver import Arrival, Receiver

    def tell(arrival: Arrival) -> None:
        if as_json:
            emit(arrival.event)
            return
        data = arrival.event.get("data")
        subject = data.get("id", "-") if isinstance(data, dict) else "-"
        proof = "verified" if arrival.verified else "unverified"
        repeat = " (again)" if arrival.repeated else ""
        print(f"{arrival.event.get('type', '-')}  {subject}  {proof}  {arrival.webhook_id or '-'}{repeat}", flush=True)

    if secret:
        try:
            key_of(secret)
        except ValueError as fault:
            raise typer.BadParameter(str(fault), param_hint="--secret") from None
    talk(f"Listening on http://{host}:{port}/" + ("" if secret else "; nothing is verified without --secret"))
    receiver = Receiver(secret or None, tell, lambda fault: talk(f"refused: {fault}"))
    uvicorn.run(receiver, host=host, port=port, lifespan="off", log_level="error", server_header=False)


def _path(whose: str) -> str:
    for prefix, folder in _FOLDERS.items():
        if whose.startswith(prefix):
            return f"{folder}/{whose}"
    raise typer.BadParameter("must be the id of an endpoint, a job or a batch: whe_..., job_..., batch_...")


def _endpoint(endpoint: Json) -> tuple[Any, ...]:
    state = f"disabled: {endpoint['disabled_reason']}" if endpoint["disabled"] else "enabled"
    return (endpoint["id"], endpoint["name"], endpoint["url"], tuple(endpoint["event_types"]), state)


def _delivery(delivery: Json) -> tuple[Any, ...]:
    event, attempts = delivery["event"], delivery["attempts"]
    last = (attempts[-1]["status_code"] or attempts[-1]["error"]) if attempts else None
    created = datetime.fromtimestamp(delivery["created_at"], UTC)
    kind, subject = event["type"], event["data"]["id"]
    return (delivery["id"], kind, subject, delivery["status"], len(attempts), last, created)
