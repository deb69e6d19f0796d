"""The command `longhaul`: its subcommands by name, each imported only when it is called."""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "up": ("longhaul.up:up", "Run every part on this machine until Ctrl-C."),
    "api": ("longhaul.commands.serve:api", "Run the HTTP API."),
    "worker": ("longhaul.commands.serve:worker", "Run an inference worker; the engine's arguments follow after --."),
    "control": ("longhaul.commands.serve:control", "Run the control worker, which does the chores."),
    "migrate": ("longhaul.commands.serve:migrate", "Bring the database's schema to this version."),
    "submit": ("longhaul.commands.jobs:submit", "Submit a job and print its id."),
    "wait": ("longhaul.commands.jobs:wait", "Wait for jobs and print their answers."),
    "jobs": ("longhaul.commands.jobs:app", "List, show, cancel, retry and delete jobs."),
    "batch": ("longhaul.commands.batch:app", "Run files of requests: run, check, list, show, cancel, fetch, retry."),
    "keys": ("longhaul.commands.keys:app", "Create, list and revoke API keys; make secrets that sign webhooks."),
    "models": ("longhaul.commands.models:app", "List and retire models."),
    "tenants": ("longhaul.commands.tenants:app", "List tenants, set their weight, pause them."),
    "webhooks": ("longhaul.commands.webhooks:app", "List webhooks, send them again, receive them on this machine."),
    "workers": ("longhaul.commands.workers:workers", "Show which workers live and what they serve."),
    "doctor": ("longhaul.commands.doctor:doctor", "Look for faults of the deployment, and say what to do."),
    "top": ("longhaul.commands.top:top", "Watch models, workers, queues and rates."),
    "demo": ("longhaul.commands.demo:demo", "Start everything, run real work through it, print what happened, end."),
    "settings": ("longhaul.commands.settings:settings", "Print every setting with its default and meaning."),
}


def main() -> None:
    """Run the subcommand that the process's arguments name."""
    _refuse_foreign_packages()
    wanted = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    application(wanted)(prog_name="longhaul")


def application(wanted: str | None) -> typer.Typer:
    """All subcommands with a line of help each; only the wanted one is imported and can be called."""
    app = typer.Typer(
        help="A queue-based asynchronous job worker for large language models.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name, (target, line) in COMMANDS.items():
        command = _load(target) if name == wanted else _not_imported
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=line)
        else:
            app.command(name, help=command.__doc__ if name == wanted else line)(command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("longhaul"))
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def _not_imported() -> None: ...


def _load(target: str) -> Callable[..., Any] | typer.Typer:
    module, _, name = target.partition(":")
    found: Callable[..., Any] | typer.Typer = getattr(import_module(module), name)
    return found


def _refuse_foreign_packages() -> None:
    """A folder `api/` or `jobs/` where the user happens to stand must not be taken for ours."""
    ours = Path(__file__).resolve().parents[1]
    for name in ("api", "worker", "control", "jobs"):
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent if spec and spec.origin else None
        if found != ours / name:
            sys.exit(f"longhaul: the package {name!r} would come from {found or 'nowhere'}, not from {ours / name}.")


if __name__ == "__main__":
    main()
