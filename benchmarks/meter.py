"""Time and peak memory of a block in this process."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_STATUS, _PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Peak resident bytes since `start()`, beyond those at that moment. Linux.

    Pages of files that were touched for the first time since then (code of libraries, mostly) are not counted: which
    run touches them first says nothing of what it needs.
    """

    def start(self) -> None:
        self._before, self._files = _field("VmRSS"), _field("RssFile")
        _PEAK.write_text("5")  # forget the peak so far (man 5 proc)

    def peak(self) -> int:
        return _field("VmHWM") - self._before - max(0, _field("RssFile") - self._files)


class Stopwatch:
    """Seconds in all `running()` blocks together: by the clock, and of processor time (all threads)."""

    seconds = 0.0
    processor = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        started, used = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - started
        self.processor += time.process_time() - used


def _field(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def prepare(threads: int) -> None:
    """Before torch is imported."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
