"""A whole deployment for the tests of the commands: `longhaul up` with the scripted engine."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from longhaul.__main__ import application
from longhaul.deployment import read_exports


@dataclass(frozen=True)
class Service:
    """A running `longhaul up`, by its folder."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """As after `source client.env`."""
        return read_exports(self.home / "client.env")

    def run(self, *arguments: str, stdin: str | None = None, **variables: str) -> Result:
        """`longhaul ARGUMENTS` in this process, with the folder as its only hint."""
        environment = {"LONGHAUL_HOME": str(self.home), "COLUMNS": "200", **variables}
        return CliRunner().invoke(application(arguments[0]), list(arguments), input=stdin, env=environment)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("up")
    engine = {"LONGHAUL_ENGINE": "tests.engines.scripted:factory", "LONGHAUL_TEST_SLOTS": "16"}
    with (home / "stderr").open("w+") as talk:
        up = subprocess.Popen(
            [sys.executable, "-P", "-m", "longhaul", "up"],
            env={**os.environ, **engine, "LONGHAUL_HOME": str(home), "LONGHAUL_PORT": "0"},
            stdout=subprocess.PIPE,
            stderr=talk,
            text=True,
            start_new_session=True,
        )
        with up:
            assert up.stdout is not None
            try:
                assert up.stdout.readline().startswith("ready "), (home / "stderr").read_text()
                yield Service(home)
            finally:
                up.send_signal(signal.SIGTERM)
    assert up.returncode == 0, (home / "stderr").read_text()


@pytest.fixture
def longhaul(service: Service) -> Callable[..., Result]:
    """The command, against the running service."""
    return service.run
