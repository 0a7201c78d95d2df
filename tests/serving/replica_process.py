"""One API process of several over the same Redis, started as `plumbline serve` starts it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from core.settings import Settings
from tests.processes import free_port

STOP_S = 60


class ReplicaProcess:
    """A replica with a home and an artifact store of its own: `url`, what it says of itself, its engine's process."""

    def __init__(self, home: Path, base: Path, redis_url: str) -> None:
        self.settings = Settings(
            home=home, base=str(base), redis_url=redis_url, port=free_port(), admin_port=free_port()
        )
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self._log = home / "api.log"

    @property
    def artifacts(self) -> Path:
        return self.settings.artifacts

    def start(self) -> None:
        self.settings.directory.mkdir(parents=True)
        with self._log.open("wb") as output:
            environment = os.environ | self.settings.environment()
            command = [sys.executable, "-m", "plumbline.api"]
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    def stop(self) -> None:
        """SIGTERM; its log is printed, which pytest shows if the test failed."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        finally:
            print(f"--- {self._log}\n{self._log.read_text()[-4000:]}")

    def ready(self) -> dict[str, Any]:
        """The body of `/ready`; empty while the process does not listen yet."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            return dict(httpx.get(self.url + "/ready", timeout=10).json())
        except httpx.HTTPError:
            return {}

    def serves(self, generation: int) -> bool:
        state = self.ready()
        return bool(state) and state["ready"] and state["generation"] == generation

    def metric(self, name: str, **labels: str) -> float:
        """0 where nothing was counted yet."""
        text = httpx.get(f"http://127.0.0.1:{self.settings.admin_port}/metrics", timeout=10).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return next((sample.value for sample in samples if (sample.name, sample.labels) == (name, labels)), 0.0)

    def chat(self, **fields: Any) -> httpx.Response:
        body = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 4}
        return httpx.post(self.url + "/v1/chat/completions", json=body | fields, timeout=60)

    def engine(self) -> psutil.Process:
        """The process that computes: the largest below this one."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        return max(children, key=lambda child: child.memory_info().rss)
