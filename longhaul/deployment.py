"""Which deployment the commands mean: that of the environment, else that of the folder of `longhaul up`."""

import os
import shlex
from pathlib import Path

from jobs.settings import Settings
from jobs.webhook_url import LOOPBACK


class NotFoundHere(Exception):
    """Neither the environment nor the data folder says where the service is; the message says what to do."""


def read_exports(path: Path) -> dict[str, str]:
    """The variables of a file of `export NAME=value` lines, as a shell that sources it would see them."""
    found: dict[str, str] = {}
    for line in path.read_text().splitlines():
        words = shlex.split(line, comments=True)
        for word in words[1:] if words[:1] == ["export"] else words:
            name, equals, value = word.partition("=")
            if equals:
                found[name] = value
    return found


def api_address(settings: Settings) -> tuple[str, str]:
    """Base URL (it ends in `/v1`) and key of the API, by the SDK's own variables, else by `client.env`.

    Raises:
        NotFoundHere: there is neither.
    """
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    path = settings.home / "client.env"
    if not base_url and path.is_file():
        exports = read_exports(path)
        base_url, key = exports["OPENAI_BASE_URL"], exports["OPENAI_API_KEY"]
    if not base_url:
        raise NotFoundHere(
            "No service found: set OPENAI_BASE_URL and OPENAI_API_KEY, or start one with `longhaul up`"
            f" ({path} is missing)."
        )
    return base_url.rstrip("/"), key or "EMPTY"


def secret_key(settings: Settings) -> str:
    """What encrypts webhooks' secrets: LONGHAUL_SECRET_KEY, else the key in the folder of `longhaul up`, else ""."""
    path = key_file(settings.home)
    return settings.secret_key or (path.read_text().strip() if path.is_file() else "")


def key_file(home: Path) -> Path:
    """Where `longhaul up` keeps its secret key."""
    return home / "secret.key"


def database_url(settings: Settings) -> str:
    """The database of the deployment: DATABASE_URL, else the one that runs in the folder of `longhaul up`.

    Raises:
        NotFoundHere: there is neither.
    """
    return _store(settings, "database", "DATABASE_URL", settings.database_url)


def redis_url(settings: Settings) -> str:
    """The Redis of the deployment: REDIS_URL, else the one that runs in the folder of `longhaul up`.

    Raises:
        NotFoundHere: there is neither.
    """
    return _store(settings, "Redis", "REDIS_URL", settings.redis_url)


def webhook_allow(settings: Settings) -> str:
    """Trusted receivers: WEBHOOK_ALLOW, else those on this machine, if `longhaul up` serves this machine alone.

    A tenant who is elsewhere has no receivers here, and must not reach what listens here for nobody else.
    """
    own = settings.is_local and (settings.home / "server.env").is_file()
    return settings.webhook_allow or (LOOPBACK if own else "")


def _store(settings: Settings, name: str, variable: str, given: str | None) -> str:
    path = settings.home / "server.env"
    if given:
        return given
    if path.is_file():
        return read_exports(path)[variable]
    raise NotFoundHere(f"No {name} found: set {variable}, or start one with `longhaul up` ({path} is missing).")
