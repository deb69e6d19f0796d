"""`deploy/Dockerfile`, read as far as the tests ask: its stages, and what each of them copies, sets and starts."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATH = ROOT / "deploy" / "Dockerfile"


@dataclass
class Stage:
    """One FROM with what follows it. `environment` and `entrypoint` are inherited from a stage that it builds on."""

    name: str
    base: str
    copies: list[tuple[list[str], str]] = field(default_factory=list)
    """Sources in the context, and where they go to."""
    others: set[str] = field(default_factory=set)
    """Stages of which something is used."""
    runs: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    entrypoint: list[str] = field(default_factory=list)
    user: str = ""


def stages() -> dict[str, Stage]:
    """Every stage by its name, in order."""
    found: dict[str, Stage] = {}
    stage = Stage("", "")
    for keyword, rest in _instructions(PATH.read_text()):
        match keyword:
            case "FROM":
                base, _, name = rest.partition(" AS ")
                stage = found[name] = _on(found.get(base), name, base)
            case "COPY":
                *sources, target = rest.split()
                stage.copies.append((sources, target))
            case "RUN":
                stage.others |= set(re.findall(r"--mount=\S*from=([\w-]+)", rest))
                stage.runs.append(rest)
            case "ENV":
                stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
            case "ARG":
                name, _, value = rest.partition("=")
                stage.arguments[name] = value
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case "USER":
                stage.user = rest
    return found


def _on(parent: Stage | None, name: str, base: str) -> Stage:
    if parent is None:
        return Stage(name, base)
    return Stage(name, base, environment=dict(parent.environment), entrypoint=parent.entrypoint, user=parent.user)


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines()) if keyword]
