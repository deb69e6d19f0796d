"""The dashboard, the alerts and the page about metrics name what exists, and the page names all of it."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from control import app, deliver, measure, timetable
from jobs import deliveries, finish, metrics
from jobs.records import Tier
from jobs.states import Status
from tests.deploy import promql

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = json.loads((ROOT / "deploy" / "grafana" / "longhaul.json").read_text())
RULES: Final = yaml.safe_load((ROOT / "deploy" / "prometheus" / "longhaul.rules.yml").read_text())
PAGE: Final = (ROOT / "docs" / "watching.md").read_text()

OURS: Final = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
ANYWHERE: Final = {"instance", "job", "le"}
"""Labels that Prometheus gives, and a histogram's own."""


def series(metric: MetricWrapperBase) -> set[str]:
    """The time series that a metric makes."""
    (family,) = metric.describe()
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + end for end in ends[family.type]}


def strings(module: ModuleType) -> set[str]:
    """Every string in its source."""
    found = (node.value for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str)}


VALUES: Final = {
    "tier": {tier.label for tier in Tier},
    "status": {*Status, *(str(status.value) for status in HTTPStatus)},
    "outcome": strings(deliver) | set(deliveries.DeliveryStatus),
    "state": strings(measure),
    "chore": strings(app),
    "end": strings(timetable),
    "kind": strings(finish),
}
"""What the labels with a closed set of values may say, by the code that says it."""


LABELS: Final = {name: {*metric._labelnames, *ANYWHERE} for metric in OURS for name in series(metric)}


def vllms() -> set[str]:
    """The time series of vLLM, by the names in its source: to import it would take seconds."""
    spec = find_spec("vllm")
    assert spec and spec.origin
    source = (Path(spec.origin).parent / "v1" / "metrics" / "loggers.py").read_text()
    names = set(re.findall(r'name="(vllm:\w+)"', source))
    return {name + end for name in names for end in ("", "_total", "_bucket", "_sum", "_count")}


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def alerts() -> Iterator[dict[str, Any]]:
    return (rule for group in RULES["groups"] for rule in group["rules"])


EXPRESSIONS: Final = [
    *((f"{panel['title']}", target["expr"]) for panel in panels() for target in panel["targets"]),
    *((rule["alert"], rule["expr"]) for rule in alerts()),
]


def test_the_reader_of_expressions_finds_their_metrics() -> None:
    expression = 'sum by (le, a) (rate(x_total{b=~"c d"}[$__rate_interval])) / on (e) group_left (f) (g:h > 1 and i)'
    assert promql.metrics(expression) == {"x_total", "g:h", "i"}
    assert list(promql.matchers(expression)) == [("x_total", "b", "c d")]
    assert promql.joined_labels(expression) == {"le", "a", "e", "f"}


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_metric_that_is_named_exists_with_these_labels(where: str, expression: str) -> None:
    named = promql.metrics(expression)
    assert named
    theirs = {name for name in named if name.startswith("vllm:")}
    if theirs:
        assert theirs <= vllms()
    assert named - theirs <= LABELS.keys()
    for name, label, _ in promql.matchers(expression):
        assert name in theirs or label in LABELS[name]
    assert promql.joined_labels(expression) <= ANYWHERE.union(*(LABELS[name] for name in named - theirs))


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_every_value_that_is_looked_for_can_be_there(where: str, expression: str) -> None:
    for _, label, pattern in promql.matchers(expression):
        if pattern != "$model":
            for one in pattern.split("|"):
                assert any(re.fullmatch(one, value) for value in VALUES[label]), f"{label} is never {one}"


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"].keys() == {"summary", "do"}
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))


def test_what_is_missed_does_not_wait_for_a_first_model() -> None:
    expressions = [rule["expr"] for rule in alerts() if re.search(r"\babsent|\bvector", rule["expr"])]
    assert expressions
    assert all("model" not in LABELS[name] for each in expressions for name in promql.metrics(each))


def test_the_dashboards_panels_do_not_overlap_and_have_a_title_and_a_unit() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert all(0 <= column < 24 for column, _ in cells)
        taken |= cells
    assert all(
        panel["title"] and panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels()
    )
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


@pytest.mark.parametrize("metric", OURS, ids=lambda metric: metric._name)
def test_the_page_has_a_row_for_every_metric(metric: MetricWrapperBase) -> None:
    (family,) = metric.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)
    assert f"| `{name}` | {family.type} | {labels} | {family.documentation} |" in PAGE


def test_the_page_names_no_metric_that_does_not_exist() -> None:
    named = set(re.findall(r"\blonghaul_[a-z_]+", PAGE))
    known = LABELS.keys() | {next(iter(metric.describe())).name for metric in OURS}
    assert named <= known


def test_the_page_names_every_alert() -> None:
    for rule in alerts():
        assert f"`{rule['alert']}`" in PAGE
