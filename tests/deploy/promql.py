"""What a PromQL expression names: enough of a reader for the ones of our dashboard and our alerts."""

import re
from collections.abc import Iterator
from typing import Final

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_RANGE: Final = re.compile(r"\[[^\]]*\]")
_LABEL_LIST: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(rf"([A-Za-z_:][\w:]*)\s*\{{((?:[^\"}}]|{_STRING.pattern})*)\}}")
_MATCHER: Final = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_NAME: Final = re.compile(r"(?<![\w:$.])([A-Za-z_:][\w:]*)\b(?!\s*\()")
_WORDS: Final = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


def metrics(expression: str) -> set[str]:
    """The names of its time series, as Prometheus stores them: `..._total`, `..._bucket`."""
    bare = _LABEL_LIST.sub("", _RANGE.sub("", _STRING.sub('""', expression)))
    bare = re.sub(r"\{[^}]*\}", "", bare)
    return {name for name in _NAME.findall(bare) if name.lower() not in _WORDS}


def matchers(expression: str) -> Iterator[tuple[str, str, str]]:
    """Each metric with each label by which it is selected, and the regular expression that its values match."""
    for name, selector in _SELECTOR.findall(expression):
        for label, operator, value in _MATCHER.findall(selector):
            yield name, label, value if operator.endswith("~") else re.escape(value)


def joined_labels(expression: str) -> set[str]:
    """The labels by which series are put together or beside one another: by (...), on (...)."""
    return set(re.findall(r"\w+", " ".join(_LABEL_LIST.findall(expression))))
