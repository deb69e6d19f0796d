"""The commands against a whole deployment: what they print, where, and how they end."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from tests.engines.script import ENDPOINTS
from tests.longhaul.conftest import Service

Command = Callable[..., Result]


def body(content: str = "Hi.", **script: object) -> str:
    return json.dumps({"messages": [{"role": "user", "content": content}], "script": script})


def submitted(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def shown(longhaul: Command, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(longhaul("jobs", "show", job).stdout)
    return found


def test_submit_prints_the_id_and_wait_the_answer(longhaul: Command) -> None:
    result = longhaul("submit", "Say hello.")
    assert result.stdout.startswith("job_")
    assert len(result.stdout.split()) == 1
    answer = longhaul("wait", submitted(result))
    assert answer.stdout == " ".join(["word"] * 16) + "\n"
    assert answer.exit_code == 0


def test_submit_takes_a_json_body_and_standard_input(longhaul: Command) -> None:
    written = submitted(longhaul("submit", body(text="from an argument")))
    piped = submitted(longhaul("submit", "-", stdin=body(text="from a pipe")))
    prompt = submitted(longhaul("submit", "-", stdin="a prompt\nof two lines"))
    assert longhaul("wait", piped, written).stdout == "from a pipe\nfrom an argument\n"
    assert longhaul("wait", prompt).exit_code == 0


def test_submit_with_wait_prints_the_answer_and_says_the_id(longhaul: Command) -> None:
    result = longhaul("submit", body(text="at once"), "--wait")
    assert result.stdout == "at once\n"
    assert result.stderr.startswith("job_")


def test_every_option_of_submit_reaches_the_job(longhaul: Command) -> None:
    options = ["--model", "scripted", "--endpoint", "/v1/completions", "--tier", "flex", "--metadata", "row=7"]
    result = longhaul("submit", "Once", *options, "--expires-after", "600", "--timeout", "60", "--json")
    job = json.loads(result.stdout)
    assert (job["endpoint"], job["model"], job["service_tier"]) == ("/v1/completions", "scripted", "flex")
    assert job["metadata"] == {"row": "7"}
    assert job["expires_at"] == pytest.approx(job["created_at"] + 600, abs=2)


def test_the_same_idempotency_key_is_the_same_job(longhaul: Command) -> None:
    first = submitted(longhaul("submit", "Once.", "--idempotency-key", "only-once"))
    assert submitted(longhaul("submit", "Once.", "--idempotency-key", "only-once")) == first
    other = longhaul("submit", "Twice.", "--idempotency-key", "only-once")
    assert other.exit_code == 1
    assert "idempotency" in other.stderr


def test_wait_ends_with_1_and_the_engines_words_when_a_job_fails(longhaul: Command) -> None:
    good, bad = submitted(longhaul("submit", body(text="fine"))), submitted(longhaul("submit", body(fail=400)))
    result = longhaul("wait", good, bad)
    assert result.exit_code == 1
    assert result.stdout == "fine\n"
    assert result.stderr == f"{bad} failed: It was told to fail.\n"


def test_json_is_the_apis_own_object_one_a_line(longhaul: Command) -> None:
    ids = [submitted(longhaul("submit", body(text=str(number)))) for number in range(2)]
    jobs = [json.loads(line) for line in longhaul("wait", *ids, "--json").stdout.splitlines()]
    assert [job["id"] for job in jobs] == ids
    assert [job["response"]["status_code"] for job in jobs] == [200, 200]


def test_a_refused_request_is_said_in_the_apis_words(longhaul: Command) -> None:
    result = longhaul("submit", "Hi.", "--model", "no-such-model")
    assert result.exit_code == 1
    assert "no-such-model" in result.stderr
    assert "scripted" in result.stderr


def test_a_running_job_can_be_cancelled_and_run_again(longhaul: Command) -> None:
    job = submitted(longhaul("submit", body(delay=30)))
    assert "cancelled" in longhaul("jobs", "cancel", job).stderr
    assert longhaul("wait", job).exit_code == 1
    again = submitted(longhaul("jobs", "retry", job))
    assert shown(longhaul, again)["retry_of"] == job
    longhaul("jobs", "cancel", again)


def test_a_deleted_job_does_not_exist(longhaul: Command) -> None:
    job = submitted(longhaul("submit", body()))
    longhaul("wait", job)
    assert longhaul("jobs", "delete", job).exit_code == 0
    result = longhaul("jobs", "show", job)
    assert result.exit_code == 1
    assert job in result.stderr


def test_jobs_are_listed_by_status_and_metadata_page_by_page(longhaul: Command) -> None:
    ids = [submitted(longhaul("submit", body(), "--metadata", "run=listed")) for _ in range(3)]
    longhaul("wait", *ids)
    first = longhaul("jobs", "list", "--metadata", "run=listed", "--status", "completed", "--limit", "2", "--json")
    page = json.loads(first.stdout)
    assert [job["id"] for job in page["data"]] == [ids[2], ids[1]]
    table = longhaul("jobs", "list", "--metadata", "run=listed", "--after", page["last_id"])
    assert ids[0] in table.stdout
    assert ids[1] not in table.stdout


def test_a_key_works_until_it_is_revoked(longhaul: Command, service: Service) -> None:
    secret = submitted(longhaul("keys", "create", "--tenant", "revoked", "--name", "ci"))
    theirs = {"OPENAI_BASE_URL": service.environment["OPENAI_BASE_URL"], "OPENAI_API_KEY": secret}
    ours = submitted(longhaul("submit", "Hi."))
    assert longhaul("jobs", "list", **theirs).exit_code == 0
    assert longhaul("jobs", "show", ours, **theirs).exit_code == 1

    listed = [json.loads(line) for line in longhaul("keys", "list", "--json").stdout.splitlines()]
    key = next(key for key in listed if key["tenant"] == "revoked")
    assert secret not in json.dumps(listed)
    assert longhaul("keys", "revoke", str(key["id"])).exit_code == 0
    deadline = time.monotonic() + 10
    while (refused := longhaul("jobs", "list", **theirs)).exit_code == 0 and time.monotonic() < deadline:
        continue
    assert "API key" in refused.stderr


def test_a_tenants_weight_and_pause_are_set_and_listed(longhaul: Command) -> None:
    longhaul("keys", "create", "--tenant", "heavy", "--name", "any")
    assert longhaul("tenants", "set", "heavy", "--weight", "3", "--paused").exit_code == 0
    tenants = [json.loads(line) for line in longhaul("tenants", "list", "--json").stdout.splitlines()]
    heavy = next(tenant for tenant in tenants if tenant["name"] == "heavy")
    assert (heavy["weight"], heavy["paused"]) == (3, True)
    assert longhaul("tenants", "set", "nobody", "--weight", "2").exit_code == 1


def test_models_and_workers_are_listed(longhaul: Command) -> None:
    assert json.loads(longhaul("models", "list", "--json").stdout)["name"] == "scripted"
    worker = json.loads(longhaul("workers", "--json").stdout)
    assert worker["model"] == "scripted"
    assert "scripted" in longhaul("workers").stdout
    assert longhaul("models", "retire", "no-such-model").exit_code == 1


def test_a_models_schemas_are_printed_as_check_reads_them(longhaul: Command, tmp_path: Path) -> None:
    printed = longhaul("models", "schemas", "scripted")
    assert json.loads(printed.stdout).keys() == ENDPOINTS.keys()
    schemas, source = tmp_path / "schemas.json", tmp_path / "in.jsonl"
    schemas.write_text(printed.stdout)
    body = {"model": "scripted", "messages": [{"role": "user", "content": "Hi."}], "top_k": "2"}
    source.write_text(json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}))
    checked = longhaul("batch", "check", str(source), "--schemas", str(schemas))
    assert (checked.exit_code, "top_k" in checked.stdout) == (1, True)
    assert longhaul("models", "schemas", "no-such-model").exit_code == 1


def test_without_a_service_the_exit_code_is_3_and_the_line_says_what_to_do(longhaul: Command, tmp_path: Path) -> None:
    for command in (("submit", "Hi."), ("keys", "list")):
        result = longhaul(*command, LONGHAUL_HOME=str(tmp_path))
        assert result.exit_code == 3
        assert "longhaul up" in result.stderr
    gone = longhaul("submit", "Hi.", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert gone.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("submit", "Hi.", "--metdata", "a=b"), "--metadata"),
        (("submit", "Hi.", "--tier", "fast"), "'priority'"),
        (("submit", "Hi.", "--metadata", "a"), "KEY=VALUE"),
        (("submit", "Hi.", "--endpoint", "/v1/score"), "JSON body"),
        (("submit", '{"messages": '), "valid JSON"),
        (("jobs", "lst"), "'list'"),
    ],
)
def test_wrong_usage_ends_with_2_and_what_would_be_right(
    longhaul: Command, arguments: tuple[str, ...], advice: str
) -> None:
    result = longhaul(*arguments)
    assert result.exit_code == 2
    assert advice in result.stderr


def test_the_configuration_page_is_what_the_command_prints(longhaul: Command) -> None:
    page = Path(__file__).parents[2] / "docs" / "configuration.md"
    assert longhaul("settings").stdout == page.read_text(), "longhaul settings > docs/configuration.md"


def test_the_clients_commands_load_no_database() -> None:
    code = "import sys, longhaul.commands.jobs; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_migrate_can_only_look(longhaul: Command, tmp_path: Path) -> None:
    assert longhaul("migrate", "--check").exit_code == 0
    away = longhaul("migrate", "--check", DATABASE_URL="postgresql://longhaul@127.0.0.1:1/longhaul")
    assert away.exit_code == 3
    assert away.stderr.startswith("error: The database does not answer: ")
    assert longhaul("migrate", "--check", LONGHAUL_HOME=str(tmp_path)).exit_code == 3
