"""`longhaul keys`: who may use the API, and what signs webhooks. Needs the database, not the API."""

from typing import Annotated
from uuid import UUID

import typer

from jobs import keys, settings, webhooks
from jobs.database import Database
from jobs.errors import Conflict
from jobs.secrets import Vault
from longhaul.deployment import secret_key
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


@app.command("webhook-secret")
def webhook_secret(
    tenant: Annotated[str, typer.Option(help="Whose webhooks it signs: those that bring no secret of their own.")],
    rotate: Annotated[bool, typer.Option("--rotate", help="Make a new one where there is one.")] = False,
    keep_old: Annotated[bool, typer.Option("--keep-old", help="The one before signs beside it for 24 hours.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the secret that signs a tenant's webhooks and print it: the only time that it is shown."""
    vault = Vault(secret_key(settings.load()))

    async def work(database: Database) -> str:
        ids = {view.name: view.id for view in await keys.list_tenants(database)}
        if not rotate and tenant in ids and await webhooks.has_default(database, ids[tenant]):
            raise Conflict(f"The tenant '{tenant}' has a secret, which is not shown again; --rotate makes a new one.")
        return await webhooks.rotate_default(database, vault, tenant, keep_old=keep_old)

    secret = ask(work)
    if as_json:
        emit({"tenant": tenant, "signing_secret": secret})
    else:
        print(secret)
        talk("Keep it: it is stored encrypted, and not shown again.")
