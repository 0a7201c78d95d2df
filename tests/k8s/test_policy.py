"""What must hold of every pod and between them, read from what kubectl renders."""

import re
from importlib.util import find_spec

import pytest

from core.settings import Settings
from plumbline.cli import app
from serving.app import DRAIN_S
from tests.k8s.manifests import OVERLAYS, ROOT, VARIANTS, Object, Workload, of_kind, rendered, selects, workloads

ENGINE_STOP_S = 15  # serving/engine_client.py, which only a machine with vllm can import
MARGIN_S = 10
OTHERS = {"HF_HUB_OFFLINE", "REDISCLI_AUTH"}
"""Variables that Hugging Face's client and redis-cli read."""

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def containers(variant: str) -> list[tuple[str, Workload, Object]]:
    return [(f"{it.name}/{each['name']}", it, each) for it in workloads(rendered(variant)) for each in it.containers]


@every_variant
def test_pods_are_restricted(variant: str) -> None:
    """No root, no capability, no privilege to be gained, a root that nobody can write, no token of the cluster."""
    for it in workloads(rendered(variant)):
        pod = it.spec["securityContext"]
        assert (pod["runAsNonRoot"], pod["seccompProfile"]) == (True, {"type": "RuntimeDefault"}), it.name
        assert pod["runAsUser"] > 0 and pod["fsGroup"] > 0, it.name
        assert it.spec["automountServiceAccountToken"] is False, it.name
        assert not any(it.spec.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")), it.name
        assert not any("hostPath" in volume for volume in it.spec["volumes"]), it.name
    for name, _, each in containers(variant):
        own = each["securityContext"]
        assert own["readOnlyRootFilesystem"] is True and own["allowPrivilegeEscalation"] is False, name
        assert own["capabilities"] == {"drop": ["ALL"]}, name


@every_variant
def test_no_service_becomes_a_setting(variant: str) -> None:
    """A Service named plumbline would set PLUMBLINE_PORT=tcp://… in every pod that asks for such variables."""
    assert [it.name for it in workloads(rendered(variant)) if it.spec.get("enableServiceLinks") is not False] == []


@every_variant
def test_images_are_pinned(variant: str) -> None:
    """Ours by version, others by digest; never `latest`."""
    for name, _, each in containers(variant):
        pinned = r"[\w./-]*plumbline:\d+\.\d+\.\d+-(cpu|cuda)|[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}"
        assert re.fullmatch(pinned, each["image"]), name


@every_variant
def test_resources_are_bounded(variant: str) -> None:
    """Every container says what it needs, and how much memory it may take at most."""
    for name, _, each in containers(variant):
        assert set(each["resources"]["requests"]) >= {"cpu", "memory"}, name
        assert "memory" in each["resources"]["limits"], name


@every_variant
def test_every_mount_has_its_volume(variant: str) -> None:
    """And whatever a process writes lies on one of them: home, shared memory, the shared volume, Redis's data."""
    for name, it, each in containers(variant):
        templates = it.owner["spec"].get("volumeClaimTemplates", [])
        volumes = {volume["name"] for volume in it.spec["volumes"]} | {each["metadata"]["name"] for each in templates}
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes, name
        if "plumbline:" in each["image"]:
            places = {mount["mountPath"]: mount.get("readOnly", False) for mount in each["volumeMounts"]}
            assert places == {"/home/plumbline": False, "/dev/shm": False, "/shared": it.name == "api"}, name


@every_variant
def test_every_command_exists(variant: str) -> None:
    """What our image is told to do is a command of the command line, or a module that torchrun can start."""
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    for name, _, each in containers(variant):
        if "plumbline:" not in each["image"]:
            continue
        if "command" not in each:
            assert each["args"][0] in commands, name
        else:
            words = each["command"]
            assert "torchrun" in words, name
            module = words[words.index("-m") + 1]
            assert module.startswith("training.") and find_spec(module), name


@every_variant
def test_every_variable_is_a_setting(variant: str) -> None:
    """A variable that nobody reads is a mistake; a value that cannot work is found here and not in a cluster."""
    known = {"REDIS_URL", "BROKER_URL", "ARTIFACTS_URL"} | {f"PLUMBLINE_{it.upper()}" for it in Settings.model_fields}
    for name, _, each in containers(variant):
        given = {it["name"]: it.get("value") for it in each.get("env", [])} | from_config(variant, each)
        used = {used for value in given.values() if value for used in re.findall(r"\$\((\w+)\)", value)}
        assert set(given) - known - OTHERS <= used, name
        Settings.model_validate({field_of(it): value for it, value in given.items() if value and it in known})


@pytest.mark.parametrize("variant", OVERLAYS)
def test_what_operators_decide_first_is_written_down(variant: str) -> None:
    """Who is let in without a key, who may say where a visitor comes from, what is answered unseen: alike for every
    process, and as it would be without a word, which is the cautious way."""
    decided = {"page", "trusted_proxies", "shadow"}
    for name, _, each in containers(variant):
        if "plumbline:" in each["image"]:
            given = from_config(variant, each)
            said = Settings.model_validate({field: given[f"PLUMBLINE_{field.upper()}"] for field in decided})
            assert said.model_dump(include=decided) == Settings.model_construct().model_dump(include=decided), name


def field_of(variable: str) -> str:
    return variable.removeprefix("PLUMBLINE_").lower() if variable.startswith("PLUMBLINE_") else variable


def from_config(variant: str, container: Object) -> dict[str, str]:
    names = [it["configMapRef"]["name"] for it in container.get("envFrom", [])]
    found = {each["metadata"]["name"]: each["data"] for each in of_kind(rendered(variant), "ConfigMap")}
    return {variable: value for name in names for variable, value in found[name].items()}


@every_variant
def test_variables_are_defined_before_they_are_used(variant: str) -> None:
    """Kubernetes leaves $(NAME) as it is where NAME comes later in the list."""
    for name, _, each in containers(variant):
        before: set[str] = set()
        for it in each.get("env", []):
            assert set(re.findall(r"\$\((\w+)\)", it.get("value", ""))) <= before, (name, it["name"])
            before.add(it["name"])


@every_variant
def test_secrets_are_only_referred_to(variant: str) -> None:
    """No secret is written down: each comes from a Secret that an operator makes, and none is on a command line."""
    objects = rendered(variant)
    assert of_kind(objects, "Secret") == []
    for name, _, each in containers(variant):
        for it in each.get("env", []):
            if re.search("SECRET|PASSWORD|AUTH", it["name"]):
                assert set(it) == {"name", "valueFrom"}, (name, it["name"])
        assert not re.search(
            r"PASSWORD|SECRET|requirepass", " ".join([*each.get("command", []), *each.get("args", [])])
        )


@pytest.mark.parametrize("variant", OVERLAYS)
def test_probes_ask_the_right_thing(variant: str) -> None:
    """Traffic depends on chat alone, a restart on the event loop alone; Redis is ready once it answers, and alive while
    it reads its file. Who takes no connections has no probe."""
    for name, it, each in containers(variant):
        probes = {kind: each[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in each}
        if it.name == "api":
            asked = {kind: probe["httpGet"] for kind, probe in probes.items()}
            health, ready = {"path": "/health", "port": "http"}, {"path": "/ready", "port": "http"}
            assert asked == {"startupProbe": health, "readinessProbe": ready, "livenessProbe": health}
            assert probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"] >= 300
        elif it.kind == "StatefulSet":
            assert set(probes) == {"readinessProbe", "livenessProbe"}, name
            assert "tcpSocket" in probes["livenessProbe"], name
        else:
            assert probes == {} and "ports" not in each, name


@pytest.mark.parametrize("variant", OVERLAYS)
def test_streams_have_time_to_end(variant: str) -> None:
    """A pod is killed only after its preStop, the drain, answers that nobody waits for, and the engine's end."""
    api = next(it for it in workloads(rendered(variant)) if it.name == "api")
    container = api.spec["containers"][0]
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    drain_s = float(from_config(variant, container)["PLUMBLINE_DRAIN_S"])
    needed = int(seconds) + drain_s + DRAIN_S + ENGINE_STOP_S + MARGIN_S
    assert api.spec["terminationGracePeriodSeconds"] >= needed


@pytest.mark.parametrize("variant", OVERLAYS)
def test_what_must_not_go_away_together_does_not(variant: str) -> None:
    """Every Redis with a disk and every API has a budget for disruptions, and a deleted Redis leaves its disk."""
    objects = rendered(variant)
    budgets = of_kind(objects, "PodDisruptionBudget")
    for it in workloads(objects):
        if it.kind == "StatefulSet" or it.name == "api":
            assert [b["metadata"]["name"] for b in budgets if selects(b["spec"]["selector"], it.labels)] == [it.name]
        if it.kind == "StatefulSet":
            assert it.owner["spec"]["volumeClaimTemplates"], it.name
            assert set(it.owner["spec"]["persistentVolumeClaimRetentionPolicy"].values()) == {"Retain"}, it.name


@pytest.mark.parametrize("variant", OVERLAYS)
def test_no_vote_is_evicted_or_lost(variant: str) -> None:
    """Votes are on disk before they are acknowledged, nothing is evicted, and Redis stays well within its memory."""
    objects = rendered(variant)
    maps = {it["metadata"]["name"]: it["data"] for it in of_kind(objects, "ConfigMap")}
    for it in workloads(objects):
        if it.kind != "StatefulSet":
            continue
        config = next(volume["configMap"]["name"] for volume in it.spec["volumes"] if "configMap" in volume)
        options = dict(line.split(maxsplit=1) for line in maps[config]["redis.conf"].splitlines() if line[0] != "#")
        assert (options["appendonly"], options["maxmemory-policy"]) == ("yes", "noeviction"), it.name
        assert options["appendfsync"] == ("always" if it.name == "redis-votes" else "everysec")
        limit = it.spec["containers"][0]["resources"]["limits"]["memory"]
        assert in_bytes(options["maxmemory"]) <= 0.7 * in_bytes(limit), it.name


def in_bytes(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"mb": 2**20, "gb": 2**30, "Mi": 2**20, "Gi": 2**30}[unit]


@every_variant
def test_services_lead_to_a_port(variant: str) -> None:
    """Each selects pods that listen there, and none leads to the admin listener but the one for Prometheus."""
    objects = rendered(variant)
    for service in of_kind(objects, "Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        assert spec.get("type", "ClusterIP") == "ClusterIP", name
        found = [it for it in workloads(objects) if selects({"matchLabels": spec["selector"]}, it.labels)]
        assert found, name
        ports = {port["name"]: port["containerPort"] for each in found[0].containers for port in each.get("ports", [])}
        assert {port["targetPort"] for port in spec["ports"]} <= set(ports), name
        if name != "api-admin":
            assert Settings.model_fields["admin_port"].default not in {ports[it["targetPort"]] for it in spec["ports"]}


def allowed(objects: list[Object], source: dict[str, str], target: dict[str, str], port: int) -> bool:
    """Whether the policies let a pod of this namespace with labels `source` reach such a pod."""
    policies = [it["spec"] for it in of_kind(objects, "NetworkPolicy")]
    return _passes(policies, "Egress", source, target, port) and _passes(policies, "Ingress", target, source, port)


def _passes(policies: list[Object], way: str, of: dict[str, str], peer: dict[str, str], port: int) -> bool:
    mine = [it for it in policies if way in it["policyTypes"] and selects(it["podSelector"], of)]
    if not mine:
        return True
    rules = [rule for it in mine for rule in it.get(way.lower(), [])]
    peers = {"Egress": "to", "Ingress": "from"}[way]
    return any(_port(rule, port) and _peer(rule.get(peers), peer) for rule in rules)


def _port(rule: Object, port: int) -> bool:
    return "ports" not in rule or port in {it["port"] for it in rule["ports"]}


def _peer(peers: list[Object] | None, labels: dict[str, str]) -> bool:
    return peers is None or any("namespaceSelector" not in it and selects(it["podSelector"], labels) for it in peers)


@pytest.mark.parametrize("variant", [it for it in VARIANTS if it not in ("training", "restore")])
def test_only_who_must_talk_can(variant: str) -> None:
    """Default deny holds for every pod; processes reach Redis, and nobody else reaches anybody."""
    objects = rendered(variant)
    deny = [it["spec"] for it in of_kind(objects, "NetworkPolicy") if it["spec"]["podSelector"] == {}]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in deny
    pods = {it.name: it.labels for it in workloads(objects)}
    stranger = {"app.kubernetes.io/name": "stranger"}
    for redis in pods.keys() & {"redis-votes", "redis-broker"}:
        reached = {
            name
            for name, labels in (pods | {"stranger": stranger}).items()
            if allowed(objects, labels, pods[redis], 6379)
        }
        assert reached == {"api", "worker", "scheduler"}
    for name in ("worker", "scheduler"):
        assert not any(allowed(objects, labels, pods[name], port) for labels in pods.values() for port in (6379, 8000))
    assert not any(allowed(objects, labels, pods["api"], 8001) for labels in [*pods.values(), stranger])


def test_training_talks_to_itself_only() -> None:
    """The nodes of a training reach each other on any port; not Redis, not the API, and are reached by neither."""
    objects = [*rendered("production"), *rendered("training")]
    pods = {it.name: it.labels for it in workloads(objects)}
    training = pods["dpo-nodes"]
    assert allowed(objects, training, training, 29500) and allowed(objects, training, training, 41234)
    for name, labels in pods.items():
        if labels != training:
            assert not any(allowed(objects, training, labels, port) for port in (6379, 8000, 29500)), name
            assert not any(allowed(objects, labels, training, port) for port in (6379, 8000, 29500)), name


def test_monitoring_is_whole() -> None:
    """Prometheus is let in where it is told to look, calls it as the alerts do, and every dashboard comes along."""
    objects = rendered("production + monitoring")
    (monitor,) = of_kind(objects, "ServiceMonitor")
    (service,) = [
        it for it in of_kind(objects, "Service") if it["metadata"].get("labels", {}).get("app.kubernetes.io/name")
    ]
    assert selects(monitor["spec"]["selector"], service["metadata"]["labels"])
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "plumbline"
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    api = next(it for it in workloads(objects) if it.name == "api")
    assert {"name": "PLUMBLINE_ADMIN_HOST", "value": "0.0.0.0"} in api.spec["containers"][0]["env"]
    (scraping,) = [it["spec"] for it in of_kind(objects, "NetworkPolicy") if it["metadata"]["name"] == "scraping"]
    assert selects(scraping["podSelector"], api.labels)
    assert scraping["ingress"][0]["ports"] == [{"port": Settings.model_fields["admin_port"].default, "protocol": "TCP"}]
    written = {it.name for it in (ROOT / "k8s/monitoring/dashboards").iterdir()}
    (dashboards,) = [
        it["data"] for it in of_kind(objects, "ConfigMap") if "grafana_dashboard" in it["metadata"]["labels"]
    ]
    assert set(dashboards) == written
    assert of_kind(objects, "PrometheusRule")
