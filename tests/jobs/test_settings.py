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
