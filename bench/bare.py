"""What Longhaul is measured against: the same engine without a queue, each a process of its own.

`python -m bench.bare uvicorn PACKAGE.MODULE:FACTORY PORT` serves an engine's app by uvicorn.
`python -m bench.bare run_batch ARGUMENTS` keeps one vLLM engine, and for each line `INPUT OUTPUT` on its input runs
vLLM's own batch runner from one file into the other and prints `took SECONDS`.
`python -m bench.bare schemas` prints what admission checks for vLLM's endpoints.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from jobs.endpoints import INFERENCE


def uvicorn(factory: str, port: int) -> None:
    """Serve the engine's app as `longhaul api` is served: uvloop, httptools, no access log."""
    import uvicorn as server

    from jobs.settings import Settings
    from worker.engines import load

    engine = load(Settings(engine=factory), [])
    server.run(
        engine.app,
        host="127.0.0.1",
        port=port,
        interface="asgi3",  # of a bound method uvicorn thinks otherwise
        lifespan="off",
        access_log=False,
        timeout_keep_alive=75,
        log_level="warning",
    )


def schemas() -> None:
    """Print the request schemas of vLLM's app, on one line."""
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    from worker.engines.schemas import of_endpoints

    app = build_app(make_arg_parser(FlexibleArgumentParser()).parse_args([]), ("generate",))
    print(json.dumps(of_endpoints(app.openapi(), INFERENCE)))


async def run_batch(arguments: Sequence[str]) -> None:
    """Engine and serving objects are made once, before any clock runs; what is timed is `run_batch` from the input
    file to the output file, with a stand-in only for the making of those objects."""
    from vllm.entrypoints.launchers import run_batch as runner
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = runner.make_arg_parser(FlexibleArgumentParser())
    args = parser.parse_args(["-i", os.devnull, "-o", os.devnull, *arguments])
    runner.validate_run_batch_args(args)
    async with build_async_engine_client(args, usage_context=UsageContext.OPENAI_BATCH_RUNNER) as engine:
        registry = await runner.build_endpoint_registry(engine_client=engine, args=args)

        async def resident(**_: Any) -> Any:
            return registry

        runner.build_endpoint_registry = resident
        print("ready", flush=True)  # stdout is ours alone: the bench sends vLLM's log to stderr
        while line := await asyncio.to_thread(sys.stdin.readline):
            args.input_file, args.output_file = line.split()
            began = time.perf_counter()
            await runner.run_batch(engine, args)
            print(f"took {time.perf_counter() - began}", flush=True)


def main() -> None:
    what, *arguments = sys.argv[1:]
    if what == "uvicorn":
        uvicorn(arguments[0], int(arguments[1]))
    elif what == "schemas":
        schemas()
    else:
        asyncio.run(run_batch(arguments))


if __name__ == "__main__":
    main()
