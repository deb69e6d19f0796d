"""What a PromQL expression names: enough of a reader for the ones of our dashboard and our alerts."""

import re
from collections.abc import Iterator
from typing import Final

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_LABEL_LIST: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(r"([A-Za-z_:][\w:]*)\s*\{([^}]*)\}")
_NAME: Final = re.compile(r"(?<![\w:$.])([A-Za-z_:][\w:]*)\b(?!\s*\()")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


def metrics(expression: str) -> set[str]:
    """The names of its time series, as Prometheus stores them: `..._total`, `..._bucket`."""
    bare = _LABEL_LIST.sub("", _RANGE.sub("", _STRING.sub('""', expression)))
    bare = re.sub(r"\{[^}]*\}", "", bare)
    return {name for name in _NAME.findall(bare) if name.lower() not in _WORDS}


def matched_labels(expression: str) -> Iterator[tuple[str, str]]:
    """Each metric with each label by which it is selected."""
    for name, matchers in _SELECTOR.findall(_STRING.sub('""', expression)):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            yield name, label
