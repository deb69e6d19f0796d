"""Where the commands find the service."""

from pathlib import Path

import pytest

from jobs.secrets import new_key
from jobs.settings import Settings
from jobs.webhook_url import LOOPBACK
from longhaul.deployment import (
    NotFoundHere,
    api_address,
    database_url,
    key_file,
    read_exports,
    redis_url,
    secret_key,
    webhook_allow,
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "DATABASE_URL", "REDIS_URL", "LONGHAUL_HOME", "WEBHOOK_ALLOW"):
        monkeypatch.delenv(name, raising=False)


def here(folder: Path) -> Settings:
    return Settings(home=folder)


def test_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "client.env").write_text("export OPENAI_BASE_URL=http://folder/v1\nexport OPENAI_API_KEY=folder\n")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://environment/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "environment")
    assert api_address(here(tmp_path)) == ("http://environment/v1", "environment")


def test_without_it_the_folder_of_up_is_used(tmp_path: Path) -> None:
    (tmp_path / "client.env").write_text("export OPENAI_BASE_URL='http://folder/v1'\nexport OPENAI_API_KEY='sk-lh-x'\n")
    assert api_address(here(tmp_path)) == ("http://folder/v1", "sk-lh-x")


def test_the_secret_key_is_the_environments_else_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret_key(here(tmp_path)) == ""
    folder, environment = new_key(), new_key()
    key_file(tmp_path).write_text(f"{folder}\n")
    assert secret_key(here(tmp_path)) == folder
    monkeypatch.setenv("LONGHAUL_SECRET_KEY", environment)
    assert secret_key(here(tmp_path)) == environment


def test_the_stores_are_the_environments_else_those_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server.env").write_text("export DATABASE_URL=postgresql://folder\nexport REDIS_URL=redis://folder\n")
    assert (database_url(here(tmp_path)), redis_url(here(tmp_path))) == ("postgresql://folder", "redis://folder")
    monkeypatch.setenv("REDIS_URL", "redis://environment")
    assert redis_url(here(tmp_path)) == "redis://environment"


def test_receivers_on_this_machine_are_trusted_where_it_is_all_on_one_machine(tmp_path: Path) -> None:
    assert webhook_allow(here(tmp_path)) == ""
    (tmp_path / "server.env").touch()
    assert webhook_allow(here(tmp_path)) == LOOPBACK
    assert webhook_allow(here(tmp_path).model_copy(update={"host": "0.0.0.0"})) == ""
    assert webhook_allow(here(tmp_path).model_copy(update={"webhook_allow": "a.example"})) == "a.example"


def test_with_neither_the_message_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFoundHere, match=r"OPENAI_BASE_URL.*longhaul up"):
        api_address(here(tmp_path))
    with pytest.raises(NotFoundHere, match=r"DATABASE_URL.*longhaul up"):
        database_url(here(tmp_path))
    with pytest.raises(NotFoundHere, match=r"REDIS_URL.*longhaul up"):
        redis_url(here(tmp_path))


def test_exports_are_read_as_a_shell_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "some.env"
    path.write_text("# comment\nexport A='with space' # why\nB=plain\nexport C=\"a=b\"\n\n")
    assert read_exports(path) == {"A": "with space", "B": "plain", "C": "a=b"}
