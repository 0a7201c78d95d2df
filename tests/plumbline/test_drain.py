"""SIGTERM to a replica: what was begun is finished, for as long as PLUMBLINE_DRAIN_S allows."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from core import keys
from tests import stopping
from tests.plumbline.replicas import Deployment
from tests.processes import free_port
from tests.waiting import eventually

PAUSE_S = 0.02  # before each token of an answer
WHOLE = 8


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    """Of one test alone, which stops its replica."""
    with Deployment(tmp_path) as it:
        yield it


@contextmanager
def api_process(deployment: Deployment, **settings: object) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A ready replica's URL and process; killed at the end should it still run."""
    given = {"port": free_port(), "admin_port": free_port(), **settings}
    config = deployment.settings.model_copy(update=given)
    command = [sys.executable, "-m", "tests.plumbline.fake_api_process", str(PAUSE_S)]
    process = subprocess.Popen(command, env=os.environ | config.environment(), cwd=Path(__file__).parents[2])
    url = f"http://127.0.0.1:{config.port}"
    try:
        eventually(lambda: process.poll() is not None or is_ready(url))
        assert process.poll() is None
        yield url, process
    finally:
        process.kill()
        process.wait()


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/ready").status_code == 200
    except httpx.HTTPError:
        return False


async def whole(client: httpx.AsyncClient, tokens: int) -> str:
    """An answer that is not streamed."""
    response = await client.post("/v1/chat/completions", json=stopping.chat(tokens, stream=False))
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def test_sigterm_under_load_cuts_nothing(deployment: Deployment) -> None:
    """32 streams and 8 requests that wait for a whole answer: each ends with its last token and its record, who comes
    later is refused, and the process ends with 0."""
    tokens = 100

    async def scene(url: str, process: subprocess.Popen[bytes]) -> tuple[list[list[str]], list[str]]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:

            async def stop() -> None:
                process.terminate()
                await asyncio.sleep(0.2)
                with pytest.raises(httpx.ConnectError):
                    await client.get("/health")

            answers = [asyncio.create_task(whole(client, tokens)) for _ in range(WHOLE)]
            streams = await stopping.through_a_stop(client, tokens, stop)
            return streams, await asyncio.gather(*answers)

    with api_process(deployment) as (url, process):
        streams, answers = asyncio.run(scene(url, process))
        assert process.wait(timeout=30) == 0

    assert [events[-1] for events in streams] == ["data: [DONE]"] * stopping.STREAMS
    assert {"".join(events).count("assistant@v0 ") for events in streams} == {tokens}
    assert set(answers) == {"assistant@v0 " * tokens}
    client = deployment.store.client()
    states = [client.hget(name, "state") for name in client.scan_iter(keys.completion("*"))]
    assert states == ["complete"] * (stopping.STREAMS + WHOLE)


def test_draining_ends_in_time(deployment: Deployment) -> None:
    """A stream that is longer than the replica may wait is cut off: its client sees no end that was not there."""

    async def scene(url: str, process: subprocess.Popen[bytes]) -> list[list[str]]:
        async def stop() -> None:
            process.terminate()

        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            return await stopping.through_a_stop(client, 3000, stop, streams=1)  # a minute

    with api_process(deployment, drain_s=1.0) as (url, process):
        started = time.monotonic()
        with pytest.raises(httpx.RemoteProtocolError):
            asyncio.run(scene(url, process))
        assert process.wait(timeout=30) == 0
        assert time.monotonic() - started < 3000 * PAUSE_S / 2
