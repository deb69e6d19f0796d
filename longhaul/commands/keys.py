"""`longhaul keys`: who may use the API. Needs the database, not the API."""

from typing import Annotated
from uuid import UUID

import typer

from jobs import keys
from longhaul.output import emit, emit_records, talk
from longhaul.store import ask

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

app = typer.Typer(no_args_is_help=True)


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Whose key it is; a new tenant is made where there is none.")],
    name: Annotated[str, typer.Option(help="What it is for, to recognise it by.")],
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: the only time that it is shown."""
    secret = ask(lambda database: keys.create(database, tenant, name))
    if as_json:
        emit({"tenant": tenant, "name": name, "secret": secret})
    else:
        print(secret)
        talk("Keep it: only its hash is stored.")


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """List every key by its last characters, revoked ones too."""
    columns = ("id", "tenant", "name", "hint", "created_at", "revoked_at")
    emit_records(ask(keys.list_keys), columns, as_json)


@app.command()
def revoke(
    key: Annotated[UUID, typer.Argument(metavar="ID", help="As `longhaul keys list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """End a key. The API refuses it within two seconds."""
    ask(lambda database: keys.revoke(database, key))
    if as_json:
        emit({"id": str(key), "revoked": True})
    else:
        talk(f"{key} is revoked.")
