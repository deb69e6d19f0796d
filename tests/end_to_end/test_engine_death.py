"""EngineCore, vLLM's own process, is killed under a worker that runs a hundred jobs."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import OpenAI

from jobs.records import Json
from tests.end_to_end.conftest import VLLM, Stack
from tests.end_to_end.models import without_chat_template
from tests.faults import invariants
from tests.processes import eventually

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore"),
]

JOBS = 100
NAME = "without-template"


def engine_cores(worker: int) -> Iterator[int]:
    """The pids of the worker's EngineCore processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == worker and (folder / "cmdline").read_text().startswith("VLLM::EngineCore"):
                yield int(folder.name)
        except OSError:
            continue


async def test_no_job_fails_with_its_engine(stack: Stack, sdk: OpenAI, tmp_path: Path) -> None:
    deployment = stack.deployment
    model = without_chat_template(stack.model, tmp_path / "model")
    served = ("--", "--model", str(model), "--served-model-name", NAME, "--enforce-eager", "--max-num-seqs", "128")
    worker, identity = await deployment.start_worker("doomed", *served, LONGHAUL_ENGINE="vllm", **VLLM)

    with pytest.raises(openai.BadRequestError, match="--chat-template"):
        sdk.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "hello"}])

    body: Json = {"model": NAME, "prompt": "once upon a time", "max_tokens": 100, "ignore_eos": True}
    async with deployment.client() as client:
        response = await client.post("/v1/jobs", json=[{"endpoint": "/v1/completions", "body": body}] * JOBS)
        accepted = [job["id"] for job in response.json()["data"]]

        async def all_run() -> bool:
            return len(await invariants.held(deployment.database, identity)) == JOBS

        await eventually(all_run, 30, f"{JOBS} jobs in flight")
        [core] = engine_cores(worker.pid)
        os.kill(core, signal.SIGKILL)
        assert await worker.ended(60) == 1

        known = (await client.get(f"/v1/models/{NAME}")).json()
        assert (known["id"], known["workers"]) == (NAME, 0)
        late = (await client.post("/v1/jobs", json={"endpoint": "/v1/completions", "body": body})).json()
        assert late["status"] == "queued"
        await deployment.start_worker("successor", *served, LONGHAUL_ENGINE="vllm", **VLLM)
        assert (await client.get(f"/v1/models/{NAME}")).json()["workers"] == 1
        served_late = (await client.get(f"/v1/jobs/{late['id']}", params={"wait": 50})).json()
        assert (served_late["status"], served_late["response"]["body"]["model"]) == ("completed", NAME)
        done = [(await client.get(f"/v1/jobs/{job}", params={"wait": 50})).json() for job in accepted]
    assert Counter(job["status"] for job in done) == {"completed": JOBS}
    assert {job["usage"]["output_tokens"] for job in done} == {100}
    assert Counter(job["attempts"] for job in done) == {2: JOBS}
