"""`longhaul doctor`: looks at everything that a deployment stands on, and says what to do. Needs no part to run."""

import asyncio
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from jobs import settings
from longhaul.doctor import checkup
from longhaul.doctor.finding import Finding, Level
from longhaul.output import FAILED, emit

_MARKS: Final = {Level.OK: ("ok", "green"), Level.WARNING: ("warning", "yellow"), Level.TROUBLE: ("TROUBLE", "red")}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Look at stores, schema, clocks, queues, workers and the ways out, and say of each fault what to do.

    Ends with 1 if there is trouble; warnings are none. Run it where the parts run, with their environment.
    """
    found = asyncio.run(checkup.examine(settings.load()))
    troubled = any(finding.level is Level.TROUBLE for finding in found)
    if as_json:
        emit({"ok": not troubled, "findings": [asdict(finding) for finding in found]})
    else:
        _print(found)
    if troubled:
        raise typer.Exit(FAILED)


def _print(found: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.check) for finding in found)
    for finding in found:
        mark, colour = _MARKS[finding.level]
        console.print(Text(f"{mark:<8}", colour) + Text(f"{finding.check:<{width}}  {finding.says}"))
        if finding.do:
            console.print(Text(f"{'':<{width + 10}}{finding.do}", "dim"))
