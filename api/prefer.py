"""The Prefer header of RFC 7240, as far as we honour it: `respond-async` and `wait`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_QUOTED: Final = r'"(?:[^"\\]|\\.)*"?'
_PREFERENCES: Final = re.compile(rf'(?:[^,"]|{_QUOTED})+')
_PARAMETERS: Final = re.compile(rf'(?:[^;"]|{_QUOTED})+')


@dataclass(frozen=True, slots=True)
class Preference:
    """What the client prefers. `wait` is in seconds and counts only beside `respond_async`."""

    respond_async: bool = False
    wait: int | None = None

    @property
    def applied(self) -> str:
        """The value of the Preference-Applied header."""
        return "respond-async" if self.wait is None else f"respond-async, wait={self.wait}"


NONE: Final = Preference()


def parse(headers: Sequence[str], longest_wait: int) -> Preference:
    """The preferences of all Prefer headers of a request; the first of a name counts, what cannot be read is ignored.

    `wait` is cut to `longest_wait` seconds.
    """
    if not headers:
        return NONE
    found: dict[str, str] = {}
    for header in headers:
        for preference in _PREFERENCES.findall(header):
            # What follows a semicolon are the preference's own parameters; ours have none.
            name, _, value = next(iter(_PARAMETERS.findall(preference)), "").partition("=")
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
    if "respond-async" not in found:
        return NONE
    wait = found.get("wait", "")
    return Preference(True, min(int(wait), longest_wait) if re.fullmatch("[0-9]{1,9}", wait) else None)
