"""The chat API on a real uvicorn server in a thread, with its own event loop, as plumbline/api.py runs it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from core import http
from core.settings import Settings
from serving.app import Serving, attach
from serving.protocol import Engine

T = TypeVar("T")


class LiveServing:
    """One running app: `url`, the `serving` behind it, and `call` to run a coroutine on its loop."""

    def __init__(self, settings: Settings, redis_url: str, build: Callable[[Settings, Path], Engine] | None) -> None:
        app = FastAPI()
        http.install(app, max_body_bytes=settings.max_body_bytes)
        self.serving: Serving = attach(app, settings, redis_url, build_engine=build)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._client = httpx.Client(base_url=self.url, timeout=60)
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), daemon=True)

    async def _run(self) -> None:
        await self.serving.start()
        await self._server.serve(sockets=[self._socket])
        await self.serving.stop()

    def start(self) -> None:
        self._thread.start()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60)
        self._client.close()
        assert not self._thread.is_alive(), [str(task) for task in asyncio.all_tasks(self._loop)]

    def call(self, work: Coroutine[Any, Any, T], *, timeout_s: float = 120.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def wait(self, condition: Callable[[], bool], *, timeout_s: float = 180.0) -> None:
        """Until `condition` holds; what stands in /ready explains a failure."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self.serving.readiness()
            time.sleep(0.02)

    def wait_for_live(self, version: int, **options: float) -> None:
        def live() -> bool:
            residents = self.serving.replica.residents
            return self.serving.ready() and residents is not None and residents.live == version

        self.wait(live, **options)

    def post(self, path: str, body: dict[str, Any], **options: Any) -> httpx.Response:
        return self._client.post(path, json=body, **options)

    def chat(self, content: str = "A dog is", **fields: Any) -> httpx.Response:
        body = {"model": "assistant", "messages": [{"role": "user", "content": content}], "max_tokens": 4}
        return self.post("/v1/chat/completions", body | fields)
