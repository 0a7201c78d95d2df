"""A real `plumbline up` in a process of its own, and what the end-to-end tests do to it."""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis

from core import keys
from plumbline import embedded_redis
from tests.processes import free_port

# How each process shows itself: Celery renames its own after its node once it runs.
SIGNS = {
    "api": ("plumbline.api",),
    "worker": ("training.worker", "train@"),
    "scheduler": ("plumbline.scheduler", "ops@"),
    "redis": ("redis-server",),
}


def eventually(condition: Callable[[], Any], *, timeout_s: float, what: str) -> Any:
    """The first true value of `condition`; an exception of the service being away counts as "not yet"."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if value := condition():
                return value
        except (httpx.HTTPError, redis.exceptions.RedisError):
            pass
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(0.1)


class StackProcess:
    """The service, as an operator starts it."""

    def __init__(self, home: Path, base: Path, recipe: Path, **variables: str) -> None:
        self.home = home
        self.port, self.admin_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PLUMBLINE_")}
        self.environment |= {
            "PLUMBLINE_HOME": str(home),
            "PLUMBLINE_BASE": str(base),
            "PLUMBLINE_RECIPE": str(recipe),
            "PLUMBLINE_PORT": str(self.port),
            "PLUMBLINE_ADMIN_PORT": str(self.admin_port),
            **variables,
        }
        self.output = home / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = httpx.Client(base_url=self.url, timeout=60.0)
        self.redis = redis.Redis.from_url(embedded_redis.url(home / "redis"), decode_responses=True)

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            command = [sys.executable, "-m", "plumbline.cli", "up"]
            self.process = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        eventually(lambda: self.is_ready() or self.process.poll() is not None, timeout_s=240, what="ready")
        assert self.process.poll() is None, self.output.read_text()

    def is_ready(self) -> bool:
        try:
            return self.client.get("/ready").status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> int:
        """Ctrl-C, and the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=90)

    def child(self, name: str) -> psutil.Process:
        """The supervised process that runs `name` now."""
        assert self.process is not None
        for child in psutil.Process(self.process.pid).children():
            if any(sign in part for part in child.cmdline() for sign in SIGNS[name]):
                return child
        raise AssertionError(f"no {name} runs")

    def family(self, name: str) -> list[psutil.Process]:
        """The process and everything that it started, trainers in sessions of their own included."""
        child = self.child(name)
        return [child, *child.children(recursive=True)]

    def run_cli(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "plumbline.cli", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    # --- as a user ----------------------------------------------------------------------------------------------------

    def chat(self, text: str, *, model: str = "assistant", **options: Any) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 48, **options}
        response = self.client.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        return response.json()

    def compare(self, text: str, *, rater: str) -> dict[str, Any]:
        body = {"messages": [{"role": "user", "content": text}], "max_tokens": 48, "user": rater}
        response = self.client.post("/v1/comparisons", json=body)
        response.raise_for_status()
        return response.json()

    def vote(self, kind: str, target: str, value: object, *, rater: str) -> httpx.Response:
        body = {
            "target": {"type": "completion" if kind == "thumb" else "comparison", "id": target},
            "kind": kind,
            "value": value,
            "rater": {"id": rater},
        }
        return self.client.post("/v1/feedback", json=body)

    def stored_votes(self) -> list[str]:
        """Ids in the stream, in order, with every repetition."""
        return [json.loads(entry["event"])["id"] for _, entry in self.redis.xrange(keys.FEEDBACK)]


@dataclass
class Load:
    """Chats followed by a thumb, from a few threads, until stopped."""

    stack: StackProcess
    pause_s: float = 0.0
    """Of each thread before each chat: beside a trainer the load would take all that there is."""
    acknowledged: list[str] = field(default_factory=list)
    chats: int = 0
    failed_chats: int = 0
    refused_votes: list[int] = field(default_factory=list)
    """Status codes other than 2xx."""
    unsent_votes: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Load":
        self._pool = concurrent.futures.ThreadPoolExecutor(4)
        self._futures = [self._pool.submit(self._run, number) for number in range(4)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()
        for future in self._futures:
            future.result()

    def _run(self, number: int) -> None:
        turn = 0
        while not self._stop.wait(self.pause_s):
            turn += 1
            try:
                answer = self.stack.chat(f"What is {number} plus {turn % 9}?", max_tokens=16)
                self.chats += 1
            except httpx.HTTPError:
                self.failed_chats += 1
                time.sleep(0.1)
                continue
            self._vote(answer["id"], rater=f"load-{number}")

    def _vote(self, completion: str, *, rater: str) -> None:
        try:
            response = self.stack.vote("thumb", completion, 1, rater=rater)
        except httpx.HTTPError:
            self.unsent_votes += 1
            return
        if response.is_success:
            self.acknowledged.append(response.json()["id"])
        else:
            self.refused_votes.append(response.status_code)
