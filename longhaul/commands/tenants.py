"""`longhaul tenants`: how the tenants share the slots. Needs the database, not the API."""

from typing import Annotated

import typer

from jobs import keys
from longhaul.output import emit_records
from longhaul.store import ask

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
_COLUMNS = ("name", "weight", "paused", "created_at")

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_tenants(as_json: AsJson = False) -> None:
    """List every tenant."""
    emit_records(ask(keys.list_tenants), _COLUMNS, as_json)


@app.command("set")
def set_tenant(
    name: Annotated[str, typer.Argument(metavar="TENANT")],
    weight: Annotated[float | None, typer.Option(help="Its share beside others that wait too; 1 is usual.")] = None,
    paused: Annotated[bool | None, typer.Option("--paused/--running", help="While paused, its jobs wait.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change a tenant's weight, pause it, or let it go on; its next claim is served so."""
    if weight is None and paused is None:
        raise typer.BadParameter("give --weight, --paused or --running")
    changed = ask(lambda database: keys.set_tenant(database, name, weight, paused))
    emit_records([changed], _COLUMNS, as_json)
