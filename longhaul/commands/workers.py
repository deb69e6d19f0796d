"""`longhaul workers`: which workers live, and what they serve. Needs the database, not the API."""

from typing import Annotated

import typer

from jobs import catalog
from longhaul.output import emit_records
from longhaul.store import ask


def workers(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")] = False) -> None:
    """Show the workers whose lease is good, and how many of their slots are taken."""
    columns = ("id", "model", "running", "slots", "draining", "host", "pid", "started_at", "lease_until")
    emit_records(ask(catalog.workers), columns, as_json)
