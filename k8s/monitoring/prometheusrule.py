"""Writes prometheusrule.yaml, which the Prometheus operator reads, from alerts.yaml, which Prometheus reads.

`python -m k8s.monitoring.prometheusrule`. Two files because the operator wants the groups inside a resource of its own,
and kustomize cannot put a file's content into a field.
"""

from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ALERTS = HERE / "alerts.yaml"
RESOURCE = HERE / "prometheusrule.yaml"
_HEAD = "# Written by `python -m k8s.monitoring.prometheusrule` from alerts.yaml: edit that one.\n"


def resource() -> dict[str, Any]:
    """The rules as `monitoring.coreos.com/v1` PrometheusRule."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "plumbline"},
        "spec": yaml.safe_load(ALERTS.read_text()),
    }


class _Lines(yaml.SafeDumper):
    """Writes a text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Lines.add_representer(str, _text)

if __name__ == "__main__":
    RESOURCE.write_text(_HEAD + yaml.dump(resource(), Dumper=_Lines, sort_keys=False, width=200))
