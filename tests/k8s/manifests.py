"""What kubectl makes of the manifests: every object that would be sent to a cluster, by overlay."""

import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ["laptop", "single-gpu", "production"]
COMPONENTS = ["autoscaling/hpa", "autoscaling/keda", "monitoring"]
VARIANTS = [*OVERLAYS, *(f"production + {component}" for component in COMPONENTS), "training", "restore"]
"""Every overlay, the largest with each component that is optional, the job for several nodes, the pod for a backup."""

Object = dict[str, Any]


@functools.cache
def rendered(variant: str) -> list[Object]:
    """The objects of an overlay, or of "overlay + component"."""
    overlay, _, component = variant.partition(" + ")
    if not component:
        return _kustomize(ROOT / "k8s" / (f"overlays/{overlay}" if overlay in OVERLAYS else overlay))
    with tempfile.TemporaryDirectory() as directory:
        k8s = os.path.relpath(ROOT / "k8s", Path(directory).resolve())
        parts = {"resources": [f"{k8s}/overlays/{overlay}"], "components": [f"{k8s}/{component}"]}
        (Path(directory) / "kustomization.yaml").write_text(yaml.safe_dump(parts))
        return _kustomize(Path(directory))


def _kustomize(directory: Path) -> list[Object]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on this machine (1.27 or later): install it to run the tests of the manifests")
    done = subprocess.run(["kubectl", "kustomize", directory], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Something that makes pods: `Workload(kind="Deployment", name="api", labels={…}, spec={…})`."""

    kind: str
    name: str
    labels: dict[str, str]
    spec: Object
    """Of the pod."""
    owner: Object

    @property
    def containers(self) -> list[Object]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def workloads(objects: list[Object]) -> Iterator[Workload]:
    """All of them, the jobs of a JobSet too."""
    for each in objects:
        templates = {"": each["spec"]["template"]} if each["kind"] in ("Deployment", "StatefulSet") else {}
        if each["kind"] == "Pod":
            templates = {"": each}
        if each["kind"] == "JobSet":
            jobs = each["spec"]["replicatedJobs"]
            templates = {f"-{job['name']}": job["template"]["spec"]["template"] for job in jobs}
        for suffix, template in templates.items():
            name = each["metadata"]["name"] + suffix
            labels = template["metadata"]["labels"]
            yield Workload(kind=each["kind"], name=name, labels=labels, spec=template["spec"], owner=each)


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    return [each for each in objects if each["kind"] == kind]


def selects(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector takes a pod with these labels."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", []):
        assert wanted["operator"] == "In"
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True
