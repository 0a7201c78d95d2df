"""Fixtures of all tests: a real Redis (AOF always) per session, emptied before each test.

Temporary files are kept in memory where there is room: Redis and our own files are forced to the disk at every write,
which a disk takes milliseconds for. Nothing that tests kill is the machine, so nothing is tested less.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import redis

from core.settings import settings
from tests.serving.redis_process import RedisProcess

MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's own name for where tmp_path is
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)  # nothing here speaks TLS, and each HTTP client reads for 50 ms
hypothesis.settings.register_profile("untimed", deadline=None)  # no test asserts a time: the machine may be busy
hypothesis.settings.load_profile("untimed")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: there is a worker on every core


@pytest.fixture(autouse=True)
def environment_read_anew() -> Iterator[None]:
    """A process reads its settings once; a test is none."""
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The unix:// URL of a Redis server of the test session's own."""
    server = RedisProcess(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_client(redis_server: str) -> Iterator[redis.Redis]:
    """A blocking client on an empty database."""
    with redis.Redis.from_url(redis_server, decode_responses=True) as client:
        client.flushall()
        yield client


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis of the test's own, which it may kill."""
    process = RedisProcess(tmp_path / "redis")
    process.start()
    yield process
    process.stop()
