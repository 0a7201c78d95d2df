"""Whole API processes' worth of apps over the fake engine, several on one Redis, each on threads of its own."""

import asyncio
import socket
import threading
import time
from pathlib import Path

import httpx
import uvicorn

from core import api_keys, secret
from core.access import Limits, Scope
from core.settings import Settings
from plumbline.api import Api, server
from tests.serving import fake, policies
from tests.serving.redis_process import RedisProcess
from tests.waiting import eventually


class Replica:
    """Both listeners of one API on a loop of its own; `url` and `admin_url` once `start` has returned."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.engine = fake.FakeEngine()
        self._sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.url, self.admin_url = (f"http://127.0.0.1:{it.getsockname()[1]}" for it in self._sockets)
        self._servers: list[uvicorn.Server] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)
        self.api: Api

    async def _run(self) -> None:
        self.api = api = Api(self._settings, build_engine=lambda settings, base: self.engine)
        self._servers = [server(app, self._settings) for app in (api.public, api.admin)]
        async with api.keys_kept():
            await api.serving.start()
            self._ready.set()
            serving = zip(self._servers, self._sockets, strict=True)
            await asyncio.gather(*(each.serve(sockets=[place]) for each, place in serving))
            await api.serving.stop()
            await api.feedback.stop()

    def start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + 120
        while not (self._ready.is_set() and all(each.started for each in self._servers)):
            assert time.monotonic() < deadline and self._thread.is_alive()
            time.sleep(0.02)
        while httpx.get(f"{self.url}/ready").status_code != 200:
            assert time.monotonic() < deadline, httpx.get(f"{self.url}/ready").text
            time.sleep(0.05)

    def knows(self, key_id: str) -> None:
        """Waits until it has read of an API key. Before its first one everybody is the deployment, without limits."""
        eventually(lambda: key_id in (self.api.keys.known or {}))

    def stop(self) -> None:
        self.engine.gate.set()
        for each in self._servers:
            each.should_exit = True
        self._thread.join(timeout=120)
        assert not self._thread.is_alive()


class Deployment:
    """A Redis, a base, version 0 live, and as many replicas as are started; all of it ends with the block."""

    def __init__(self, directory: Path) -> None:
        self.store = RedisProcess(directory / "redis")
        self.store.start()
        base = fake.write_base(directory / "base")
        artifacts = directory / "artifacts"
        self.settings = Settings(
            home=directory / "home", base=str(base), redis_url=self.store.url, artifacts_url=str(artifacts)
        )
        policies.initialise(self.store.client(), fake.publish(artifacts, base, number=1))
        self.secret = secret.secret(self.settings)
        secret.check(self.store.client(), self.secret)
        self.replicas: list[Replica] = []

    def replica(self, **settings: object) -> Replica:
        started = Replica(self.settings.model_copy(update=settings))
        self.replicas.append(started)
        started.start()
        return started

    def key(
        self, *scopes: Scope, tenant: str = "", limits: Limits | None = None, expires: float | None = None
    ) -> tuple[str, str]:
        """A fresh key: its token and its id."""
        token, key = api_keys.mint(
            self.secret,
            name="test",
            scopes=list(scopes),
            actor="test",
            tenant=tenant,
            limits=limits,
            expires=expires,
        )
        api_keys.create(self.store.client(), key)
        return token, key.id

    def __enter__(self) -> "Deployment":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        for each in self.replicas:
            each.stop()
        self.store.stop()


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def chat(url: str, token: str, **fields: object) -> httpx.Response:
    body = {"model": "assistant", "messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 4}
    headers = bearer(token) if token else {}
    return httpx.post(f"{url}/v1/chat/completions", json=body | fields, headers=headers, timeout=30)
