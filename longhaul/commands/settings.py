"""`longhaul settings`: the page of configuration, printed from the settings themselves."""

import json
from collections.abc import Iterator
from typing import Any, Final

from jobs.settings import Settings

_PREFACE = """\
# Configuration

Every part reads its settings from the environment. This page is what `longhaul settings` prints: it is made from
`jobs/settings.py`, and a test compares the two. Values that are not valid end the start, all named in one message.

| variable | default | meaning |
| --- | --- | --- |
"""

_UNITS: Final = ("seconds", "bytes", "days")
"""What a setting's name ends with where its value has a unit."""


def settings() -> None:
    """Print every setting with its default and meaning, as Markdown."""
    print(page(), end="")


def page() -> str:
    """The whole page."""
    return _PREFACE + "".join(f"{row}\n" for row in _rows())


def _rows() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        description = (field.description or "").replace("|", "\\|")
        yield f"| `{field.alias or name.upper()}` | {_spelled(name, field.get_default())} | {description} |"


def _spelled(name: str, default: Any) -> str:
    if default is None or default == "":
        return "unset"
    value = f"`{json.dumps(default) if isinstance(default, dict) else default}`"
    unit = name.rpartition("_")[2]
    return f"{value} {unit}" if unit in _UNITS else value
