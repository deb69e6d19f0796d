"""What an engine is to its worker, and how one is found by name."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Protocol, TypeAlias, cast

from jobs.records import Registration
from jobs.settings import Settings
from worker.asgi import Application, Headers


class EngineArgumentError(Exception):
    """The engine cannot start with these arguments: its own message, on which the worker ends."""


class EngineDead(Exception):
    """The engine died: what came back is no result, and nothing more will run here."""


class JobLost(Exception):
    """What ran this job was lost, but the engine has more: the job goes back with the loss counted, others run on."""


class EngineBusy(Exception):
    """The engine's trouble (see `Engine.verdict`), met before the job was replayed."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the engine takes nothing for {seconds} s")
        self.seconds = seconds


class Engine(Protocol):
    """An ASGI app and the calls with which a worker keeps it. All run on the worker's loop, none blocks it for long."""

    @property
    def app(self) -> Application:
        """Where jobs are replayed. There from `start` on. Raises JobLost where what ran a job is gone."""
        ...

    @property
    def slots(self) -> int:
        """How many jobs it wants at once, now: it may change while the engine runs."""
        ...

    async def start(self) -> None:
        """Return when a first request would be served at full speed.

        Raises:
            EngineArgumentError: with the engine's own message.
        """
        ...

    def alive(self) -> bool:
        """False for good once the engine can serve no more."""
        ...

    async def describe(self) -> Registration:
        """Names, endpoints with their schemas, limits. After `start`."""
        ...

    def verdict(self, status: int, headers: Headers) -> float | None:
        """None: a response with this status is the job's result. Else it is the engine's trouble: the job goes back,
        and the worker claims nothing for so many seconds."""
        ...

    async def stop(self) -> None:
        """Free what it holds. Harmless before `start` and twice; nothing of it runs afterwards."""
        ...


Factory: TypeAlias = Callable[[Settings, Sequence[str]], Engine]


def load(settings: Settings, arguments: Sequence[str]) -> Engine:
    """The engine that `settings.engine` names, not started: `vllm`, URLs of servers, or `package.module:factory`.

    The factory is called with the settings and the engine's arguments (the worker's own, after `--`).

    Raises:
        EngineArgumentError: there is no such engine.
    """
    if settings.engine == "vllm":
        from worker.engines.vllm import VllmEngine

        return VllmEngine(settings, arguments)
    if "://" in settings.engine:
        from worker.engines.upstream.engine import UpstreamEngine

        return UpstreamEngine(settings, arguments)
    module_name, colon, name = settings.engine.partition(":")
    if not colon:
        known = "`vllm`, the URL of a server (http://host:port/v1) or `package.module:factory`"
        raise EngineArgumentError(f"LONGHAUL_ENGINE is {known}, not {settings.engine!r}.")
    try:
        factory = getattr(import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise EngineArgumentError(f"LONGHAUL_ENGINE={settings.engine} is not there: {error}") from error
    return cast(Factory, factory)(settings, arguments)
