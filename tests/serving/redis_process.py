"""A Redis of a test's own, that may be stopped, frozen and started again."""

import signal
import subprocess
import time
from pathlib import Path

import redis

from plumbline.embedded_redis import find_server

START_S = 10.0


class RedisProcess:
    """`redis-server` on a unix socket in `directory`, AOF always; its data survives `stop` and `start`.

    Args:
        directory: is made if there is none.
        options: more of its settings, by their names.
    """

    def __init__(self, directory: Path, **options: str) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._options = {"port": "0", "unixsocket": str(directory / "redis.sock"), "dir": str(directory), "save": ""}
        self._options |= {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        self._options |= {"hz": "100", **options}  # it looks for the signal to stop so often a second
        self.url = f"unix://{directory / 'redis.sock'}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            str(find_server()),
            *(part for name, value in self._options.items() for part in (f"--{name}", value)),
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client().ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, (self._directory / "log").read_text()
                time.sleep(0.005)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def freeze(self) -> None:
        """Takes connections and never answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)
