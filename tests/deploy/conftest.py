"""What an operator starts from: the `.env` that `deploy/make-env` writes."""

import subprocess
from pathlib import Path

import pytest

from tests.deploy.compose import ROOT, Service, services


def make_env(folder: Path) -> Path:
    """Made as an operator makes it."""
    subprocess.run([ROOT / "deploy" / "make-env"], cwd=folder, check=True)
    return folder / ".env"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return make_env(tmp_path)


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """Every service of docker-compose.yml, of all profiles."""
    return services(make_env(tmp_path_factory.mktemp("compose")), "gpu", "cpu")
