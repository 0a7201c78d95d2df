"""Prometheus against the stack on this machine, and Grafana where it is installed: `make monitoring`, until Ctrl-C.

Both are configured from here and from nothing else on the machine: alerts.yaml, the dashboards, one target, which is
the admin listener that `PLUMBLINE_ADMIN_HOST` and `_PORT` name. What they store lies under `PLUMBLINE_HOME`/monitoring.
Left out: an Alertmanager; alerts are shown by Prometheus at /alerts, and sent to nobody.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UsageError
from core.settings import Settings, settings
from plumbline.ports import listening_socket

HERE = Path(__file__).parent
HOST = "127.0.0.1"
_STOP_S = 15
_GRAFANA_HOMES = ("/usr/share/grafana", "/usr/local/share/grafana")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        config = settings()
        directory = config.directory / "monitoring"
        started = [_prometheus(config, directory, options.port, options.key_file)]
    except UsageError as error:
        print(f"monitoring: {error}", file=sys.stderr)
        return 2
    print(f"Prometheus  http://{HOST}:{options.port}  (alerts: /alerts), data in {directory}")
    if (grafana := _grafana(directory, prometheus=options.port, port=options.grafana_port)) is not None:
        started.append(grafana)
        print(f"Grafana     http://{HOST}:{options.grafana_port}/dashboards")
    else:
        print("Grafana     not on PATH: import k8s/monitoring/dashboards/*.json wherever you have one")
    print("Ctrl-C stops everything.", flush=True)
    return _until_stopped(started)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make monitoring", description="Prometheus and Grafana for the local stack.")
    parser.add_argument("--port", type=int, default=9090, help="of Prometheus")
    parser.add_argument("--grafana-port", type=int, default=3000)
    parser.add_argument("--key-file", type=Path, help="holds an API key with scope read; needed once there are keys")
    return parser


def _prometheus(config: Settings, directory: Path, port: int, key_file: Path | None) -> subprocess.Popen[bytes]:
    """Raises:
    UsageError: it is not installed, or the port is taken.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        raise UsageError(
            "Prometheus is not on PATH: apt-get install prometheus (or unpack a release from prometheus.io)"
        )
    listening_socket(HOST, port, variable="--port").close()
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "prometheus.yaml"
    file.write_text(json.dumps(_scraping(config, key_file), indent=2))  # YAML too
    command = [binary, f"--config.file={file}", f"--storage.tsdb.path={directory / 'prometheus'}"]
    return _start([*command, f"--web.listen-address={HOST}:{port}"], log=directory / "prometheus.log")


def _scraping(config: Settings, key_file: Path | None) -> dict[str, Any]:
    """Prometheus's configuration."""
    job: dict[str, Any] = {
        "job_name": "plumbline",
        "static_configs": [{"targets": [f"{config.admin_host}:{config.admin_port}"]}],
    }
    if key_file is not None:
        job["authorization"] = {"credentials_file": str(key_file.resolve())}
    return {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(HERE / "alerts.yaml")],
        "scrape_configs": [job],
    }


def _grafana(directory: Path, *, prometheus: int, port: int) -> subprocess.Popen[bytes] | None:
    """None where it is not installed. Nobody signs in, everybody looks; it asks no other host for news."""
    binary = shutil.which("grafana-server") or shutil.which("grafana")
    if binary is None:
        return None
    homes = (Path(binary).resolve().parents[1], *map(Path, _GRAFANA_HOMES))
    home = next((home for home in homes if (home / "conf" / "defaults.ini").exists()), homes[0])
    environment = {
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(directory / "grafana"),
        "GF_PATHS_PROVISIONING": str(_provisioning(directory / "provisioning", prometheus)),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
    }
    server = [] if binary.endswith("-server") else ["server"]
    command = [binary, *server, "--homepath", str(home)]
    return _start(command, log=directory / "grafana.log", environment=environment)


def _provisioning(directory: Path, prometheus: int) -> Path:
    """Grafana's data source and dashboards, as files."""
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "isDefault": True}
    boards = {"name": "plumbline", "type": "file", "options": {"path": str(HERE / "dashboards")}}
    written = {
        "datasources": {"datasources": [source | {"url": f"http://{HOST}:{prometheus}"}]},
        "dashboards": {"providers": [boards]},
    }
    for name, content in written.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name / "plumbline.yaml").write_text(json.dumps({"apiVersion": 1} | content, indent=2))
    return directory


def _start(command: list[str], *, log: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is ours: they are told to stop, once
        )


def _until_stopped(started: list[subprocess.Popen[bytes]]) -> int:
    """Waits for Ctrl-C or SIGTERM, or for one of them to end by itself, which is an error; then stops all."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what it puts in the background without SIGINT
        signal.signal(number, signal.default_int_handler)
    status = 0
    with contextlib.suppress(KeyboardInterrupt):
        while all(process.poll() is None for process in started):
            time.sleep(0.2)
        status = 1
        print("monitoring: one of them ended by itself; its log says why", file=sys.stderr)
    for process in started:
        process.terminate()
    for process in started:
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return status


if __name__ == "__main__":
    sys.exit(main())
