"""`longhaul webhooks`: what is told to receivers, and a receiver to try it with."""

from typing import Annotated

import typer

from longhaul.output import emit, talk

app = typer.Typer(no_args_is_help=True)


@app.callback()
def webhooks() -> None:
    """Receive webhooks on this machine."""


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

    A service reaches it at http://HOST:PORT/ if its WEBHOOK_ALLOW names this address; `longhaul up` allows its own
    machine.
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
