"""The real worker with small programs in the trainers' place: `python stand_in_worker.py`, for tests that kill it."""

import sys
from pathlib import Path

from core.records import GateReport, Verdict
from core.redis import connect
from core.settings import settings
from training import pipeline, worker
from training.stages import Round, Stage

ADAPTER = "ad" * 32
COUNT = "import sys, pathlib; open(pathlib.Path(sys.argv[1]).parents[1] / (sys.argv[2] + '.starts'), 'a').write('x')"
WAIT = """if True:
    import os, pathlib, sys, time
    home = pathlib.Path(sys.argv[1]).parents[1]
    (home / "pid").write_text(str(os.getpid()))
    while not (home / "go").exists():
        time.sleep(0.05)
"""


def stage(name: str, code: str) -> Stage:
    return Stage(name=name, command=lambda round_, out: [sys.executable, "-c", f"{COUNT}\n{code}", out, name])


def evaluate(round_: Round, out: Path) -> list[str | Path]:
    gate = GateReport(verdict=Verdict.PASS, live_version=round_.run.parent, checks=[], summary="s")
    code = f"import sys, pathlib; pathlib.Path(sys.argv[1], 'gate.json').write_text({gate.to_json()!r})"
    return [sys.executable, "-c", code, out]


STAGES = [
    stage("reward", ""),
    stage("candidate", WAIT),
    stage("publish", f'print(\'{{"adapter_sha256": "{ADAPTER}"}}\')'),
    Stage(name="evaluate", command=evaluate),
]


worker.app.tasks.unregister(worker.RUN_ROUND)


@worker.app.task(name=worker.RUN_ROUND)
def run_round(run_id: str) -> None:
    with connect(settings().redis_url) as client:
        pipeline.run_round(client, settings(), run_id, stages=STAGES, stop=worker._STOP_READ)


if __name__ == "__main__":
    sys.exit(worker.main())
