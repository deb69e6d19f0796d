"""Looks at the blob store."""

from pathlib import Path

import pytest

from longhaul.doctor import blobs as doctor
from longhaul.doctor.finding import Level
from tests.longhaul.doctor.conftest import faults, said


async def test_a_folder_that_takes_and_gives_is_well_and_left_as_it_was(tmp_path: Path) -> None:
    found = await doctor.examine(str(tmp_path))
    assert found[0].level is Level.OK
    assert list((tmp_path / "doctor").iterdir()) == []


async def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = await doctor.examine(str(tmp_path / "blobs"))
    assert faults(found) == [("blobs", Level.WARNING)]
    assert not (tmp_path / "blobs").exists()


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "nonsense://x"])
async def test_a_store_that_refuses_is_trouble(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    found = await doctor.examine(url, patience_seconds=0.1)
    assert faults(found) == [("blobs", Level.TROUBLE)]
    assert url in said(found, "blobs")


async def test_a_password_in_the_url_is_not_shown() -> None:
    found = await doctor.examine("nonsense://user:secret@host/x")
    assert "secret" not in said(found, "blobs")
