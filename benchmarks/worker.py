"""A process that holds one side's libraries and runs each piece of work in a process of its own.

Importing a side's libraries takes longer than many of the runs. So `serve` imports them once and forks for every line
that it reads: a path of a work file. The outcome is written beside it. Nothing that one run leaves behind (allocator,
thread pools, peak memory) reaches the next.
"""

import contextlib
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel

from benchmarks.workload import Outcome

_ROOT = Path(__file__).parents[1]


class Worker:
    """The caller's end: `with Worker("benchmarks.own_worker", scratch) as own: own.run(work)`.

    Args:
        module: its `main` calls `serve`.
        path: a directory that Python looks into first.
    """

    def __init__(self, module: str, scratch: Path, *, threads: int, path: Path | None = None) -> None:
        self.module, self._scratch, self._number = module, scratch, 0
        scratch.mkdir(parents=True, exist_ok=True)
        self._log = (scratch / "log").open("w+", encoding="utf-8")
        search = [str(path)] if path else []
        environment: Mapping[str, str] = os.environ | {
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONPATH": os.pathsep.join([*search, str(_ROOT)]),
            "HF_DATASETS_CACHE": str(scratch / "datasets"),
            "HF_HUB_OFFLINE": "1",
            "TRL_EXPERIMENTAL_SILENCE": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def run(self, work: BaseModel) -> Outcome:
        """Waits for it.

        Raises:
            SystemExit: the run failed; ends with what it printed last.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._number += 1
        file = self._scratch / f"{self._number}.json"
        file.write_text(work.model_dump_json(), encoding="utf-8")
        print(file, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if answer.strip() != "0":
            self._log.seek(0)
            raise SystemExit(f"{self.module} failed:\n{self._log.read()[-3000:]}")
        return Outcome.model_validate_json(_outcome(file).read_text(encoding="utf-8"))


def serve(run: Callable[[str], Outcome]) -> None:
    """The worker's end, until the caller closes the pipe.

    Args:
        run: takes a work file's text.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_attempt(run, Path(line.strip())))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


def _attempt(run: Callable[[str], Outcome], file: Path) -> int:
    """The child's exit status; whatever went wrong stands in the log."""
    try:
        _outcome(file).write_text(run(file.read_text(encoding="utf-8")).model_dump_json(), encoding="utf-8")
    except BaseException:  # a forked child must not go on in its parent's loop
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _outcome(file: Path) -> Path:
    return file.with_suffix(".outcome")
