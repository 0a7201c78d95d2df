"""The whole service on one machine: Redis, API, worker and scheduler as supervised children of one process.

async with Stack(settings) as stack:      # ports checked, Redis up, version 0 registered, everything ready
    ...                                    # stack.api_url, stack.redis
                                           # leaving stops every child: API first (it finishes its streams), Redis last
"""

import asyncio
import fcntl
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx
import redis

from core.base import resolve_base
from core.errors import UsageError
from core.redis import connect
from core.settings import Settings
from plumbline import embedded_redis, first_version, key_checks
from plumbline.ports import listening_socket
from plumbline.processes import Child

_MIN_FREE_GB = 1.0
_STOP_S = 50.0  # once no request is open: answers that nobody waits for, then the engine
_STOP_EARLY_S = 5.0  # nobody streams yet, and an engine that is being built cannot be interrupted
Report = Callable[[str], None]


class Stack:
    """Starts and stops everything. `report` gets one line for each step of the start."""

    def __init__(self, settings: Settings, *, report: Report = lambda line: None) -> None:
        self._report = report
        self._children: list[Child] = []
        self._lock: IO[str] | None = None
        self._ready = False
        self._own_redis = not settings.redis_url
        redis_url = settings.redis_url or embedded_redis.url(settings.directory / "redis")
        self.settings = settings.model_copy(
            update={"redis_url": redis_url, "broker_url": settings.broker_url or redis_url, "home": settings.directory}
        )
        self.redis: redis.Redis = connect(redis_url)

    @property
    def api_url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    async def __aenter__(self) -> "Stack":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Raises:
        UsageError: something on this machine is missing or taken; says what to do.
        """
        try:
            self._prepare_directory()
            check_ports(self.settings)
            base = resolve_base(self.settings.base)
            self.settings = self.settings.model_copy(update={"base": str(base)})
            await self._start_redis()
            key_checks.refuse_open_doors(self.settings, self.redis)
            self._report("looking for policy version 0 (the base)")
            await first_version.register(self.redis, self.settings, base, environment=self._environment(), actor="up")
            for name in ("api", "worker", "scheduler"):
                self._report(f"starting the {name}")
                await self._add(name, [sys.executable, "-m", _MODULES[name]])
            await self._wait_ready()
            self._ready = True
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """API first, so that streams end; Redis last, so that the others can say goodbye to it."""
        patience_s = self.settings.drain_s + _STOP_S if self._ready else _STOP_EARLY_S
        for child in sorted(self._children, key=lambda child: _STOP_ORDER.index(child.name)):
            await child.stop(timeout_s=patience_s)
        self._children.clear()
        self.redis.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _prepare_directory(self) -> None:
        home = self.settings.directory
        try:
            (home / "logs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"Cannot write to {home}: {error.strerror}. Set PLUMBLINE_HOME to another place."
            ) from None
        free = shutil.disk_usage(home).free / 1e9
        if free < _MIN_FREE_GB:
            raise UsageError(f"Only {free:.1f} GB are free at {home}; at least {_MIN_FREE_GB:.0f} GB are needed.")
        self._lock = (home / "stack.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"A stack is running on {home} already. Stop it, or set another PLUMBLINE_HOME.") from None

    async def _start_redis(self) -> None:
        if self._own_redis:
            self._report("starting Redis (every vote is on disk before it is acknowledged)")
            await self._add("redis", embedded_redis.command(self.settings.directory / "redis"))
        for _ in range(100):
            try:
                self.redis.ping()
                return
            except redis.exceptions.BusyLoadingError:
                await asyncio.sleep(0.2)  # a long append-only file is being read
            except redis.exceptions.RedisError as error:
                if not self._own_redis:
                    raise UsageError(f"Redis at {self.settings.redis_url} does not answer: {error}") from None
                await asyncio.sleep(0.1)
        raise UsageError(f"Redis did not start:\n{self._children[-1].last_words()}")

    async def _add(self, name: str, command: list[str | Path]) -> None:
        child = Child(name, command, env=self._environment(), log_file=self._log_file(name))
        self._children.append(child)
        await child.start()

    async def _wait_ready(self) -> None:
        api = next(child for child in self._children if child.name == "api")
        self._report("loading the base into vLLM (15 to 60 s)")
        async with httpx.AsyncClient(base_url=self.api_url, timeout=5.0) as client:
            for _ in range(600):
                try:
                    if (await client.get("/ready")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                if api.restarts >= 2:
                    break
                await asyncio.sleep(0.5)
        raise UsageError(f"The API did not become ready; the end of {api.log_file}:\n{api.last_words()}")

    def _log_file(self, name: str) -> Path:
        return self.settings.directory / "logs" / f"{name}.log"

    def _environment(self) -> dict[str, str]:
        return os.environ | self.settings.environment()


_MODULES = {"api": "plumbline.api", "worker": "training.worker", "scheduler": "plumbline.scheduler"}
_STOP_ORDER = ["api", "scheduler", "worker", "redis"]


def check_ports(settings: Settings) -> None:
    """Raises:
    UsageError: a port is taken.
    """
    listening_socket(settings.host, settings.port, variable="PLUMBLINE_PORT").close()
    listening_socket(settings.admin_host, settings.admin_port, variable="PLUMBLINE_ADMIN_PORT").close()
