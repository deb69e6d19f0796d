"""`longhaul api`, `worker`, `control` and `migrate`: the parts, one process each, for whoever keeps them alive."""

import os
import shlex
from typing import Annotated

import typer

from jobs import settings as settings_module
from jobs.settings import Settings
from longhaul.output import talk


def api() -> None:
    """Run the HTTP API on LONGHAUL_HOST and LONGHAUL_PORT until SIGTERM."""
    from api.server import serve

    serve(_stores_named(settings_module.load()))


def worker(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ENGINE_ARGUMENT", help="After --.")] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            metavar="vllm|URL|PACKAGE.MODULE:FACTORY",
            help="Instead of LONGHAUL_ENGINE; several URLs are servers of one model.",
        ),
    ] = None,
    drain_seconds: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Instead of LONGHAUL_DRAIN.")
    ] = None,
) -> None:
    """Run an inference worker until SIGTERM: it then finishes its jobs, or hands them back.

    The engine's arguments follow after `--`; without any they are made from LONGHAUL_MODEL and LONGHAUL_ENGINE_ARGS.
    """
    from worker.app import main

    settings = _stores_named(settings_module.load())
    options = {"engine": ",".join(engine) if engine else None, "drain_seconds": drain_seconds}
    settings = settings.model_copy(update={name: value for name, value in options.items() if value is not None})
    raise typer.Exit(main(settings, arguments or _engine_arguments(settings)))


def control() -> None:
    """Run the control worker, which reconciles, rescues, expires and purges, until SIGTERM."""
    from control.app import main

    raise typer.Exit(main(_stores_named(settings_module.load())))


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; end with 1 unless the schema is there already.")
    ] = False,
) -> None:
    """Bring the schema of DATABASE_URL to this version; harmless when it is there already."""
    from jobs.migrate import is_current, upgrade
    from longhaul.deployment import database_url
    from longhaul.output import FAILED, failures_said
    from longhaul.store import silence_named

    with failures_said(), silence_named():
        url = database_url(settings_module.load())
        if not check:
            upgrade(url)
        elif not is_current(url):
            talk("The schema is older than this version: `longhaul migrate` has not run yet.")
            raise typer.Exit(FAILED)
    talk("The schema is that of this version.")


def wants_tiny_model(settings: Settings) -> bool:
    """Whether nobody said which model the engine is to serve."""
    named = any(word.partition("=")[0] == "--model" for word in shlex.split(settings.engine_args))
    return settings.engine == "vllm" and not settings.model and not named


def _stores_named(settings: Settings) -> Settings:
    missing = [
        name for name, url in (("DATABASE_URL", settings.database_url), ("REDIS_URL", settings.redis_url)) if not url
    ]
    if missing:
        raise SystemExit(f"Set {' and '.join(missing)}; `longhaul up` brings servers of its own.")
    return settings


def _engine_arguments(settings: Settings) -> list[str]:
    given = shlex.split(settings.engine_args)
    if settings.model:
        return ["--model", settings.model, *given]
    return [*_tiny_model(settings), *given] if wants_tiny_model(settings) else given


def _tiny_model(settings: Settings) -> list[str]:
    from longhaul.tiny_model import build

    talk("LONGHAUL_MODEL is not set: serving a tiny model of random weights, which speaks no sense.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    folder = build(settings.home.resolve() / "tiny-model")
    return ["--model", str(folder), "--served-model-name", "tiny", "--enforce-eager"]
