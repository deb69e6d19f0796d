"""`docker-compose.yml` as Compose sees it: every variable in its place, by podman's implementation of Compose."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from jobs.records import Json
from tests.deploy import dockerfile

ROOT = Path(__file__).parents[2]
FILE: Final = ROOT / "docker-compose.yml"
_WHEEL: Final = Path(sys.prefix) / "wheels" / "docker_compose-1.29.2-py2.py3-none-any.whl"
"""The Compose specification's schema comes with it; it cannot be installed beside what we need."""


class NotResolved(Exception):
    """The file does not say what Compose has to know; the message is podman-compose's."""


@dataclass(frozen=True)
class Service:
    """One service; `environment` is what its container gets, the image's own included."""

    name: str
    spec: Json
    environment: dict[str, str]

    @property
    def command(self) -> list[str]:
        """What runs in the container, but for the process 1 that passes on its signals."""
        ours: list[str] = self.spec["command"]
        if "build" not in self.spec:
            return ours
        entrypoint = dockerfile.stages()[self.spec["build"]["target"]].entrypoint
        return [*entrypoint[entrypoint.index("--") + 1 :], *ours]

    @property
    def stop_grace_seconds(self) -> int:
        return seconds(self.spec["stop_grace_period"])


def schema() -> Json:
    """The Compose specification's JSON schema."""
    with zipfile.ZipFile(_WHEEL) as wheel:
        found: Json = json.loads(wheel.read("compose/config/compose_spec.json"))
    return found


def services(env_file: Path, *profiles: str, **variables: str) -> dict[str, Service]:
    """What `docker compose up` starts with this `.env`, under other `profiles` than its own if any are given.

    `variables` are those of the shell.

    Raises:
        NotResolved: something is wrong with the file, or missing from the environment.
    """
    given = _read(env_file) | variables
    # The option's profiles replace the variable's at Docker; at podman they are added.
    if profiles:
        variables["COMPOSE_PROFILES"] = ",".join(profiles)
    document = _resolved(env_file, variables)
    return {name: Service(name, spec, _environment(spec, given)) for name, spec in document["services"].items()}


def seconds(duration: str) -> int:
    """`90s`, `2m` or `1h` as seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def _resolved(env_file: Path, variables: Mapping[str, str]) -> Json:
    command = [sys.executable, "-m", "podman_compose", "--dry-run", "--env-file", str(env_file), "-f", str(FILE)]
    done = subprocess.run(
        [*command, "config"],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode:
        raise NotResolved(done.stderr)
    found: Json = yaml.safe_load(done.stdout)
    return found


def _read(env_file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in env_file.read_text().splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


def _environment(spec: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    image = dockerfile.stages()[spec["build"]["target"]].environment if "build" in spec else {}
    # A name without a value is passed on, if there is one.
    passed = {name: given.get(name) if value is None else str(value) for name, value in spec["environment"].items()}
    return image | {name: value for name, value in passed.items() if value is not None}
