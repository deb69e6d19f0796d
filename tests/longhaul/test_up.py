"""`longhaul up`: one command brings everything up, keeps it up, and leaves nothing behind."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobs.secrets import Vault
from longhaul.deployment import key_file, read_exports
from tests.engines.served import served

PARTS = ("worker", "api", "control", "redis", "postgres")
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


class Up:
    """A `longhaul up` on a folder, with the scripted engine unless `environment` names another."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.errors = home.with_suffix(".err")
        ours = {"LONGHAUL_HOME": str(home), "LONGHAUL_PORT": "0", "LONGHAUL_ENGINE": "tests.engines.scripted:factory"}
        theirs = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
        with self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "longhaul", "up"],
                env={**theirs, **ours, **(environment or {})},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )

    def ready(self) -> str:
        """The address that the line `ready` names."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready http://"), self.errors.read_text()
        return line.split()[1]

    def chat(self) -> httpx.Response:
        exports = read_exports(self.home / "client.env")
        return httpx.post(
            f"{exports['OPENAI_BASE_URL']}/chat/completions",
            json=CHAT,
            headers={"Authorization": f"Bearer {exports['OPENAI_API_KEY']}"},
            timeout=60,
        )

    def pids(self) -> dict[str, int]:
        """The session leaders that write to this folder's logs, by part."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                log, pid = (folder / "fd" / "1").readlink(), int(folder.name)
                if log.parent == self.home / "logs" and os.getsid(pid) == pid:
                    found[log.stem] = pid
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean_up(self) -> None:
        """Leave nothing, however the test went."""
        self.end()
        for pid in self.pids().values():
            os.killpg(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    up = Up(tmp_path_factory.mktemp("up") / "home", {"LONGHAUL_TEST_ALIASES": "from-the-environment"})
    try:
        up.ready()
        yield up
    finally:
        up.clean_up()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Start one on the test's own folder; called again, another on the same."""
    started: list[Up] = []

    def start(**environment: str) -> Up:
        started.append(Up(tmp_path / "home", environment))
        return started[-1]

    yield start
    for up in started:
        up.clean_up()


def test_the_ready_line_comes_when_a_first_request_is_answered(running: Up) -> None:
    answer = running.chat()
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "chat.completion"


def test_the_client_s_file_can_be_sourced_and_is_private(running: Up) -> None:
    path = running.home / "client.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shell = subprocess.run(
        ["sh", "-c", f'. {path}; printf "%s" "$OPENAI_BASE_URL"'], capture_output=True, text=True, check=True
    )
    assert httpx.get(shell.stdout.removesuffix("/v1") + "/livez").status_code == 200


def test_its_secret_key_is_private_and_stays_what_it_is(running: Up) -> None:
    path = key_file(running.home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault(path.read_text().strip()).seal("text", "webhook")


def test_a_second_one_on_the_same_folder_ends_with_a_message(running: Up) -> None:
    second = Up(running.home)
    assert second.process.wait(60) == 1
    assert f"process {running.process.pid}" in second.errors.read_text()
    assert second.process.stdout is not None
    second.process.stdout.close()


def test_every_part_is_in_a_session_of_its_own(running: Up) -> None:
    assert set(running.pids()) == set(PARTS)


def test_variables_that_are_set_for_it_reach_the_engine(running: Up) -> None:
    """As VLLM_USE_MODELSCOPE has to; what the scripted engine reads there can be seen."""
    exports = read_exports(running.home / "client.env")
    answer = httpx.get(
        f"{exports['OPENAI_BASE_URL']}/models", headers={"Authorization": f"Bearer {exports['OPENAI_API_KEY']}"}
    )
    assert "from-the-environment" in {model["id"] for model in answer.json()["data"]}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_killed_comes_back_and_work_goes_on(running: Up, part: str) -> None:
    before = running.pids()[part]
    os.kill(before, signal.SIGKILL)
    until(lambda: running.pids().get(part, before) != before)

    def answered() -> bool:
        with suppress(httpx.TransportError):
            return running.chat().status_code == 200
        return False

    until(answered)


def test_ctrl_c_ends_every_part_and_the_folder_carries_on(start: Callable[..., Up]) -> None:
    up = start()
    up.ready()
    exports = read_exports(up.home / "client.env")
    secret = exports["OPENAI_API_KEY"]
    assert exports["OPENAI_WEBHOOK_SECRET"].startswith("whsec_")
    job = up.chat().headers["x-request-id"]
    assert job
    assert up.end(signal.SIGINT) == 0
    assert up.pids() == {}
    again = start()
    base_url = again.ready()
    assert read_exports(up.home / "client.env") == exports | {"OPENAI_BASE_URL": base_url}
    listed = httpx.get(f"{base_url}/jobs", headers={"Authorization": f"Bearer {secret}"}).json()
    assert [job["status"] for job in listed["data"]] == ["completed"], json.dumps(listed)
    assert again.end() == 0


def test_what_a_killed_one_left_running_is_ended_by_the_next(start: Callable[..., Up]) -> None:
    up = start()
    up.ready()
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    left = up.pids()
    assert set(left) == set(PARTS)
    again = start()
    again.ready()
    assert set(again.pids().values()).isdisjoint(left.values())
    assert again.chat().status_code == 200
    assert again.end() == 0
    assert again.pids() == {}


def test_no_keys_on_a_public_address_is_refused(start: Callable[..., Up]) -> None:
    up = start(LONGHAUL_AUTH="none", LONGHAUL_HOST="0.0.0.0")
    assert up.process.wait(60) == 1
    assert "LONGHAUL_AUTH_NONE_ANYWHERE" in up.errors.read_text()
    assert up.pids() == {}


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 200), ("0.0.0.0", 400)])
def test_webhooks_reach_this_machine_only_where_nobody_else_asks_for_them(
    start: Callable[..., Up], host: str, status: int
) -> None:
    up = start(LONGHAUL_HOST=host)
    answer = httpx.post(
        f"{up.ready()}/webhook_endpoints",
        json={"name": "x", "url": "http://127.0.0.1:6379/", "event_types": ["job.completed"]},
        headers={"Authorization": f"Bearer {read_exports(up.home / 'client.env')['OPENAI_API_KEY']}"},
    )
    assert answer.status_code == status, answer.text
    assert up.end() == 0


async def test_a_server_that_somebody_else_runs_can_be_the_engine(start: Callable[..., Up]) -> None:
    async with served() as server:
        up = start(LONGHAUL_ENGINE=server.url)
        await asyncio.to_thread(up.ready)
        answer = await asyncio.to_thread(up.chat)
        assert answer.status_code == 200, answer.text
        [(path, _, body)] = server.asked
        assert (path, body["messages"]) == ("/v1/chat/completions", CHAT["messages"])
        assert await asyncio.to_thread(up.end) == 0


@pytest.mark.vllm
def test_a_wrong_engine_argument_ends_the_start_with_vllm_s_own_message(start: Callable[..., Up]) -> None:
    up = start(LONGHAUL_ENGINE="vllm", LONGHAUL_ENGINE_ARGS="--no-such-option 4")
    assert up.process.wait(100) == 1
    assert "no-such-option" in up.errors.read_text()
    assert up.pids() == {}
