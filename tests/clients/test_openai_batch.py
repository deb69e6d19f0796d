"""`openai-batch` of Parasail drives batches as it drives OpenAI's. `make test-clients` makes its environment."""

import asyncio
import json
from pathlib import Path

from tests.processes import Deployment

SCRIPT = Path(__file__).with_name("openai_batch_run.py")


async def test_its_batches_complete(
    deployment: Deployment, python: str, environment: dict[str, str], tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(python, SCRIPT, f"{deployment.base_url}/v1", deployment.key, "scripted", tmp_path),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    chats, texts = (json.loads(line) for line in said.splitlines() if line.startswith(b"{"))  # it prints much else
    assert (chats["status"], chats["lines"]) == ("completed", 50)
    assert (texts["status"], texts["lines"]) == ("completed", 20)
    assert chats["first"]["response"]["body"]["object"] == "chat.completion"
    assert texts["first"]["response"]["body"]["data"]
