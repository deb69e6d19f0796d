"""`longhaul models`: the models that workers registered. Needs the database, not the API."""

from typing import Annotated

import typer

from jobs import catalog
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.records import Json
from longhaul.output import emit, emit_records, talk
from longhaul.store import ask

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List every known model, served at the moment or not."""
    columns = ("name", "aliases", "adapters", "context_length", "workers", "slots", "created_at")
    emit_records(ask(catalog.models), columns, as_json)


@app.command()
def schemas(name: Annotated[str, typer.Argument(metavar="MODEL")]) -> None:
    """Print the schema of each of a model's endpoints, as `longhaul batch check --schemas` reads them."""
    emit(ask(lambda database: _schemas(database, name)))


@app.command()
def retire(name: Annotated[str, typer.Argument(metavar="MODEL")], as_json: AsJson = False) -> None:
    """Forget a model that no worker serves any more. Jobs that still wait for it fail."""
    ask(lambda database: catalog.retire(database, name))
    if as_json:
        emit({"model": name, "retired": True})
    else:
        talk(f"{name} is retired. Jobs that still wait for it fail.")


async def _schemas(database: Database, name: str) -> dict[str, Json]:
    known = Catalog(database)
    await known.refresh()
    return {path: known.schema(hashed) for path, hashed in known.find(name).endpoints.items()}
