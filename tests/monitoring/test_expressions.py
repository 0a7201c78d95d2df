"""Every expression of dashboards and alerts names what the product really exposes, so that neither can rot."""

import ast
import importlib.util
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from core import metrics
from tests.monitoring.expressions import Selector, filled, selectors
from tests.monitoring.tools import MONITORING, rules, tool
from tests.plumbline.replicas import Deployment, chat

DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
BY_PROMETHEUS = {"up": {"job", "instance"}}
TARGET_LABELS = {"job", "instance", "le"}


def panels(file: Path) -> Iterator[dict[str, Any]]:
    """Those that show something."""
    yield from (panel for panel in json.loads(file.read_text())["panels"] if panel["type"] != "row")


def expressions() -> dict[str, str]:
    """Where it stands → the expression."""
    found = {
        f"{file.stem}: {panel['title']}: {target['refId']}": target["expr"]
        for file in DASHBOARDS
        for panel in panels(file)
        for target in panel["targets"]
    }
    return found | {f"alerts: {rule.get('alert') or rule['record']}": rule["expr"] for rule in rules()}


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name of each series of a real scrape after a chat → its type."""
    with Deployment(tmp_path_factory.mktemp("scraped")) as deployment:
        replica = deployment.replica()
        assert chat(replica.url, "").status_code == 200
        text = httpx.get(f"{replica.admin_url}/metrics", timeout=30).raise_for_status().text
    found = {}
    for family in text_string_to_metric_families(text):
        found |= dict.fromkeys(_series(family.name, family.type), family.type)
    return found


def _series(name: str, kind: str) -> list[str]:
    """As Prometheus knows a family's samples."""
    if kind == "counter":
        return [f"{name}_total"]
    return [f"{name}{end}" for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]


def labels_of(series: str) -> set[str] | None:
    """Label names of a series of ours; None if it is none."""
    for metric in vars(metrics).values():
        family = getattr(metric, "_name", None)
        if family and series in _series(family, metric._type):
            return set(metric._labelnames)
    return None


def vllm_names() -> set[str]:
    """Every name in the source of vLLM's metrics, with Prometheus's endings. Its package is read, not imported."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("vLLM is not installed here")
    tree = ast.parse((Path(spec.submodule_search_locations[0]) / "v1" / "metrics" / "loggers.py").read_text())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    bare = {word for word in words if word.startswith("vllm:")}
    return {name + end for name in bare for end in ("", "_total", "_bucket", "_sum", "_count")}


def test_what_an_expression_names() -> None:
    """The reader of expressions, on all that the language puts around names."""
    text = 'a:b{c="x{y}",d=~"rate(z)"}[5m] offset 1h and on (e) sum by (f) (rate(g_total[$__rate_interval])) > bool 1e3'
    assert selectors(text) == [Selector(metric="a:b", labels=("c", "d")), Selector(metric="g_total", labels=())]
    assert selectors("time() - max(h) or i / ignoring (k) group_left () l unless vector(0)") == [
        Selector(metric=name, labels=()) for name in "hil"
    ]


def test_every_expression_is_valid(tmp_path: Path) -> None:
    """For Prometheus, each as a rule."""
    file = tmp_path / "rules.yaml"
    group = [
        {"record": f"expression_{number}", "expr": filled(text)} for number, text in enumerate(expressions().values())
    ]
    file.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": group}]}))
    done = subprocess.run([tool("promtool"), "check", "rules", "--lint=none", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_is_exposed(exposed: dict[str, str]) -> None:
    """By a replica after a chat, by a recording rule of ours, by Prometheus itself or by the installed vLLM."""
    known = exposed.keys() | {rule["record"] for rule in rules() if "record" in rule} | BY_PROMETHEUS.keys()
    asked = {(where, found.metric) for where, text in expressions().items() for found in selectors(text)}
    ours = {(where, name) for where, name in asked if not name.startswith("vllm:")}
    assert len(ours) > 60 and {(where, name) for where, name in ours if name not in known} == set()
    assert {(where, name) for where, name in asked - ours if name not in vllm_names()} == set()


def test_every_label_exists() -> None:
    """A matcher on a label that a metric lacks selects nothing, silently."""
    for where, text in expressions().items():
        for found in selectors(text):
            labels = labels_of(found.metric)
            if labels is not None:
                assert set(found.labels) <= labels | TARGET_LABELS, (where, found)


def test_counters_are_rates(exposed: dict[str, str]) -> None:
    """A counter's own value says since when the process runs, which nobody asks."""
    for where, text in expressions().items():
        for found in selectors(text):
            if exposed.get(found.metric) in ("counter", "histogram"):
                assert any(f"{by}({found.metric}" in text for by in ("rate", "increase")), (where, found.metric)


def test_what_is_exposed_is_well_named(exposed: dict[str, str]) -> None:
    """promtool's own opinion of the names and texts of all that is ours."""
    text = "".join(
        f"# HELP {name} {metric._documentation}\n# TYPE {name} {metric._type}\n"
        for metric in vars(metrics).values()
        if (family := getattr(metric, "_name", None))
        for name in [f"{family}_total" if metric._type == "counter" else family]
    )
    done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda it: it.stem)
def test_a_dashboard_can_be_provisioned(file: Path) -> None:
    """Stable uid, no id, the datasource is chosen by who looks; every panel says what it shows and in which unit."""
    board = json.loads(file.read_text())
    assert board["uid"] == f"plumbline-{file.stem}" and "id" not in board
    assert [variable["type"] for variable in board["templating"]["list"]] == ["datasource"]
    titles = [panel["title"] for panel in panels(file)]
    assert len(titles) == len(set(titles))
    for panel in panels(file):
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and "id" not in panel
        assert [it["datasource"]["uid"] for it in [panel, *panel["targets"]]] == ["${datasource}"] * (
            1 + len(panel["targets"])
        )
        x, width = panel["gridPos"]["x"], panel["gridPos"]["w"]
        assert x + width <= 24
