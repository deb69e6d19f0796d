"""Structured logs of every part, its libraries' too: lines of JSON, or text, on standard error."""

import logging
import sys
from typing import Any, Final

import structlog
from structlog.typing import Processor

from jobs.settings import Settings

_QUIET: Final = ("celery.utils.functional", "kombu", "amqp", "httpx", "httpcore", "alembic.runtime.plugins")
"""Libraries that say nothing useful below WARNING."""


def configure(settings: Settings, part: str) -> None:
    """Send every log line of this process, bound to its `part`, to standard error.

    Lines carry what is bound with `structlog.contextvars`: `request_id`, `job_id`, `worker_id`.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _of_part(part),
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.UnicodeDecoder(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings)],
        )
    )
    logging.basicConfig(handlers=[handler], level=settings.log_level, force=True)
    logging.captureWarnings(True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _of_part(part: str) -> Processor:
    def add(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["part"] = part
        return event

    return add


def _rendering(settings: Settings) -> list[Processor]:
    if settings.log_format == "text":
        plain = structlog.dev.plain_traceback  # the default prints local variables, passwords in URLs among them
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
