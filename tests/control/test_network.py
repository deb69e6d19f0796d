"""Names are looked up once for all who ask, and nobody's that are never found delay another's."""

import asyncio
from ipaddress import ip_address
from threading import Event

import pytest

from control import network
from control.network import Names
from jobs.webhook_url import Address

TENANT = 1
PUBLIC = "93.184.215.14"


async def test_names_are_looked_up_by_the_system_once_for_all_who_ask() -> None:
    names = Names()
    both = await asyncio.gather(names.addresses(TENANT, "localhost"), names.addresses(TENANT, "localhost"))
    assert both[0] is both[1]
    assert ip_address("127.0.0.1") in both[0]
    assert await names.addresses(TENANT, "localhost") is not both[0]
    names.close()


async def test_whoever_gives_up_on_a_look_up_takes_it_from_nobody() -> None:
    names = Names()
    impatient = asyncio.create_task(names.addresses(TENANT, "localhost"))
    patient = asyncio.create_task(names.addresses(TENANT, "localhost"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert ip_address("127.0.0.1") in await patient
    names.close()


async def test_a_tenants_names_that_are_never_found_delay_no_other_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = Event()

    def ask(host: str) -> list[Address]:
        asked.append(host)
        if host.startswith("silent"):
            answers.wait()
        return [ip_address(PUBLIC)]

    monkeypatch.setattr(network, "_SHARE", 2)
    monkeypatch.setattr(network, "_ask_system", ask)
    names = Names()
    waiting = [asyncio.create_task(names.addresses(1, f"silent{number}.example")) for number in range(4)]
    await asyncio.sleep(0)
    try:
        assert await names.addresses(2, "hooks.example") == [ip_address(PUBLIC)]
        assert len(asked) == 3
        waiting.pop().cancel()  # nobody waits for this one any more
    finally:
        answers.set()
    await asyncio.gather(*waiting)
    assert await names.addresses(1, "hooks.example") == [ip_address(PUBLIC)]
    assert sorted(asked) == ["hooks.example"] * 2 + ["silent0.example", "silent1.example", "silent2.example"]
    names.close()
