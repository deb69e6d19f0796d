"""Every snippet of README and docs: those marked `run` against a running service, the others by what they name.

The marked ones run in the order of the page, in one folder, as a reader would type them after `make up`.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import Settings
from longhaul.__main__ import COMMANDS
from tests.longhaul.conftest import Service

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SNIPPET = re.compile(r"^```(\S*)( run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
SNIPPETS = [(page.name, *found) for page in PAGES for found in SNIPPET.findall(page.read_text())]
TO_RUN = [(name, language, code) for name, language, run, code in SNIPPETS if run]
TO_READ = [code for _, language, run, code in SNIPPETS if language == "sh" and not run]


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMPOSE_WORDS = {"up", "exec", "run", "cpu", "longhaul", "create", *COMPOSE["services"], *COMMANDS}
KUBERNETES_WORDS = {
    "create",
    "namespace",
    "secret",
    "generic",
    "apply",
    "delete",
    "job",
    "exec",
    "longhaul",
    *COMMANDS,
} | {
    f"{prefix}{name}"
    for path in (ROOT / "deploy" / "kubernetes").glob("*.yaml")
    for manifest in yaml.safe_load_all(path.read_text())
    if (name := manifest.get("metadata", {}).get("name"))
    for prefix in ("", "deploy/")
}


@pytest.fixture(scope="module")
def folder(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as the reader sees it: its environment, and the folder that `make up` filled."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / ".longhaul").symlink_to(service.home)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.mark.parametrize(
    ("page", "language", "code"), TO_RUN, ids=[f"{page}-{i}" for i, (page, *_) in enumerate(TO_RUN)]
)
def test_a_marked_snippet_runs(service: Service, folder: Path, page: str, language: str, code: str) -> None:
    command = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LONGHAUL_")}
    done = subprocess.run(
        [*command, code],
        cwd=folder,
        env=environment | service.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "word" in done.stdout
    assert '"error": {' not in done.stdout


def test_something_is_marked_in_each_language() -> None:
    assert {language for _, language, _ in TO_RUN} == {"sh", "python"}


@pytest.mark.parametrize("code", TO_READ)
def test_what_another_snippet_names_exists(code: str) -> None:
    variables = {field.alias for field in Settings.model_fields.values()}
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        named = [word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)]
        assert set(named) <= variables
        rest = [word for word in words if word.partition("=")[0] not in ("export", *named)]
        match rest:
            case ["make", *targets]:
                subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
            case ["longhaul", command, *_]:
                assert command in COMMANDS
            case ["docker", "compose", *words]:
                assert _without_options(words) <= COMPOSE_WORDS
            case ["systemctl", "enable", *words]:
                units = {re.sub(r"@\w+", "@", word) for word in _without_options(words)}
                assert units <= {path.name for path in (ROOT / "deploy" / "systemd").iterdir()}
            case ["kubectl", *words]:
                folders = [word.partition("=")[2] for word in words if word.startswith("--kustomize=")]
                assert all((ROOT / folder / "kustomization.yaml").is_file() for folder in folders)
                assert _without_options(words) <= KUBERNETES_WORDS
            case ["cp", source, _]:
                assert list(ROOT.glob(source))
            case [script] if "/" in script:
                assert os.access(ROOT / script, os.X_OK)
            case _:
                assert not rest, f"{line!r} is neither a variable, a make target nor a command"


def _without_options(words: list[str]) -> set[str]:
    return {word for word in words if not word.startswith("-")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_commands_in_the_text_exist(page: Path) -> None:
    text = page.read_text()
    variables = {field.alias for field in Settings.model_fields.values()}
    assert set(re.findall(r"LONGHAUL_[A-Z_]+", text)) <= variables
    assert set(re.findall(r"`longhaul (\w+)", text)) <= set(COMMANDS)


def test_each_guarantee_names_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "docs" / "guarantees.md").read_text())
    assert named
    for path, test in named:
        assert f"def {test}" in (ROOT / path).read_text(), f"{path}::{test}"
