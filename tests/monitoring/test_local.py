"""`make monitoring` for real: Prometheus scrapes a replica and judges its alerts, and Ctrl-C ends it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.monitoring.tools import ROOT, alerts, tool
from tests.plumbline.replicas import Deployment

COMMAND = [sys.executable, "-m", "k8s.monitoring.local"]


def asked(port: int, path: str) -> Any:
    return httpx.get(f"http://127.0.0.1:{port}/api/v1/{path}").raise_for_status().json()["data"]


def test_a_replica_is_watched(tmp_path: Path) -> None:
    """Its target is up, the alerts are loaded, a figure arrives; after Ctrl-C nothing listens any more."""
    tool("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Deployment(tmp_path) as deployment:
        admin = httpx.URL(deployment.replica().admin_url)
        environment = os.environ | {"PLUMBLINE_HOME": str(tmp_path), "PLUMBLINE_ADMIN_PORT": str(admin.port)}
        process = subprocess.Popen([*COMMAND, "--port", str(port)], env=environment, cwd=ROOT, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None and b"Prometheus" in process.stdout.readline()
            deadline = time.monotonic() + 60
            while not _arrived(port):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.5)
            (target,) = asked(port, "targets")["activeTargets"]
            assert (target["health"], target["labels"]["job"]) == ("up", "plumbline")
            loaded = {rule["name"] for group in asked(port, "rules")["groups"] for rule in group["rules"]}
            assert alerts().keys() <= loaded
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 0
    with socket.create_server(("127.0.0.1", port)):
        pass


def _arrived(port: int) -> bool:
    try:
        return bool(asked(port, "query?query=plumbline_recording")["result"])
    except httpx.HTTPError:  # not up yet, or up and not ready
        return False


def test_without_prometheus_it_says_how_to_get_it(tmp_path: Path) -> None:
    """One line and status 2."""
    environment = os.environ | {"PATH": str(tmp_path), "PLUMBLINE_HOME": str(tmp_path)}
    done = subprocess.run(COMMAND, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "apt-get install prometheus" in done.stderr
