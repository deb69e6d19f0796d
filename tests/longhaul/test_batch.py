"""`longhaul batch` against a whole deployment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from jobs.records import Json
from tests.longhaul.conftest import Service

Command = Callable[..., Result]


def line(custom_id: str, model: str = "scripted", **script: object) -> Json:
    body = {"model": model, "messages": [{"role": "user", "content": f"{custom_id}?"}], "script": script}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def written(path: Path, lines: Iterable[Json]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def ids_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def newest(longhaul: Command) -> dict[str, Any]:
    page = json.loads(longhaul("batch", "list", "--limit", "1", "--json").stdout)
    batch: dict[str, Any] = page["data"][0]
    return batch


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def test_run_writes_results_in_the_order_of_the_input(longhaul: Command, tmp_path: Path, out: Path) -> None:
    source = written(tmp_path / "in.jsonl", (line(f"r{number}", text=f"answer {number}") for number in range(60)))
    result = longhaul("batch", "run", "-i", source, "-o", str(out), "--poll", "0.05")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "60 of 60 requests completed" in result.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["custom_id"] for line in lines] == [f"r{number}" for number in range(60)]
    assert lines[7]["response"]["body"]["choices"][0]["message"]["content"] == "answer 7"
    assert sorted(os.listdir(tmp_path)) == ["in.jsonl", "out.jsonl"]


def test_failed_requests_go_to_a_file_of_their_own_and_the_exit_code_is_1(
    longhaul: Command, tmp_path: Path, out: Path
) -> None:
    source = written(tmp_path / "in.jsonl", [line("good"), line("bad", fail=400), line("fine")])
    result = longhaul("batch", "run", "-i", source, "-o", str(out), "--poll", "0.05")
    assert result.exit_code == 1
    assert ids_of(out) == ["good", "fine"]
    assert ids_of(Path(f"{out}.errors.jsonl")) == ["bad"]
    assert "2 of 3 requests completed" in result.stderr
    assert f"1 did not ({out}.errors.jsonl)" in result.stderr


def test_vllms_format_has_all_lines_in_one_file_and_standard_output_takes_it(longhaul: Command, tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", [line("good"), line("bad", fail=400), line("fine")])
    result = longhaul("batch", "run", "-i", source, "-o", "-", "--format", "vllm", "--model", "m", "--poll", "0.05")
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["custom_id"] for line in lines] == ["good", "bad", "fine"]
    assert lines[1]["response"]["body"] is None
    assert lines[1]["error"]["error"]["message"] == "It was told to fail."
    assert result.stderr.count("--model has no effect") == 1


def test_on_standard_output_failed_requests_stay_on_the_server_until_asked_for(
    longhaul: Command, tmp_path: Path
) -> None:
    source = written(tmp_path / "in.jsonl", [line("good"), line("bad", fail=400)])
    result = longhaul("batch", "run", "-i", source, "-o", "-", "--poll", "0.05")
    assert [json.loads(line)["custom_id"] for line in result.stdout.splitlines()] == ["good"]
    assert "--errors FILE" in result.stderr
    errors = tmp_path / "errors.jsonl"
    longhaul("batch", "fetch", result.stderr.split()[0], "-o", "-", "--errors", str(errors))
    assert ids_of(errors) == ["bad"]


def test_the_same_file_again_is_the_same_batch_unless_told_otherwise(
    longhaul: Command, tmp_path: Path, out: Path
) -> None:
    source = written(tmp_path / "again.jsonl", [line("one")])
    first = longhaul("batch", "run", "-i", source, "-o", str(out), "--detach").stdout
    assert first.startswith("batch_")
    assert longhaul("batch", "run", "-i", source, "-o", str(out), "--detach").stdout == first
    assert longhaul("batch", "run", "-i", source, "-o", str(out), "--poll", "0.05").exit_code == 0
    assert ids_of(out) == ["one"]
    assert longhaul("batch", "run", "-i", source, "-o", str(out), "--detach", "--again").stdout != first
    other = longhaul("batch", "run", "-i", source, "-o", str(out), "--window", "1h")
    assert other.exit_code == 1
    assert "--again" in other.stderr


def test_a_long_file_is_split_and_its_results_are_joined_in_order(longhaul: Command, tmp_path: Path, out: Path) -> None:
    lines = [line(f"r{number}", fail=400) if number % 5 == 3 else line(f"r{number}") for number in range(25)]
    source = written(tmp_path / "long.jsonl", lines)
    result = longhaul("batch", "run", "-i", source, "-o", str(out), "--max-lines", "7", "--poll", "0.05")
    assert result.exit_code == 1
    assert result.stderr.count("batch_") == 4
    assert ids_of(out) == [f"r{number}" for number in range(25) if number % 5 != 3]
    assert ids_of(Path(f"{out}.errors.jsonl")) == [f"r{number}" for number in range(3, 25, 5)]


def test_a_file_that_is_not_valid_says_each_fault_with_its_line(longhaul: Command, tmp_path: Path, out: Path) -> None:
    lines = [line("a"), line("b"), line("c"), line("c"), line("d", model="other")]
    source = written(tmp_path / "bad.jsonl", lines)
    result = longhaul("batch", "run", "-i", source, "-o", str(out), "--max-lines", "2", "--poll", "0.05")
    assert result.exit_code == 1
    assert "line 4: duplicate_custom_id" in result.stderr
    assert "line 5: model_not_found" in result.stderr
    assert ids_of(out) == ["a", "b"]


def test_what_failed_its_validation_is_tried_anew(longhaul: Command, tmp_path: Path, out: Path) -> None:
    source = written(tmp_path / "unknown.jsonl", [line("a", model="not-yet")])
    run = ("batch", "run", "-i", source, "-o", str(out), "--poll", "0.05")
    assert "model_not_found" in longhaul(*run).stderr
    first = newest(longhaul)["id"]
    assert longhaul(*run).exit_code == 1
    second = newest(longhaul)["id"]
    assert second != first
    assert not out.exists()


def test_standard_input_is_a_file_too(longhaul: Command, out: Path) -> None:
    text = json.dumps(line("piped"))
    assert longhaul("batch", "run", "-i", "-", "-o", str(out), "--poll", "0.05", stdin=text).exit_code == 0
    assert ids_of(out) == ["piped"]


def test_every_option_reaches_the_batch(longhaul: Command, tmp_path: Path, out: Path) -> None:
    source = written(tmp_path / "options.jsonl", [line("a")])
    options = ["--window", "90m", "--metadata", "team=red", "--endpoint", "/v1/chat/completions"]
    batch_id = longhaul("batch", "run", "-i", source, "-o", str(out), "--detach", *options).stdout.strip()
    batch = json.loads(longhaul("batch", "show", batch_id, "--json").stdout)
    assert (batch["completion_window"], batch["metadata"]) == ("90m", {"team": "red"})
    assert batch["endpoint"] == "/v1/chat/completions"


def test_a_cancelled_batch_is_fetched_and_retried(longhaul: Command, tmp_path: Path, out: Path) -> None:
    source = written(tmp_path / "slow.jsonl", [line(f"r{number}", delay=1) for number in range(40)])
    batch_id = longhaul("batch", "run", "-i", source, "-o", str(out), "--detach").stdout.strip()
    deadline = time.monotonic() + 20
    while 'in_progress"' not in longhaul("batch", "show", batch_id).stdout:
        assert time.monotonic() < deadline
    assert "cancel" in longhaul("batch", "cancel", batch_id).stderr
    fetched = longhaul("batch", "fetch", batch_id, "-o", str(out), "--poll", "0.05")
    assert fetched.exit_code == 1
    assert f"longhaul batch retry {batch_id}" in fetched.stderr
    again = longhaul("batch", "retry", batch_id).stdout.strip()
    retried = json.loads(longhaul("batch", "show", again).stdout)
    assert retried["id"] == again != batch_id
    longhaul("batch", "cancel", again)


def test_batches_are_listed_newest_first_page_by_page(longhaul: Command, tmp_path: Path, out: Path) -> None:
    made = []
    for number in range(2):
        source = written(tmp_path / f"listed-{number}.jsonl", [line("a")])
        made.append(longhaul("batch", "run", "-i", source, "-o", str(out), "--detach").stdout.strip())
    assert newest(longhaul)["id"] == made[1]
    first = longhaul("batch", "list", "--limit", "1")
    assert made[1] in first.stdout
    assert f"--after {made[1]}" in first.stderr
    assert made[0] in longhaul("batch", "list", "--after", made[1], "--limit", "1").stdout


LISTENING = """if True:
    import os, signal, sys
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-m", "longhaul", *sys.argv[1:]])
"""
"""Shells make what they start in the background deaf to Ctrl-C, and that is inherited: these tests may run there."""


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_come_back(
    service: Service, longhaul: Command, tmp_path: Path, out: Path
) -> None:
    source = written(tmp_path / "in.jsonl", [line(f"r{number}", delay=3) for number in range(32)])
    command = [sys.executable, "-c", LISTENING, "batch", "run", "-i", source, "-o", str(out)]
    environment = {**os.environ, "LONGHAUL_HOME": str(service.home)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        batch_id = run.stderr.readline().split()[0]
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert f"longhaul batch fetch {batch_id} -o {out}" in said
    assert "Traceback" not in said
    assert not out.exists()
    assert longhaul("batch", "fetch", batch_id, "-o", str(out), "--poll", "0.05").exit_code == 0
    assert len(ids_of(out)) == 32


def test_check_needs_no_service_and_names_every_bad_line(longhaul: Command, tmp_path: Path) -> None:
    lines = [line("a"), line("a"), line("b") | {"method": "GET"}]
    source = written(tmp_path / "in.jsonl", lines)
    result = longhaul("batch", "check", source, LONGHAUL_HOME=str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "line 2: duplicate_custom_id" in result.stdout
    assert "line 3: invalid_method" in result.stdout
    assert longhaul("batch", "check", written(tmp_path / "good.jsonl", lines[:1])).exit_code == 0


def test_check_as_json_is_faults_and_then_the_estimate(longhaul: Command, tmp_path: Path) -> None:
    schemas = tmp_path / "schemas.json"
    schemas.write_text(json.dumps({"/v1/chat/completions": {"properties": {"messages": {"type": "array"}}}}))
    source = written(tmp_path / "in.jsonl", [line("a")])
    options = ["--json", "--schemas", str(schemas), "--tokens-per-second", "100"]
    fault, estimate = map(json.loads, longhaul("batch", "check", source, *options).stdout.splitlines())
    assert (fault["line"], fault["param"], fault["fails"]) == (1, "script", "line")
    assert (estimate["requests"], estimate["failing_lines"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("run", "-i", "/none.jsonl", "-o", "/tmp/out"), 1, "no file '/none.jsonl'"),
        (("run", "-i", "-", "-o", "/none/out"), 2, "no folder"),
        (("run", "-i", "-", "-o", "-"), 1, "no request"),
        (("run", "-i", "-", "-o", "-", "--metadata", "a"), 2, "KEY=VALUE"),
        (("run", "-i", "-", "-o", "-", "--format", "vllm", "--errors", "/tmp/e"), 2, "--errors"),
        (("run", "-i", "-", "-o", "/tmp/out", "--errors", "/tmp/out"), 2, "--errors"),
        (("run", "-o", "-"), 2, "--input-file"),
        (("show", "batch_0"), 1, "batch_0"),
        (("check", "/none.jsonl"), 1, "no file"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_sent(
    longhaul: Command, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = longhaul("batch", *arguments, stdin="")
    assert result.exit_code == code
    assert said in result.stderr


def test_the_command_loads_no_database() -> None:
    code = "import sys, longhaul.commands.batch; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
