"""Runs what the laptop overlay says from the image that k8s/build_image.sh made, without a cluster, and uses it.

    unshare --net python -m tests.k8s.try_image WORK        # as root; WORK as for build_image.sh

Each container of the rendered manifests is started by podman as a cluster would: the same arguments, environment, user,
no capability, a root that nobody can write, and its volumes as directories. What differs: all share one network, whose
only address is loopback, so that Services are names for it and policies are not in force; Redis is the server that is
in our image, for there is no registry to take its own from; and probes are asked by this program. The base is a tiny
random model. It is no pytest: it needs root, podman, runc and a built image.
"""

import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from tests import stopping
from tests.k8s.manifests import Object, Workload, of_kind, rendered, workloads
from tests.serving.tiny import write_base

IMAGE, VARIANT = "localhost/plumbline:cpu", "laptop"
URL = "http://127.0.0.1:8000"
TOKENS = 400


class Cluster:
    """What a cluster is to these manifests: directories for volumes, a Secret, and podman."""

    def __init__(self, work: Path, directory: Path) -> None:
        self.directory = directory
        self.objects = rendered(VARIANT)
        self.pods = {it.name: it for it in workloads(self.objects)}
        store = ["--root", str(work / "store"), "--runroot", str(work / "run")]
        self._podman = ["podman", *store, "--cgroup-manager", "cgroupfs", "--runtime", "runc"]
        password = secrets.token_hex(16)
        self._secret = {
            "secret": secrets.token_hex(32),
            "redis-password": password,
            "redis.conf": f"requirepass {password}\n",
        }

    def podman(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._podman, *arguments], text=True, **options)

    def start(self, pod: str, *, container: str = "", wait: bool = False) -> None:
        """Starts a pod's container; with `wait`, until it has ended well."""
        it = self.pods[pod]
        spec = next(each for each in it.containers if each["name"] == (container or it.spec["containers"][0]["name"]))
        command = ["run", "--replace", "--name", pod, "--pull", "never", "--network", "host", "--read-only"]
        command += ["--read-only-tmpfs=false", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        user = it.spec["securityContext"]
        command += ["--user", f"{user['runAsUser']}:{user['runAsGroup']}"]
        command += ["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096"]
        for name in (each["metadata"]["name"] for each in of_kind(self.objects, "Service")):
            command += ["--add-host", f"{name}:127.0.0.1"]
        command += self._volumes(it, spec) + self._environment(spec)
        entrypoint, *words = spec.get("command") or [""]
        if entrypoint:
            command += ["--entrypoint", entrypoint]
        command += [*([] if wait else ["--detach"]), IMAGE, *words, *spec.get("args", [])]
        done = self.podman(*command, stdout=None if wait else subprocess.DEVNULL)
        assert done.returncode == 0, f"{pod}/{spec['name']} ended with {done.returncode}"

    def _environment(self, container: Object) -> list[str]:
        maps = {each["metadata"]["name"]: each["data"] for each in of_kind(self.objects, "ConfigMap")}
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            values |= maps[source["configMapRef"]["name"]]
        for it in container.get("env", []):
            given = it["value"] if "value" in it else self._secret[it["valueFrom"]["secretKeyRef"]["key"]]
            for name, value in values.items():
                given = given.replace(f"$({name})", value)
            values[it["name"]] = given
        return [word for name, value in values.items() for word in ("--env", f"{name}={value}")]

    def _volumes(self, pod: Workload, container: Object) -> list[str]:
        sources = {it["name"]: it for it in pod.spec["volumes"]}
        words = []
        for mount in container["volumeMounts"]:
            place = self._place(pod, mount["name"], sources.get(mount["name"], {}))
            words += ["--volume", f"{place}:{mount['mountPath']}{':ro' if mount.get('readOnly') else ''}"]
        return words

    def _place(self, pod: Workload, name: str, source: Object) -> Path:
        """A directory of the pod's user; for the claim, the same for all."""
        place = self.directory / (name if "persistentVolumeClaim" in source else f"{pod.name}-{name}")
        place.mkdir(exist_ok=True)
        if "configMap" in source:
            data = next(
                it for it in of_kind(self.objects, "ConfigMap") if it["metadata"]["name"] == source["configMap"]["name"]
            )
            for file, text in data["data"].items():
                (place / file).write_text(text)
        for item in source.get("secret", {}).get("items", []):
            (place / item["path"]).write_text(self._secret[item["key"]])
        user = pod.spec["securityContext"]
        for each in [place, *place.iterdir()]:
            os.chown(each, user["runAsUser"], user["fsGroup"])
        return place

    def inside(self, pod: str, *command: str) -> str:
        return self.podman("exec", pod, *command, stdout=subprocess.PIPE, check=True).stdout.strip()

    def status(self, pod: str) -> int:
        return int(self.podman("wait", pod, stdout=subprocess.PIPE, check=True).stdout)


def wait_ready(seconds: float) -> float:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if httpx.get(f"{URL}/ready").status_code == 200:
                return time.monotonic() - began
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise SystemExit("the API did not become ready")


def chat_and_vote(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=stopping.chat(16, stream=False)).raise_for_status().json()
    print(f"chat: {answer['model']}, {answer['usage']['completion_tokens']} tokens", flush=True)
    target = {"type": "completion", "id": answer["id"]}
    vote = {"target": target, "kind": "thumb", "value": 1, "rater": {"id": "somebody"}}
    stored = client.post("/v1/feedback", json=vote).raise_for_status().json()
    print(f"vote: {stored['id']}", flush=True)


async def streams_through_a_stop(cluster: Cluster, headers: dict[str, str]) -> None:
    """SIGTERM while 32 streams run: each must end with its last token, and the API with 0."""
    began = 0.0

    async def stop() -> None:
        nonlocal began
        began = time.monotonic()
        cluster.podman("kill", "--signal", "TERM", "api", stdout=subprocess.DEVNULL, check=True)

    async with httpx.AsyncClient(base_url=URL, headers=headers, timeout=300) as client:
        streams = await stopping.through_a_stop(client, TOKENS, stop)
    whole = sum(events[-1] == "data: [DONE]" for events in streams)
    print(f"SIGTERM under {len(streams)} streams: {whole} whole, the last {time.monotonic() - began:.1f} s later")
    status = cluster.status("api")
    print(f"the API ended with {status}, {time.monotonic() - began:.1f} s after SIGTERM", flush=True)
    assert (whole, status) == (len(streams), 0)


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="plumbline-pods-") as directory:
        cluster = Cluster(Path(sys.argv[1]), Path(directory))
        Path(directory).chmod(0o755)
        (Path(directory) / "shared").mkdir()
        for file in write_base(Path(directory) / "shared" / "base").iterdir():
            file.chmod(0o644)
        try:
            cluster.start("redis-votes")
            began = time.monotonic()
            cluster.start("worker", container="init", wait=True)
            print(f"init: {time.monotonic() - began:.0f} s", flush=True)
            cluster.start("worker", container="init", wait=True)
            cluster.start("worker")
            cluster.start("scheduler")
            cluster.start("api")
            print(f"the API without a key ended with {cluster.status('api')}:", flush=True)
            cluster.podman("logs", "--tail", "6", "api")
            key = cluster.inside(
                "scheduler", "plumbline", "keys", "create", "--name", "first", "--scopes", "chat,feedback,read"
            )
            cluster.start("api")
            print(f"ready after {wait_ready(300):.0f} s", flush=True)
            headers = {"authorization": f"Bearer {key}"}
            with httpx.Client(base_url=URL, headers=headers, timeout=60) as client:
                chat_and_vote(client)
                print(f"page: {client.get('/').status_code}, {len(client.get('/').content)} bytes", flush=True)
            print(cluster.inside("scheduler", "plumbline", "status"), flush=True)
            asyncio.run(streams_through_a_stop(cluster, headers))
        finally:
            for pod in cluster.pods:
                cluster.podman("logs", "--tail", "15", pod)
                cluster.podman("rm", "--force", "--time", "10", pod, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
