"""What commands say: results on stdout, talk on stderr, failures as one line and an exit code."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import typer

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
    """A table on stdout, as wide as its content: an id that was cut would be of no use."""
    lines = [list(columns), *([_spelled(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def emit_records(records: Sequence[Any], columns: Sequence[str], as_json: bool) -> None:
    """Dataclasses as a table of these fields, or as JSON objects, one a line; times are Unix seconds there."""
    if as_json:
        for record in records:
            print(json.dumps(asdict(record), default=_plain, ensure_ascii=False))
    else:
        rows = [[getattr(record, column) for column in columns] for record in records]
        emit_table(columns, rows)


def _plain(value: Any) -> Any:
    return int(value.timestamp()) if isinstance(value, datetime) else str(value)


def _spelled(value: object) -> str:
    match value:
        case None | () | "":
            return "-"
        case datetime():
            return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


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
