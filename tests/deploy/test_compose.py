"""docker-compose.yml: what it starts, and that everything it names is there."""

import re
import stat
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema_rs
import pytest
import yaml

from api import server
from jobs.secrets import Vault
from jobs.settings import Settings
from longhaul.__main__ import COMMANDS
from tests.deploy import dockerfile
from tests.deploy.compose import FILE, ROOT, NotResolved, Service, schema, services
from worker import watchdog

PARTS = {"api", "control", "worker", "worker-cpu", "migrate"}
STORES = {"postgres", "redis"}
ELSEWHERE = {
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_REGION",
    "AWS_ENDPOINT",
    "HF_TOKEN",
    "VLLM_CPU_KVCACHE_SPACE",
}
"""Variables of the libraries that read them."""


def test_it_is_a_compose_file() -> None:
    faults = jsonschema_rs.validator_for(schema()).iter_errors(yaml.safe_load(FILE.read_text()))
    assert [str(fault) for fault in faults] == []


def test_up_starts_the_gpu_s_worker_and_the_profile_cpu_the_other_one(env_file: Path) -> None:
    assert set(services(env_file)) == {"api", "control", "migrate", "worker", *STORES}
    assert set(services(env_file, "cpu")) == {"api", "control", "migrate", "worker-cpu", *STORES}


def test_only_the_gpu_s_worker_wants_a_gpu(started: dict[str, Service]) -> None:
    wanting = {
        name: service.spec["deploy"]["resources"] for name, service in started.items() if "deploy" in service.spec
    }
    assert wanting == {
        "worker": {"reservations": {"devices": [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]}}
    }


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "LONGHAUL_SECRET_KEY"])
def test_without_a_secret_nothing_starts(env_file: Path, missing: str) -> None:
    env_file.write_text(re.sub(f"^{missing}=.*$", "", env_file.read_text(), flags=re.MULTILINE))
    with pytest.raises(NotResolved, match="deploy/make-env"):
        services(env_file)


def test_the_secrets_are_made_once_and_are_their_owner_s(env_file: Path) -> None:
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    before = env_file.read_text()
    again = subprocess.run([ROOT / "deploy" / "make-env"], cwd=env_file.parent, capture_output=True)
    assert again.returncode != 0
    assert env_file.read_text() == before


def test_the_secret_key_is_one(started: dict[str, Service]) -> None:
    assert Vault(started["api"].environment["LONGHAUL_SECRET_KEY"]).seal("text", "webhook")


@pytest.mark.parametrize("part", sorted(PARTS))
def test_every_setting_reaches_every_part(started: dict[str, Service], part: str) -> None:
    known = {str(field.alias) for field in Settings.model_fields.values()}
    passed = set(started[part].spec["environment"])
    fixed = {name for name in dockerfile.stages()["base"].environment if name.startswith("LONGHAUL_")}
    assert passed >= ELSEWHERE
    assert passed - ELSEWHERE | fixed | {"LONGHAUL_WORKER_ID"} == known  # each container's worker is another one


@pytest.mark.parametrize("part", sorted(PARTS))
def test_what_a_part_gets_are_valid_settings(
    started: dict[str, Service], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in started[part].environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.home, settings.blob_store) == (Path("/data"), "/files")


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_is_wired_to_the_stores_beside_it(started: dict[str, Service], part: str) -> None:
    database = urlsplit(started[part].environment["DATABASE_URL"])
    postgres = started["postgres"].environment
    assert (database.hostname, database.port) == ("postgres", 5432)
    assert (database.username, database.path) == (postgres["POSTGRES_USER"], "/" + postgres["POSTGRES_DB"])
    assert database.password == postgres["POSTGRES_PASSWORD"]
    redis = urlsplit(started[part].environment["REDIS_URL"])
    assert (redis.hostname, redis.port) == ("redis", 6379)
    assert redis.password == started["redis"].environment["REDISCLI_AUTH"]
    assert redis.password in started["redis"].command


def test_stores_of_one_s_own_are_named_by_the_same_variables(env_file: Path) -> None:
    own = {"DATABASE_URL": "postgresql://u:p@db:1/x", "REDIS_URL": "rediss://:p@cache:2/3", "BLOB_URL": "s3://b/p"}
    started = services(env_file, **own)
    for part in ("api", "control", "worker", "migrate"):
        assert own.items() <= started[part].environment.items()


def test_redis_never_evicts(started: dict[str, Service]) -> None:
    command = started["redis"].command
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_runs_a_command_of_ours_in_a_stage_that_exists(started: dict[str, Service], part: str) -> None:
    spec = started[part].spec
    assert (Path(spec["build"]["context"]), spec["build"]["dockerfile"]) == (ROOT, "deploy/Dockerfile")
    assert dockerfile.stages()[spec["build"]["target"]].user
    program, command = started[part].command
    assert program == "longhaul"
    assert command in COMMANDS


def test_images_and_stages_go_together(started: dict[str, Service]) -> None:
    pairs = {(started[part].spec["image"], started[part].spec["build"]["target"]) for part in PARTS}
    assert len(pairs) == len(dict(pairs)) == 3


def test_what_it_names_is_there(started: dict[str, Service]) -> None:
    volumes = set(yaml.safe_load(FILE.read_text())["volumes"])
    for service in started.values():
        assert set(service.spec.get("depends_on", ())) <= set(started)
        assert {mount.partition(":")[0] for mount in service.spec.get("volumes", ())} <= volumes


def test_no_part_starts_before_the_schema_is_there(started: dict[str, Service]) -> None:
    for part in PARTS - {"migrate"}:
        assert started[part].spec["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert started["migrate"].spec["depends_on"] == {store: {"condition": "service_healthy"} for store in STORES}
    assert started["migrate"].spec["restart"] == "no"


def test_whatever_goes_on_is_kept_up_and_says_whether_it_is_well(started: dict[str, Service]) -> None:
    for name in set(started) - {"migrate"}:
        assert started[name].spec["restart"] == "unless-stopped"
        assert started[name].spec["healthcheck"]["test"]


def test_a_stop_waits_longer_than_the_part_takes(started: dict[str, Service]) -> None:
    drained = Settings().drain_seconds + watchdog.STOP_SECONDS
    for worker in ("worker", "worker-cpu"):
        assert started[worker].stop_grace_seconds > drained
    assert started["api"].stop_grace_seconds > server.DRAIN_SECONDS


def test_a_longer_drain_can_be_given_its_time(env_file: Path) -> None:
    assert services(env_file, WORKER_STOP_GRACE="10m")["worker"].stop_grace_seconds == 600


def test_only_the_api_is_reached_from_outside_and_by_default_from_this_machine_only(
    env_file: Path, started: dict[str, Service]
) -> None:
    published = {name: service.spec["ports"] for name, service in started.items() if "ports" in service.spec}
    assert published == {"api": ["127.0.0.1:8000:8000"]}
    opened = services(env_file, LONGHAUL_HOST="0.0.0.0", LONGHAUL_PORT="80")["api"]
    assert opened.spec["ports"] == ["0.0.0.0:80:8000"]
    assert (opened.environment["LONGHAUL_HOST"], opened.environment["LONGHAUL_PORT"]) == ("0.0.0.0", "8000")


def test_no_part_may_become_more_than_it_is(started: dict[str, Service]) -> None:
    assert {name: service.spec["cap_add"] for name, service in started.items() if "cap_add" in service.spec} == {
        "worker-cpu": ["SYS_NICE"]
    }
    for part in PARTS:
        assert started[part].spec["cap_drop"] == ["ALL"]
        assert started[part].spec["security_opt"] == ["no-new-privileges:true"]
