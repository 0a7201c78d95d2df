"""Every object is one that a cluster takes, to the last field: a misspelt one would be ignored there without a word."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.k8s.manifests import VARIANTS, Object, rendered, workloads

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="the dev extra has kubernetes-validate")
KUBERNETES = "1.34"


class Strict(BaseModel):
    """Fields that we use and no others; what an operator's own schema says beyond that is not repeated."""

    model_config = ConfigDict(extra="forbid")


class Metadata(Strict):
    name: str
    namespace: Literal["plumbline"]
    labels: dict[str, str]


class SecretKey(Strict):
    name: str
    key: str


class Authorization(Strict):
    type: Literal["Bearer"]
    credentials: SecretKey


class Endpoint(Strict):
    port: str
    path: str
    interval: str
    authorization: Authorization


class ServiceMonitorSpec(Strict):
    jobLabel: str
    selector: dict[Literal["matchLabels"], dict[str, str]]
    endpoints: list[Endpoint]


class ServiceMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["ServiceMonitor"]
    metadata: Metadata
    spec: ServiceMonitorSpec


class Rule(Strict):
    alert: str | None = None
    record: str | None = None
    expr: str | int
    for_: str | None = Field(None, alias="for")
    keep_firing_for: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class RuleGroup(Strict):
    name: str
    interval: str | None = None
    rules: list[Rule]


class PrometheusRule(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PrometheusRule"]
    metadata: Metadata
    spec: dict[Literal["groups"], list[RuleGroup]]


class ScaleTarget(Strict):
    name: str


class PrometheusQuery(Strict):
    serverAddress: str
    query: str
    threshold: str
    activationThreshold: str | None = None


class Trigger(Strict):
    type: Literal["prometheus"]
    metadata: PrometheusQuery


class ScaledObjectSpec(Strict):
    scaleTargetRef: ScaleTarget
    minReplicaCount: int
    maxReplicaCount: int
    pollingInterval: int
    cooldownPeriod: int
    initialCooldownPeriod: int | None = None
    triggers: list[Trigger]


class ScaledObject(Strict):
    apiVersion: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class JobTemplate(Strict):
    spec: dict[str, Any]  # checked as a Job of its own


class ReplicatedJob(Strict):
    name: str
    replicas: int
    template: JobTemplate


class JobSetSpec(Strict):
    failurePolicy: dict[Literal["maxRestarts"], int]
    replicatedJobs: list[ReplicatedJob]


class JobSet(Strict):
    apiVersion: Literal["jobset.x-k8s.io/v1alpha2"]
    kind: Literal["JobSet"]
    metadata: Metadata
    spec: JobSetSpec


CUSTOM: dict[str, type[Strict]] = {
    each.__name__: each for each in (ServiceMonitor, PrometheusRule, ScaledObject, JobSet)
}


def validate(given: Object) -> None:
    """Raises what is wrong with one object."""
    if own := CUSTOM.get(given["kind"]):
        own.model_validate(given)
    else:
        kubernetes_validate.validate(given, KUBERNETES, strict=True)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_object_fits_its_schema(variant: str) -> None:
    """Strictly: no field that the schema does not know."""
    for each in rendered(variant):
        validate(each)
        for job in each["spec"]["replicatedJobs"] if each["kind"] == "JobSet" else []:
            spec = job["template"]["spec"]
            validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, "spec": spec})


def test_a_misspelt_field_is_found() -> None:
    """The check itself: one letter too many, deep in a pod."""
    workload = next(it for it in workloads(rendered("laptop")) if it.name == "api")
    validate(workload.owner)
    broken = {**workload.owner, "spec": {**workload.owner["spec"], "templates": workload.owner["spec"]["template"]}}
    with pytest.raises(kubernetes_validate.ValidationError, match="templates"):
        validate(broken)


@pytest.mark.parametrize("variant", VARIANTS)
def test_names_are_unique_and_in_our_namespace(variant: str) -> None:
    """Nothing is said twice, and everything but the namespace itself lies in it."""
    objects = rendered(variant)
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    assert {each["metadata"].get("namespace", each["kind"]) for each in objects} <= {"plumbline", "Namespace"}
