"""Settings come from their own variables, and all faults are said together."""

from pathlib import Path

import pytest

from jobs import settings


def test_the_shells_own_variables_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "HOST", "MODEL", "ENGINE", "AUTH"):
        monkeypatch.setenv(name, "/elsewhere")
    monkeypatch.setenv("PORT", "1")
    found = settings.load()
    assert (found.home, found.host, found.port, found.engine) == (Path(".longhaul"), "127.0.0.1", 8000, "vllm")


def test_all_faults_are_said_together_with_their_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_PORT", "many")
    monkeypatch.setenv("LONGHAUL_SHARES", '{"priority": 1}')
    with pytest.raises(SystemExit, match=r"(?s)LONGHAUL_PORT.*LONGHAUL_SHARES"):
        settings.load()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_database_is_named_as_people_name_theirs(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user:secret@db:5432/longhaul")
    assert settings.load().database_url == "postgresql+psycopg://user:secret@db:5432/longhaul"


def test_every_setting_has_a_variable_of_its_own_and_says_what_it_is_for() -> None:
    fields = settings.Settings.model_fields.values()
    variables = [str(field.alias) for field in fields]
    assert len(set(variables)) == len(variables)
    for field, variable in zip(fields, variables, strict=True):
        assert variable in ("DATABASE_URL", "REDIS_URL", "BLOB_URL") or variable.startswith(
            ("LONGHAUL_", "WEBHOOK_", "OTEL_")
        )
        assert field.description and field.description.endswith(".")


def test_shares_are_given_for_every_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_SHARES", '{"priority": 1, "default": 2, "flex": 0, "batch": 3}')
    assert settings.load().shares == {"priority": 1, "default": 2, "flex": 0, "batch": 3}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LONGHAUL_SHARES", '{"priority": 0, "default": 0, "flex": 0, "batch": 0}'),
        ("LONGHAUL_SHARES", '{"priority": -1, "default": 2, "flex": 1, "batch": 1}'),
        ("LONGHAUL_SHARES", '{"priority": 1, "default": 2, "flex": 1, "batch": 1, "suspect": 1}'),
        ("LONGHAUL_SHARES", "0.5"),
        ("LONGHAUL_SHARES", "half each"),
        ("LONGHAUL_LOG_LEVEL", "loud"),
        ("LONGHAUL_AUTH", "maybe"),
        ("LONGHAUL_PORT", "65536"),
        ("LONGHAUL_LEASE", "0"),
        ("LONGHAUL_DRAIN", "-1"),
        ("LONGHAUL_POOL_SIZE", "1"),
        ("WEBHOOK_ALLOW", "10.0.0.0/8, http://hooks.internal"),
        ("WEBHOOK_ALLOW", "10.0.0.1/8"),
        ("WEBHOOK_PORTS", "443, https"),
        ("WEBHOOK_PORTS", "65536"),
        ("WEBHOOK_PROXY_URL", "proxy.internal:4750"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit, match=variable):
        settings.load()


def test_a_level_may_be_written_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONGHAUL_LOG_LEVEL", "debug")
    assert settings.load().log_level == "DEBUG"


def test_receivers_are_listed_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_ALLOW", "Hooks.Internal, .corp.example,10.0.0.0/8")
    monkeypatch.setenv("WEBHOOK_PORTS", "443, 9443")
    reach = settings.load().webhook_reach
    assert reach.hosts == {"hooks.internal", ".corp.example"}
    assert list(map(str, reach.networks)) == ["10.0.0.0/8"]
    assert reach.ports == {443, 9443}
