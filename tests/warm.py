"""`python -m MODULE ARGUMENTS` without the seconds that importing torch takes: forks of a server that has imported it.

A start of a trainer costs five to ten seconds of CPU before its first line of work, a start of the command line one or
two, and the tests make a hundred. Each of these processes is a real one, with its own output, status and death; only
its libraries are there already. Tests whose law is about a start itself (what is imported, what outlives what) start a
fresh interpreter with `subprocess`.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_LIBRARIES = [
    "peft",
    "transformers.models.qwen3.modeling_qwen3",
    *("training.job", "training.doubt", "training.dpo_fit", "training.kto_fit", "training.ppo_fit"),
    *("training.reward_report", "feedback.leaderboard", "celery.app.task"),
    *("plumbline.policy_commands", "plumbline.policies", "plumbline.stack", "plumbline.views"),
]
"""What the programs import when they need it."""
_TIMEOUT_S = 120


def start(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, log: Path = Path(os.devnull)
) -> BaseProcess:
    """A process that runs the module as a program; what it says goes to `log`, its complaints to `log` + ".err"."""
    complaints = log if log == Path(os.devnull) else log.with_name(log.name + ".err")
    _SERVER.set_forkserver_preload(_LIBRARIES)  # heard by the first start only
    given = (module, arguments, dict(environment or {}), str(log), str(complaints))
    process = _SERVER.Process(target=_program, args=given)
    process.start()
    return process


def run(module: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The same to its end, as `subprocess.run` would report it."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        process = start(module, *arguments, environment=environment, log=log)
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
        said, complained = (path.read_text() for path in (log, log.with_name("log.err")))
        assert process.exitcode is not None
        return subprocess.CompletedProcess([module, *arguments], process.exitcode, said, complained)


def _program(module: str, arguments: tuple[str, ...], environment: dict[str, str], log: str, complaints: str) -> None:
    for number, path in ((1, log), (2, complaints)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # it runs as a program, also where another module had imported it
    runpy.run_module(module, run_name="__main__", alter_sys=True)
