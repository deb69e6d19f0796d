"""A deployment with the scripted engine, and the environment in which clients run."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes import Deployment, deployed


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path / "deployment", LONGHAUL_TEST_ALIASES="scripted-too") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        yield deployment


@pytest.fixture
def python() -> str:
    """The interpreter that has the clients and nothing of ours."""
    path = os.environ.get("LONGHAUL_TEST_CLIENTS")
    assert path, "`make test-clients` says where the clients are"
    return str(Path(path).absolute())


@pytest.fixture
def environment() -> dict[str, str]:
    """Ours, with no proxy between a client and this machine."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
