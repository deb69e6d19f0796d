"""What the demonstration sends, and how it ends."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from longhaul import demo


def test_the_texts_are_different_paragraphs_of_python_itself() -> None:
    texts = demo.paragraphs(220)
    assert len(set(texts)) == 220
    assert all(10 <= len(text.split()) <= 120 for text in texts)


def test_two_hundred_requests_are_asynchronous() -> None:
    requests = dict(demo.WAYS)
    waited = requests.pop(demo.wait_like_openai)
    assert demo.REQUESTS - waited == 200
    assert waited > 0


def test_the_requests_ask_for_16_to_96_tokens() -> None:
    limits = {body["max_tokens"] for body in demo.chats(220)}
    assert min(limits) == 16
    assert max(limits) == 96


def run(*options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`longhaul demo` with the scripted engine."""
    environment = os.environ | {"LONGHAUL_ENGINE": "tests.engines.scripted:factory"} | variables
    command = [sys.executable, "-P", "-m", "longhaul", "demo", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)


def processes_of(folder: Path) -> list[Path]:
    """Whatever still runs with this folder for its temporary files."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"TMPDIR={folder}\0" in environment.read_text(errors="replace"):
                found.append(environment.parent)
    return found


def test_it_loses_nothing_with_its_worker_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run(
        "--kill", TMPDIR=str(tmp_path), LONGHAUL_TEST_DELAY="0.5", LONGHAUL_TEST_SLOTS="32", LONGHAUL_TEST_PACE="0.1"
    )
    assert done.returncode == 0, done.stderr
    assert "kept by the service: {'completed': 220}, run more than once: " in done.stdout
    assert not done.stdout.rstrip().endswith("once: 0")
    assert re.search(r"^a stream, as it comes: word", done.stdout, re.MULTILINE)
    assert re.search(r"^its worker was lost, its next run says: word( word){15}$", done.stdout, re.MULTILINE)
    assert re.search(r"^stream, as it comes +1 +1 completed ", done.stdout, re.MULTILINE)
    assert re.search(r"^webhook, verified +20 +20 completed ", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []
    assert not processes_of(tmp_path)


def test_a_job_that_fails_fails_the_demonstration(tmp_path: Path) -> None:
    done = run(TMPDIR=str(tmp_path), LONGHAUL_TIMEOUT="1", LONGHAUL_TEST_DELAY="5")
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert not processes_of(tmp_path)
