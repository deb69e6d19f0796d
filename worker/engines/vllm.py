"""vLLM, resident in the worker's process: its own ASGI app on its own engine. The one file that imports vLLM.

It is imported inside functions, on the thread that loads the model: that takes seconds, in which the worker's loop
and its signals stay awake.
"""

import asyncio
import gc
import json
import math
import multiprocessing
import os
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from multiprocessing.process import BaseProcess
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import structlog

from jobs.endpoints import INFERENCE
from jobs.records import Json, Registration
from jobs.settings import Settings
from worker.asgi import Application, Headers
from worker.engines import EngineArgumentError, EngineDead, schemas, strays
from worker.replay import Replay

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

_NOBODY: Final = "media.invalid"
"""A domain that cannot exist (RFC 2606): vLLM takes an empty list of allowed domains for all."""
_WARM_UPS: Final[dict[str, Json]] = {
    "/v1/completions": {"prompt": [1, 2, 3, 4], "max_tokens": 8, "ignore_eos": True},
    "/v1/embeddings": {"input": [1, 2, 3, 4]},
    "/classify": {"input": "1 2 3 4"},
    "/pooling": {"input": [1, 2, 3, 4]},
}
"""The first of these that the engine serves is its warm-up."""
_LEAST_SPARE: Final = 4
"""More than an eighth of few sequences, up to four times this: where each is short, a few end as fast as many do."""
_LOOK_SECONDS: Final = 0.2
_BACK_OFF_SECONDS: Final = 1.0
_log = structlog.get_logger()


class VllmEngine:
    """One vLLM engine with the arguments of `vllm serve`; `settings.model` is the model where they name none."""

    def __init__(self, settings: Settings, arguments: Sequence[str]) -> None:
        self._settings = settings
        self._arguments = list(arguments)
        self._folder = settings.home / "run"
        self._ledger = strays.Ledger(self._folder)
        self._strangers = multiprocessing.active_children()
        self._loading: asyncio.Future[None] | None = None
        self._stopping = False
        self._llm: AsyncLLM | None = None
        self._app: Any = None
        self._lifespan: AbstractAsyncContextManager[Any] | None = None

    @property
    def app(self) -> Application:
        if self._app is None:
            raise EngineDead("vLLM is not started")
        app: Application = self._app
        return app

    @property
    def slots(self) -> int:
        """The sequences that vLLM runs at once, and two claims more, so that its own queue is never empty."""
        return self._sequences + self._spare

    @property
    def _sequences(self) -> int:
        config = self._running().vllm_config
        sequences: int = config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size
        return sequences

    @property
    def _spare(self) -> int:
        return max(_LEAST_SPARE, min(4 * _LEAST_SPARE, self._sequences // 2), math.ceil(self._sequences / 8))

    def pids(self) -> list[int]:
        """The engine's own processes (EngineCore), as far as they live."""
        return [child.pid for child in self._children() if child.pid]

    def _children(self) -> list[BaseProcess]:
        return [child for child in multiprocessing.active_children() if child not in self._strangers]

    async def start(self) -> None:
        self._loading = asyncio.ensure_future(asyncio.to_thread(self._load))
        while not self._loading.done():
            self._ledger.note(self.pids())
            await asyncio.wait({self._loading}, timeout=_LOOK_SECONDS)
        self._loading.result()
        self._ledger.note(self.pids())
        self._app = await _app(self._running(), self._args)
        self._schemas = await asyncio.to_thread(_schemas, self._app)
        await self._warm_up()
        self._lifespan = self._app.router.lifespan_context(self._app)  # vLLM's own: statistics, a frozen heap
        await self._lifespan.__aenter__()

    def alive(self) -> bool:
        return self._llm is not None and not self._llm.errored

    async def describe(self) -> Registration:
        config = self._running().model_config
        names: list[str] = self._args.served_model_name or [self._args.model]
        return Registration(
            model=names[0],
            aliases=tuple(names[1:]),
            adapters=tuple(adapter.name for adapter in self._args.lora_modules or ()),
            endpoints=self._schemas,
            context_length=config.max_model_len,
            slots=self.slots,
            spare=self._spare,
            limits={"max_logprobs": config.max_logprobs},
        )

    def verdict(self, status: int, headers: Headers) -> float | None:
        """A 503 is vLLM's own trouble: its queue is over a limit that its arguments set, or it is being scaled."""
        return _BACK_OFF_SECONDS if status == 503 else None

    async def stop(self) -> None:
        self._stopping = True
        if self._loading is not None:
            await self._end_loading(self._loading)
            self._loading = None
        if self._lifespan is not None:
            lifespan, self._lifespan = self._lifespan, None
            await lifespan.__aexit__(None, None, None)
        if self._llm is not None:
            await asyncio.to_thread(self._llm.shutdown)
            self._llm = self._app = None
            # Its objects refer to one another; left to Python's end they meet a half-gone Python, with tracebacks.
            gc.unfreeze()
            gc.collect()
        self._ledger.close()

    def _running(self) -> "AsyncLLM":
        if self._llm is None:
            raise EngineDead("vLLM is not started")
        return self._llm

    async def _end_loading(self, loading: asyncio.Future[None]) -> None:
        """A load cannot be interrupted, but it fails at once when its processes are gone."""
        while not loading.done():
            for child in self._children():
                child.kill()
            await asyncio.wait({loading}, timeout=_LOOK_SECONDS)
        if not loading.cancelled():
            loading.exception()  # looked at: nobody waits for it any more

    def _load(self) -> None:
        """Set `_args` and `_llm`; as a result, the thread would hold the engine for ever."""
        strays.kill(self._folder)
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"
        os.environ.pop("VLLM_API_KEY", None)  # keys are the API's; with one, vLLM's app would refuse what we replay
        try:
            self._args = _parse(self._settings, self._arguments)
            if not self._stopping:
                self._llm = _build(self._args)
        except EngineArgumentError:
            raise
        except (Exception, SystemExit) as error:
            raise EngineArgumentError(f"vLLM did not start: {error}") from error

    async def _warm_up(self) -> None:
        """Serve one request: the first pays for what vLLM makes when it is first needed."""
        path = next((path for path in _WARM_UPS if path in self._schemas), None)
        if path is None:
            return
        async with Replay(self.app, path, json.dumps(_WARM_UPS[path]).encode()) as response:
            answer = b"".join([chunk async for chunk in response])
        if not self.alive():
            raise EngineDead("vLLM died at its warm-up")
        if response.status != 200:
            _log.warning("vLLM refused its warm-up", path=path, status=response.status, answer=answer.decode())


def _parse(settings: Settings, arguments: Sequence[str]) -> Namespace:
    """`vllm serve`'s arguments, checked as it checks them, with those that are not the user's to choose."""
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.entrypoints.launchers.launcher import validate_api_server_args
    from vllm.logger import configure_logging_from_args
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = make_arg_parser(FlexibleArgumentParser(prog="vllm serve"))
    parser.set_defaults(model=settings.model)
    parser.error = _refuse
    formatter = ["--logging-config.formatter", "json"] if settings.log_format == "json" else []
    media = [] if settings.media_urls else ["--allowed-media-domains", _NOBODY]
    args: Namespace = parser.parse_args(
        [*formatter, "--enable-prompt-tokens-details", *arguments, "--scheduling-policy", "priority", *media]
    )
    args.model = args.model_tag or args.model
    args.api_key = None
    # They cost a tenth of what a request costs in this process, and are read on the metrics port or nowhere.
    args.disable_log_stats = args.disable_log_stats or not settings.metrics_port
    if args.model is None:
        _refuse("no model: give --model or LONGHAUL_MODEL")
    configure_logging_from_args(args)
    if args.tool_parser_plugin:
        ToolParserManager.import_tool_parser(args.tool_parser_plugin)
    if args.reasoning_parser_plugin:
        ReasoningParserManager.import_reasoning_parser(args.reasoning_parser_plugin)
    validate_parsed_serve_args(args)
    validate_api_server_args(args)
    return args


def _refuse(message: str) -> NoReturn:
    raise EngineArgumentError(f"vLLM does not take these arguments: {message}")


def _build(args: Namespace) -> "AsyncLLM":
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import propagate_flash_late_interaction
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    engine_args = AsyncEngineArgs.from_cli_args(args)
    propagate_flash_late_interaction(args, engine_args)
    context = UsageContext.OPENAI_API_SERVER
    return AsyncLLM.from_vllm_config(
        vllm_config=engine_args.create_engine_config(usage_context=context),
        usage_context=context,
        enable_log_requests=engine_args.enable_log_requests,
        aggregate_engine_logging=engine_args.aggregate_engine_logging,
        disable_log_stats=engine_args.disable_log_stats,
    )


async def _app(llm: "AsyncLLM", args: Namespace) -> Any:
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.envs import enable_envs_cache

    await llm.reset_mm_cache()
    tasks = await llm.get_supported_tasks()
    app = build_app(args, tasks, llm.model_config)
    if "generate" in tasks:
        _count_input(app)
    _trim(app)
    await init_app_state(llm, app.state, args, tasks)
    enable_envs_cache()  # as EngineCore does when it is up: every token of every request looks a variable up
    app.state.server = SimpleNamespace(should_exit=False)  # what vLLM's error handler reaches for when the engine dies
    return app


def _schemas(app: Any) -> dict[str, Json]:
    openapi = app.openapi()
    if getattr(app.state, "tool_server", None) is None:
        schemas.leave_out_hosted_tools(openapi)
    return schemas.of_endpoints(openapi, INFERENCE)


def _count_input(app: Any) -> None:
    """OpenAI's `/v1/responses/input_tokens`, which vLLM has not: the length of the prompt that vLLM would make."""
    from starlette.responses import JSONResponse
    from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
    from vllm.entrypoints.serve.engine.protocol import ErrorResponse

    async def count(request: ResponsesRequest) -> JSONResponse:
        prompt = await app.state.serving_render.render_responses_request(request)
        if isinstance(prompt, ErrorResponse):
            return JSONResponse(prompt.model_dump(mode="json"), prompt.error.code)
        return JSONResponse({"object": "response.input_tokens", "input_tokens": len(prompt.token_ids)})

    app.add_api_route("/v1/responses/input_tokens", count, methods=["POST"], response_model=None)


def _trim(app: Any) -> None:
    """A sixth of what a request costs here: what vLLM's app does for browsers and scrapers, and looking for its route.

    Nobody speaks HTTP with this app; the routes that are replayed come first in its list.
    """
    from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
    from starlette.middleware.cors import CORSMiddleware

    needless = (CORSMiddleware, PrometheusInstrumentatorMiddleware)
    app.user_middleware[:] = [middleware for middleware in app.user_middleware if middleware.cls not in needless]
    app.middleware_stack = None  # it has been built already; the first request builds it anew
    app.router.routes.sort(key=lambda route: getattr(route, "path", None) not in INFERENCE)
