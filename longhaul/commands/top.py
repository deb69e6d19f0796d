"""`longhaul top`: a live view of models, workers, queues and rates. Needs the database, not the API."""

import asyncio
import contextlib
from typing import Annotated, Final

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from jobs.database import Database
from longhaul.store import ask
from longhaul.top import Look, look, screen

_PIPE_WIDTH: Final = 160


def top(
    interval: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once, print it and end.")] = False,
) -> None:
    """Watch models, workers, queues and rates until Ctrl-C. Where the output is no terminal it looks once."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _PIPE_WIDTH)
    if once or not console.is_terminal:
        console.print(screen(ask(look)))
        return
    with contextlib.suppress(KeyboardInterrupt):
        ask(lambda database: _watch(database, console, interval))


async def _watch(database: Database, console: Console, interval: float) -> None:
    """Look again and again; a database that goes away for a while is waited for."""
    before: Look | None = None
    now = await look(database)
    with Live(screen(now), console=console, screen=True, auto_refresh=False) as live:
        while True:
            await asyncio.sleep(interval)
            try:
                before, now = now, await look(database)
            except (SQLAlchemyError, OSError, TimeoutError) as error:
                reason = str(error.orig if isinstance(error, OperationalError) else error).splitlines()[0]
                live.update(Group(Text(f"The database does not answer: {reason}", "red"), screen(now)), refresh=True)
            else:
                live.update(screen(now, before), refresh=True)
