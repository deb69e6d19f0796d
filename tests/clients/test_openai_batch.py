"""`openai-batch` of Parasail drives batches as it drives OpenAI's. `make test-clients` makes its environment."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes import Deployment, deployed

PYTHON = os.environ.get("LONGHAUL_TEST_CLIENTS", "")
SCRIPT = Path(__file__).with_name("openai_batch_run.py")


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path / "deployment") as deployment:
        deployment.spawn("control")
        await deployment.start_api()
        await deployment.start_worker()
        yield deployment


async def test_its_batches_complete(deployment: Deployment, tmp_path: Path) -> None:
    assert PYTHON, "`make test-clients` says where the clients are"
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, SCRIPT, f"{deployment.base_url}/v1", deployment.key, "scripted", tmp_path),
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    chats, texts = (json.loads(line) for line in said.splitlines() if line.startswith(b"{"))  # it prints much else
    assert (chats["status"], chats["lines"]) == ("completed", 50)
    assert (texts["status"], texts["lines"]) == ("completed", 20)
    assert chats["first"]["response"]["body"]["object"] == "chat.completion"
    assert texts["first"]["response"]["body"]["data"]
