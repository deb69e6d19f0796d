"""What commands say: results on stdout, talk on stderr, failures as one line and an exit code."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import typer
from rich.console import Console
from rich.table import Table

from jobs.errors import LonghaulError
from longhaul.client import Refused, Unreachable
from longhaul.deployment import NotFoundHere

FAILED: Final = 1
"""Exit code: a job did not complete, or the request was refused. (2, wrong usage, is Typer's.)"""
UNREACHABLE: Final = 3
"""Exit code: the API or the database is not there."""


def talk(message: str) -> None:
    """One line for the person at the terminal, on stderr."""
    print(message, file=sys.stderr, flush=True)


def emit(answer: Any) -> None:
    """One JSON value on one line of stdout, for scripts."""
    print(json.dumps(answer, ensure_ascii=False), flush=True)


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout. Piped, it is as wide as its content, so that nothing is cut."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("-" if cell is None else str(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    console.print(table, soft_wrap=False, width=None if console.is_terminal else 10_000)


@contextmanager
def failures_said() -> Iterator[None]:
    """End the command with one line and an exit code where something outside went wrong."""
    try:
        yield
    except Refused as error:
        talk(f"error: {error}" + (f" (param: {error.param})" if error.param else ""))
        raise typer.Exit(FAILED) from None
    except LonghaulError as error:
        talk(f"error: {error.message}")
        raise typer.Exit(FAILED) from None
    except (Unreachable, NotFoundHere) as error:
        talk(f"error: {error}")
        raise typer.Exit(UNREACHABLE) from None
