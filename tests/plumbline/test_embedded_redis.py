"""The stack's own Redis."""

from pathlib import Path

import pytest

from core.errors import UsageError
from plumbline import embedded_redis


def test_every_vote_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """AOF with `always`, nothing evicted, no TCP port, a private directory."""
    command = [str(part) for part in embedded_redis.command(tmp_path / "redis")]
    options = dict(zip(command[1::2], command[2::2], strict=True))

    assert {name: options[f"--{name}"] for name in ("appendonly", "appendfsync", "maxmemory-policy", "port")} == {
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "port": "0",
    }
    assert (tmp_path / "redis").stat().st_mode & 0o777 == 0o700


def test_long_directories_get_a_short_socket(tmp_path: Path) -> None:
    """A unix socket's path may hold about 100 bytes: a deep home must not stop Redis."""
    assert embedded_redis.socket_path(Path("/home/ada")) == Path("/home/ada/redis.sock")
    assert len(str(embedded_redis.socket_path(tmp_path / ("x" * 120)))) < 100


def test_no_server_says_what_to_install(tmp_path: Path) -> None:
    """Without any binary there is an error with the one-line install, never a fall-back to memory."""
    with pytest.raises(UsageError, match="apt-get install redis-server"):
        embedded_redis.find_server(search_path=str(tmp_path), bundled=tmp_path)
