"""The wheel: complete, and never confused with folders that a user happens to stand in."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECOYS = ("api", "jobs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def binaries(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a fresh environment with the wheel in it; what it depends on is read from this environment."""
    environment = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel))
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder whose `api` and `jobs` are somebody else's."""
    for name in DECOYS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('a stranger was imported')")
    return tmp_path


def run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done


def test_the_wheel_carries_statements_migrations_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("longhaul", "api", "worker", "control", "jobs"):
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    for folder, pattern in (("jobs/sql", "*.sql"), ("migrations", "**/*.py")):
        for path in (ROOT / folder).glob(pattern):
            packed = path.relative_to(ROOT) if folder != "migrations" else Path("jobs") / path.relative_to(ROOT)
            assert str(packed) in names
    assert not any(name.startswith(("tests/", "bench/")) for name in names)


def test_the_command_runs_where_folders_have_our_names(binaries: Path, decoys: Path) -> None:
    assert run(str(binaries / "longhaul"), "--version", cwd=decoys).stdout == "0.1.0\n"
    assert "LONGHAUL_HOME" in run(str(binaries / "longhaul"), "settings", cwd=decoys).stdout


def test_python_m_names_the_folder_that_is_in_the_way(binaries: Path, decoys: Path) -> None:
    command = [str(binaries / "python"), "-m", "longhaul", "--version"]
    done = subprocess.run(command, cwd=decoys, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert str(decoys / "api") in done.stderr
