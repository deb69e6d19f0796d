"""The command: every subcommand is there, and none is imported for the help of another."""

import subprocess
import sys
import time
from importlib import import_module

import pytest
import typer

from longhaul.__main__ import COMMANDS, application


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_can_be_imported_and_explains_itself(name: str) -> None:
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, typer.Typer) or command.__doc__
    application(name)


def test_help_comes_at_once_and_without_the_parts() -> None:
    code = (
        "import sys; sys.argv = ['longhaul', '--help']\n"
        "import longhaul.__main__ as command\n"
        "try: command.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'vllm', 'transformers', 'fastapi', 'celery', 'sqlalchemy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        seconds.append(time.monotonic() - began)
        assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)
    assert min(seconds) < 0.5


def test_a_wrong_subcommand_says_what_would_be_right() -> None:
    done = subprocess.run([sys.executable, "-m", "longhaul", "worke"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Did you mean 'worker'" in done.stderr
