"""promtool and prometheus of this machine, and what the files under k8s/monitoring say."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
ALERTS = MONITORING / "alerts.yaml"


def tool(name: str) -> str:
    """Skips the test where it is not installed; CI installs it (.ci/run)."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine: install the package `prometheus` to run the tests of alerts")
    return found


def rules() -> list[dict[str, Any]]:
    """Every rule of every group."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}
