"""One trainer as a subprocess: what it says is understood, and nothing of it outlives its end."""

import os
import sys
import time
from pathlib import Path

import pytest

from tests.processes import is_alive
from training import trainer
from training.trainer import Lost, Outcome, Stopped


def run(code: str, tmp_path: Path, **given: object) -> Outcome:
    options = {"log": tmp_path / "log", "beat": lambda progress: True, "interval_s": 0.05}
    return trainer.run([sys.executable, "-c", code], **(options | given))


def children_of_file(path: Path) -> list[int]:
    return [int(pid) for pid in path.read_text().split()]


def gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(is_alive(pid) for pid in pids)


FAMILY = """
import subprocess, sys, time, pathlib, os
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({path!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep({sleep})
"""


def test_progress_result_and_words(tmp_path):
    """Progress lines are progress, the last other object is the result, all else goes to the log."""
    seen = []
    code = """if True:
        import sys, time
        for i in range(4):
            print('{"progress": %s, "message": "m"}' % (i / 4), flush=True)
            time.sleep(0.1)
        print('{"first": 1}')
        print("by the way")
        print('{"adapter_sha256": "ab"}', end="")
        print("oh", file=sys.stderr)
    """
    outcome = run(code, tmp_path, beat=lambda progress: seen.append(progress) or True)
    assert (outcome.status, outcome.result, outcome.progress) == (0, {"adapter_sha256": "ab"}, 0.75)
    assert seen[0] == 0.0
    assert seen == sorted(seen)
    assert set((tmp_path / "log").read_text().split("\n")) == {"oh", "by the way", ""}


def test_failure_has_its_last_line(tmp_path):
    """An exception's last line is the reason."""
    outcome = run("raise SystemExit(int('x'))", tmp_path)
    assert outcome.status == 1
    assert outcome.last_words == "ValueError: invalid literal for int() with base 10: 'x'"


def test_a_lot_of_output_does_not_block(tmp_path):
    """A megabyte on stdout, without a newline at its end, is taken in."""
    outcome = run("print('x' * 1_000_000, end='')", tmp_path)
    assert outcome.status == 0
    assert (tmp_path / "log").stat().st_size == 1_000_001


def test_closed_stdout_is_not_the_end(tmp_path):
    """A trainer that closes its stdout is still beaten for and waited for."""
    beats = []
    code = "import os, time; os.close(1); time.sleep(0.4); os._exit(7)"
    assert run(code, tmp_path, beat=lambda progress: beats.append(progress) or True).status == 7
    assert len(beats) >= 3


def test_refused_heartbeat_kills_the_group(tmp_path):
    """When the run is lost, trainer and grandchildren are gone before the caller goes on."""
    pids = tmp_path / "pids"
    with pytest.raises(Lost):
        run(FAMILY.format(path=str(pids), sleep=600), tmp_path, beat=lambda progress: not pids.exists())
    assert gone(children_of_file(pids))


def test_stop_kills_the_group(tmp_path):
    """A byte in the pipe stops the trainer, whatever it is doing."""
    pids = tmp_path / "pids"
    read, write = os.pipe()

    def beat(progress: float) -> bool:
        if pids.exists():
            os.write(write, b"x")
        return True

    with pytest.raises(Stopped):
        run(FAMILY.format(path=str(pids), sleep=600), tmp_path, beat=beat, stop=read)
    assert gone(children_of_file(pids))
    os.close(read)
    os.close(write)


def test_grandchildren_end_with_their_trainer(tmp_path):
    """A trainer that ends well may not leave helpers behind, even if they hold its stdout open."""
    pids = tmp_path / "pids"
    assert run(FAMILY.format(path=str(pids), sleep=0), tmp_path).status == 0
    assert gone(children_of_file(pids))


def test_trainer_beside_an_engine_does_not_spin(tmp_path):
    """OpenMP is told to be quiet, unless the environment says otherwise."""
    outcome = run("import os, json; print(json.dumps({'threads': os.environ['OMP_WAIT_POLICY']}))", tmp_path)
    assert outcome.result == {"threads": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
