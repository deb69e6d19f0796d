"""The one Celery configuration, the same for every part: Redis as a doorbell that may lose messages but never hangs."""

import hashlib
import ssl
import warnings
from queue import Empty
from typing import Any, Final

import structlog
from celery import Celery, signals
from kombu.transport import TRANSPORT_ALIASES, redis

from jobs.settings import Settings

CONTROL_QUEUE: Final = "control"
"""The queue whose tickets wake control's chores before their time."""
DELIVER_QUEUE: Final = "deliver"
"""The queue whose tickets have control send webhooks at once."""
_TRANSPORT: Final = f"{__name__}:Transport"
_log = structlog.get_logger()


class Channel(redis.Channel):
    """kombu's, but that rubbish in a queue's list does not end the worker, and its engine with it."""

    def _brpop_read(self, **options: Any) -> Any:
        # What is no JSON, or no envelope, is out of the list by now; the caller takes Empty for nothing having come.
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]  # the stubs know only what is public
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            _log.error("a message that is no ticket was dropped", error=repr(error))
            raise Empty from error


class Transport(redis.Transport):
    """What `redis://` and `rediss://` stand for in our processes."""

    Channel = Channel


def make_app(settings: Settings, name: str) -> Celery:
    """A Celery application on this deployment's Redis. Nothing connects yet.

    Raises:
        ValueError: `REDIS_URL` is not set.
    """
    if settings.redis_url is None:
        raise ValueError("REDIS_URL is not set")
    signals.setup_logging.connect(_log_as_we_do)
    TRANSPORT_ALIASES.update(redis=_TRANSPORT, rediss=_TRANSPORT)
    # Celery warns of root because of pickled messages, which we do not accept.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser")
    app = Celery(f"longhaul-{name}", broker=settings.redis_url, fixups=[])
    app.conf.update(
        broker_transport_options={
            # Without it a half-open connection hangs its process for ever; longer than BRPOP's own second.
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "visibility_timeout": 3600,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "priority_steps": [0],
            "global_keyprefix": f"{{{settings.redis_prefix}}}:",  # the hash tag keeps all keys in one slot
        },
        # Kombu's own default for rediss:// is to take any certificate; options in the URL go before this.
        broker_use_ssl={"ssl_cert_reqs": ssl.CERT_REQUIRED} if settings.redis_url.startswith("rediss:") else None,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # Redis full or read-only is such an error, and by default ends the worker.
        broker_channel_error_retry=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,  # a ticket that is lost is made up for, so a late acknowledgement buys nothing
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_soft_shutdown_timeout=0,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        task_default_queue=CONTROL_QUEUE,
        task_create_missing_queues=True,
        enable_utc=True,
    )
    return app


def queue_name(model: str) -> str:
    """The queue of the engine with this primary name: a hash, since names hold slashes and whatever else."""
    return "model-" + hashlib.sha256(model.encode()).hexdigest()[:32]


def _log_as_we_do(**_: Any) -> None:
    """Celery sets up no logging of its own where somebody listens to this signal: `jobs.logs` has done it."""
