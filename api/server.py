"""The API as a process: uvicorn around the app, told to its waiters before it stops."""

import asyncio
import gc
import signal
import socket
import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from jobs import logs
from jobs.settings import Settings

_KEEP_ALIVE_SECONDS = 75
"""Longer than a load balancer's 60 s, else it reuses connections that we just closed."""
DRAIN_SECONDS = 20


def serve(settings: Settings) -> None:
    """Answer on the settings' host and port until SIGTERM or SIGINT.

    Raises:
        SystemExit: LONGHAUL_AUTH=none on an address that others may reach.
    """
    logs.configure(settings, "api")
    refuse_open_doors(settings)
    # uvicorn raises the signal that stopped it once more when all is done; by default it would kill this process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    Server(create_app(settings), settings.host, settings.port).run()


def refuse_open_doors(settings: Settings) -> None:
    """Raises SystemExit where anybody on the network could use the GPUs without a key."""
    if settings.auth == "none" and not settings.auth_none_anywhere and not settings.is_local:
        raise SystemExit(
            f"LONGHAUL_AUTH=none on {settings.host} would let anybody in. Listen on 127.0.0.1, use keys, or set "
            "LONGHAUL_AUTH_NONE_ANYWHERE=true if the network itself keeps strangers out."
        )


class Server(uvicorn.Server):
    """uvicorn, which tells the app first when it begins to stop."""

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._stopping: asyncio.Event = app.state.stopping
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="none",  # so that who asks for a WebSocket gets an answer that says why not
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=4096,
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What start-up made lives as long as the process; looking it through again and again holds up every request.
        gc.collect()
        gc.freeze()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # The lifespan's own end comes only after all connections have ended, and waiters end none by themselves.
        self._stopping.set()
        await super().shutdown(sockets)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
