"""Looks at the way out for webhooks."""

from jobs.database import Database
from jobs.secrets import new_key
from jobs.settings import Settings
from longhaul.doctor import egress as doctor
from longhaul.doctor.finding import Finding, Level
from tests.jobs import hooks
from tests.longhaul.doctor.conftest import faults, said
from tests.receiver import receiving

CLOSED = "http://127.0.0.1:1/hook"


async def examined(database: Database, key: str = hooks.KEY, **changes: object) -> list[Finding]:
    settings = Settings(database_url="postgresql://x").model_copy(update={"webhook_allow": "127.0.0.1", **changes})
    return await doctor.examine(database, settings, key)


async def test_receivers_that_can_be_connected_to_are_well_and_get_nothing(database: Database) -> None:
    async with receiving() as receiver:
        await hooks.endpoint(database, "job.completed", url=receiver.url("/hook"))
        found = await examined(database)
    assert faults(found) == []
    assert said(found, "webhook egress") == "1 endpoints can be connected to."
    assert receiver.hits == []


async def test_where_no_receiver_can_be_connected_to_the_way_out_is_closed(database: Database) -> None:
    await hooks.endpoint(database, "job.completed", url=CLOSED)
    assert faults(await examined(database)) == [("webhook egress", Level.WARNING)]
    await hooks.endpoint(database, "job.completed", url="http://localhost:1/hook")
    found = await examined(database, webhook_allow="127.0.0.1,localhost")
    assert faults(found) == [("webhook egress", Level.TROUBLE)]


async def test_one_receiver_that_is_down_is_its_owners_affair(database: Database) -> None:
    async with receiving() as receiver:
        await hooks.endpoint(database, "job.completed", url=f"http://localhost:{receiver.port}/")
        await hooks.endpoint(database, "job.completed", url=CLOSED)
        found = await examined(database, webhook_allow="127.0.0.1,localhost")
    assert faults(found) == [("webhook egress", Level.WARNING)]
    assert "127.0.0.1" in said(found, "webhook egress")


async def test_a_receiver_inside_is_not_connected_to(database: Database) -> None:
    async with receiving() as receiver:
        await hooks.endpoint(database, "job.completed", url=f"https://127.0.0.1:{receiver.port}/")
        found = await examined(database, webhook_allow="")
    assert faults(found) == [("webhook egress", Level.WARNING)]


async def test_without_endpoints_there_is_nothing_to_try(database: Database) -> None:
    assert faults(await examined(database)) == []


async def test_a_proxy_is_tried_instead(database: Database) -> None:
    async with receiving() as proxy:
        found = await examined(database, webhook_proxy_url=proxy.url(""))
        assert faults(found) == []
    found = await examined(database, webhook_proxy_url="http://user:secret@127.0.0.1:1")
    assert faults(found) == [("webhook egress", Level.TROUBLE)]
    assert "secret" not in said(found, "webhook egress")


async def test_another_secret_key_than_the_one_that_was_used_is_trouble(database: Database) -> None:
    async with receiving() as receiver:
        await hooks.endpoint(database, "job.completed", url=receiver.url("/hook"))
        for key in (new_key(), ""):
            assert faults(await examined(database, key)) == [("webhook secrets", Level.TROUBLE)]


async def test_no_secret_key_is_a_warning_while_nothing_is_stored(database: Database) -> None:
    assert faults(await examined(database, "")) == [("webhook secrets", Level.WARNING)]
