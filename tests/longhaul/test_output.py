"""What commands print."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import typer

from jobs.errors import NotFound
from longhaul.client import Refused, Unreachable
from longhaul.output import emit_records, failures_said


@dataclass(frozen=True)
class Key:
    name: str
    weight: float
    aliases: tuple[str, ...]
    made_at: datetime
    ended_at: datetime | None


KEY = Key("x" * 200, 2.0, ("a", "b"), datetime(2030, 1, 2, tzinfo=UTC), None)


def test_a_table_is_as_wide_as_its_content(capsys: pytest.CaptureFixture[str]) -> None:
    emit_records([KEY], ("name", "weight", "aliases", "ended_at"), as_json=False)
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "weight", "aliases", "ended_at"]
    assert row == f"{'x' * 200}  2       a, b     -"


def test_as_json_times_are_unix_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    emit_records([KEY, KEY], ("name",), as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert (first["made_at"], first["ended_at"]) == (1893542400, None)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Refused(400, "Bad value.", param="model"), 1, "error: Bad value. (param: model)\n"),
        (NotFound("No such key."), 1, "error: No such key.\n"),
        (Unreachable("No answer."), 3, "error: No answer.\n"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, failures_said():
        raise error
    assert ended.value.exit_code == code
    assert capsys.readouterr().err == line
