"""Time and peak memory of a block in this process."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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


@contextlib.contextmanager
def family() -> Iterator[Callable[[], int]]:
    """Of this process and those that it forks, the most bytes that they held together: pages that they share count
    once. Looked at twice a second, from another process."""
    context = multiprocessing.get_context("spawn")
    peak = context.Value("q", 0)
    watcher = context.Process(target=_watch, args=(os.getpid(), peak))
    watcher.start()
    try:
        yield lambda: int(peak.value)
    finally:
        watcher.terminate()
        watcher.join()


def _watch(parent: int, peak: Any) -> None:
    while True:
        found = [int(it) for path in Path(f"/proc/{parent}/task").glob("*/children") for it in path.read_text().split()]
        peak.value = max(peak.value, sum(_share(it) for it in (parent, *found) if it != os.getpid()))
        time.sleep(0.5)


def _share(process: int) -> int:
    """Bytes that it holds, of a page that several share its part; 0 if it has ended, or is another program."""
    here = Path("/proc")
    try:
        if (here / f"{process}/exe").readlink() != (here / "self/exe").readlink():
            return 0
        lines = (here / f"{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _field(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


def prepare(threads: int) -> None:
    """Before torch is imported."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
