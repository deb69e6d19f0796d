"""The Celery configuration on which the promises about Redis rest."""

import ssl

import pytest

from jobs.broker import make_app, queue_name
from jobs.settings import Settings


def test_nothing_waits_for_redis_for_ever(settings: Settings) -> None:
    options = make_app(settings, "test").conf.broker_transport_options
    assert options["socket_timeout"] > 1  # BRPOP itself waits a second
    assert options["socket_connect_timeout"] > 0
    assert "retry_on_timeout" not in options  # else batches are silently published one by one
    assert "polling_interval" not in options


@pytest.mark.parametrize(
    ("options", "checked"),
    [
        ("", ssl.CERT_REQUIRED),
        ("?ssl_ca_certs=/authority.pem", None),  # redis-py's own default, which is to require one
        ("?ssl_cert_reqs=none", ssl.CERT_NONE),
    ],
)
def test_who_redis_is_by_tls_is_checked_unless_the_url_says_otherwise(
    options: str, checked: ssl.VerifyMode | None
) -> None:
    settings = Settings(redis_url=f"rediss://:secret@redis.example.com:6380/0{options}")
    with make_app(settings, "test").connection_for_read() as connection:
        assert isinstance(connection.ssl, dict)
        assert connection.ssl.get("ssl_cert_reqs") == checked


def test_a_worker_outlives_a_full_or_read_only_redis(settings: Settings) -> None:
    conf = make_app(settings, "test").conf
    assert conf.broker_channel_error_retry
    assert conf.broker_connection_max_retries is None
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss


def test_no_result_is_kept_in_redis(settings: Settings) -> None:
    app = make_app(settings, "test")
    assert app.conf.task_ignore_result
    assert app.conf.result_backend is None


def test_a_worker_takes_no_ticket_that_it_cannot_serve(settings: Settings) -> None:
    conf = make_app(settings, "test").conf
    assert conf.worker_disable_prefetch
    assert conf.worker_prefetch_multiplier == 1


def test_deployments_share_a_redis_by_prefix(settings: Settings) -> None:
    other = settings.model_copy(update={"redis_prefix": "other"})
    prefixes = [make_app(each, "test").conf.broker_transport_options["global_keyprefix"] for each in (settings, other)]
    assert prefixes == ["{longhaul}:", "{other}:"]


def test_a_queue_is_named_alike_everywhere_whatever_the_model_is_called() -> None:
    assert queue_name("meta/Llama 3:70b") == queue_name("meta/Llama 3:70b")
    assert queue_name("meta/Llama 3:70b") != queue_name("meta/llama 3:70b")
    assert queue_name("模型 / ' \" \\").isascii()
