"""deploy/systemd: units that systemd accepts, which start our commands and let them end."""

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from api import server
from jobs.settings import Settings
from longhaul.__main__ import COMMANDS
from worker import watchdog

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
INSTALLED = "/opt/longhaul/bin/longhaul"
PARTS = ("longhaul-api.service", "longhaul-control.service", "longhaul-worker@.service")
Unit = dict[str, list[str]]
"""A unit's settings, each with all of its values."""


def unit(name: str) -> Unit:
    found: Unit = defaultdict(list)
    for line in (FOLDER / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[key].append(value)
    return found


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze on this machine")
def test_systemd_accepts_every_unit(tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(INSTALLED, str(Path(sys.prefix) / "bin/longhaul")))
    done = subprocess.run(
        ["systemd-analyze", "verify", *sorted(map(str, tmp_path.iterdir()))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", PARTS)
def test_a_unit_runs_a_command_of_ours_not_as_root(name: str) -> None:
    (line,) = unit(name)["ExecStart"]
    program, command = line.split()
    assert program == INSTALLED
    assert command in COMMANDS
    assert command in name
    assert unit(name)["User"] == ["longhaul"]


@pytest.mark.parametrize("name", PARTS)
def test_a_stop_reaches_the_part_first_and_then_whatever_is_left(name: str) -> None:
    assert unit(name)["KillMode"] == ["mixed"]


def test_a_stop_waits_longer_than_the_part_takes() -> None:
    settings = Settings()
    assert int(unit("longhaul-worker@.service")["TimeoutStopSec"][0]) > settings.drain_seconds + watchdog.STOP_SECONDS
    assert int(unit("longhaul-api.service")["TimeoutStopSec"][0]) > server.DRAIN_SECONDS


@pytest.mark.parametrize("name", PARTS)
def test_a_part_comes_back_with_the_machine(name: str) -> None:
    found = unit(name)
    assert found["WantedBy"] == found["PartOf"] == ["longhaul.target"]
    assert unit("longhaul.target")["WantedBy"] == ["multi-user.target"]


@pytest.mark.parametrize("name", PARTS)
def test_a_part_tries_the_schema_until_the_database_is_there(name: str) -> None:
    found = unit(name)
    assert found["ExecStartPre"] == [f"{INSTALLED} migrate"]
    assert found["TimeoutStartSec"] == ["infinity"]
    assert found["Restart"] == ["always"]  # of what it starts itself: not of what it requires
    assert found["StartLimitIntervalSec"] == ["0"]
    assert not found["Requires"]


def test_a_worker_with_wrong_arguments_is_not_started_for_ever() -> None:
    assert unit("longhaul-worker@.service")["RestartPreventExitStatus"] == ["2"]


@pytest.mark.parametrize("name", PARTS)
def test_settings_come_from_files_that_only_an_operator_reads(name: str) -> None:
    found = unit(name)
    variables = {value.partition("=")[0] for value in found["Environment"]}
    assert variables <= {field.alias for field in Settings.model_fields.values()} | {"HOME"}
    assert found["EnvironmentFile"][0] == "/etc/longhaul/longhaul.env"
