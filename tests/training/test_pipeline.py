"""One round over a real Redis, with small real programs in the trainers' place."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from core import keys, registry, releases, tracing
from core.adapters import MANIFEST
from core.records import (
    AdapterManifest,
    Choices,
    GateReport,
    OpenPairs,
    PolicyState,
    PolicyVersion,
    RunState,
    Verdict,
    VersionDoubt,
)
from core.settings import Settings
from tests.core import otlp
from training import pipeline, runs
from training.recipe import Recipe
from training.stages import Round, Stage

WRITE_OUT = "import sys, pathlib; pathlib.Path(sys.argv[1], 'out').write_text(str(len(sys.argv)))"


def python(name: str, code: str) -> Stage:
    """A stage that runs `code` with its directory as the one argument."""
    return Stage(name=name, command=lambda round_, out: [sys.executable, "-c", code, out])


def gate_stage(verdict: Verdict = Verdict.PASS) -> Stage:
    """Writes the gate report of an evaluation against the run's parent."""

    def command(round_: Round, out: Path) -> list[str | Path]:
        gate = GateReport(verdict=verdict, live_version=round_.run.parent, checks=[], summary="s")
        code = f"import sys, pathlib; pathlib.Path(sys.argv[1], 'gate.json').write_text({gate.to_json()!r})"
        return [sys.executable, "-c", code, out]

    return Stage(name="evaluate", command=command)


ADAPTER = "ad" * 32
PUBLISH = python("publish", f'print(\'{{"adapter_sha256": "{ADAPTER}"}}\')')
GOOD = [python("reward", WRITE_OUT), python("candidate", WRITE_OUT), PUBLISH, gate_stage()]


def put_adapter(artifacts: Path, sha256: str) -> None:
    manifest = AdapterManifest(
        sha256=sha256, base_sha256="b", tokenizer_sha256="t", rank=1, serving_dtype="float32", probe=[]
    )
    directory = artifacts / "adapters" / sha256
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text(manifest.to_json())


@pytest.fixture
def config(tmp_path: Path, redis_client: redis.Redis) -> Settings:
    """A deployment with version 0 live, and the adapter that the stages "train"."""
    (tmp_path / "base").mkdir()
    config = Settings(home=tmp_path, base=str(tmp_path / "base"), lease_s=30)
    zero = {"version": 0, "parent": None, "base_sha256": "b", "adapter_sha256": "00" * 32, "method": "zero"}
    registry.initialise(redis_client, PolicyVersion(**zero, created=1.0, state=PolicyState.LIVE), actor="test")
    put_adapter(config.artifacts, "00" * 32)
    put_adapter(config.artifacts, ADAPTER)
    return config


@pytest.fixture
def run_id(redis_client: redis.Redis, config: Settings) -> str:
    run = runs.planned(snapshot="s", parent=0, recipe=Recipe().model_dump_json(), last_vote=1.0)
    runs.create(redis_client, run, votes=1)
    return run.id


def go(client: redis.Redis, config: Settings, run_id: str, stages: list[Stage], **given: Any) -> Any:
    return pipeline.run_round(client, config, run_id, stages=stages, **given)


def other_goes_live(client: redis.Redis) -> None:
    """Another run publishes the next version."""
    client.hset(keys.run("other"), mapping={"state": "running", "attempt": 1})
    client.hdel(keys.run("other"), "version")
    live = registry.state(client).live
    gate = GateReport(verdict=Verdict.PASS, live_version=live, checks=[], summary="s")
    candidate = registry.policy(client, 0).model_copy(update={"parent": live, "method": "dpo"})
    version = registry.publish(client, candidate, gate, run="other", attempt=1)
    releases.promote(client, f"rel_{version}", reason="test", actor="test")


def test_round_ends_in_an_open_release(redis_client, config, run_id):
    """All stages finished: the candidate is registered with its lineage, its release is open, and the run is done."""
    run = go(redis_client, config, run_id, GOOD)
    assert (run.state, run.version, run.verdict, run.attempt) == (RunState.DONE, 1, "pass", 1)
    policy = registry.policy(redis_client, 1)
    assert (policy.parent, policy.snapshot, policy.run, policy.adapter_sha256) == (0, "s", run_id, ADAPTER)
    assert (policy.state, policy.base_sha256, policy.gate.verdict) == (PolicyState.CANARY, "b", "pass")
    release = releases.current(redis_client)
    assert (release.version, release.against, registry.state(redis_client).live) == (1, 0, 0)
    directory = config.artifacts / "runs" / run_id
    assert (directory / "reward" / "out").read_text() == "2"
    assert json.loads((directory / "publish" / "result.json").read_text()) == {"adapter_sha256": ADAPTER}
    assert json.loads((directory / "steps.json").read_text()) == []
    names = {path.name for path in (directory / "attempt-1").iterdir()}
    assert names == {"reward.log", "candidate.log", "publish.log", "evaluate.log"}


def test_rejected_candidate_is_kept_and_not_served(redis_client, config, run_id):
    """A gate that fails ends the run just as well; the version is there, rejected."""
    run = go(redis_client, config, run_id, [*GOOD[:3], gate_stage(Verdict.FAIL)])
    assert (run.state, run.version, run.verdict) == (RunState.DONE, 1, "fail")
    assert registry.policy(redis_client, 1).state is PolicyState.REJECTED
    assert registry.state(redis_client).live == 0


def test_only_one_works_on_a_run(redis_client, config, run_id):
    """A doorbell for a run that is held, ended or unknown does nothing."""
    runs.claim(redis_client, run_id, "somebody", 1000)
    assert go(redis_client, config, run_id, GOOD) is None
    assert go(redis_client, config, "unknown", GOOD) is None


def test_failed_stage_fails_the_run_with_its_last_words(redis_client, config, run_id):
    """The reason names the stage and ends with what it said last; later stages are not started."""
    broken = python("candidate", "import sys; print('bad recipe', file=sys.stderr); sys.exit(2)")
    run = go(redis_client, config, run_id, [GOOD[0], broken, *GOOD[2:]])
    assert (run.state, run.reason) == (RunState.FAILED, "candidate: bad recipe")
    directory = config.artifacts / "runs" / run_id
    assert [(directory / name).exists() for name in ("reward", "candidate", "publish")] == [True, False, False]


def test_killed_stage_says_so(redis_client, config, run_id):
    """A trainer that the kernel killed has no last words; the signal is the reason."""
    run = go(redis_client, config, run_id, [python("reward", "import os; os.kill(os.getpid(), 9)")])
    assert (run.state, run.reason) == (RunState.FAILED, "reward: killed by signal 9")


def test_skipped_stage_skips_the_run_with_its_reason(redis_client, config, run_id):
    """Exit status 3: nothing to train on, which is no failure."""
    skip = python("reward", 'import sys; print(\'{"skipped": "every vote is a tie"}\'); sys.exit(3)')
    run = go(redis_client, config, run_id, [skip])
    assert (run.state, run.reason) == (RunState.SKIPPED, "reward: every vote is a tie")


@pytest.mark.parametrize("missing", ["base", "adapter"])
def test_missing_files_fail_the_run(redis_client, config, run_id, missing):
    """A worker without the base or the parent's adapter says which one, once, instead of trying for ever."""
    if missing == "base":
        config = config.model_copy(update={"base": str(config.home / "nowhere")})
    else:
        (config.artifacts / "adapters" / ("00" * 32) / MANIFEST).unlink()
    run = go(redis_client, config, run_id, GOOD)
    assert run.state is RunState.FAILED
    assert {"base": "PLUMBLINE_BASE", "adapter": "adapter of version 0"}[missing] in run.reason


def test_next_attempt_skips_what_is_finished(redis_client, config, run_id):
    """After a worker vanished the finished stages stand, and its unfinished one is done anew."""
    marks = config.home / "marks"
    count = f"open({str(marks)!r}, 'a').write('r')"
    stages = [python("reward", count), python("candidate", "import time; time.sleep(600)"), *GOOD[2:]]
    stop, write = os.pipe()

    def started(round_: Round, out: Path) -> list[str | Path]:
        os.write(write, b"x")
        return stages[1].command(round_, out)

    given_back = go(redis_client, config, run_id, [stages[0], Stage(name="candidate", command=started)], stop=stop)
    assert (given_back.state, given_back.attempt) == (RunState.QUEUED, 1)
    assert not (config.artifacts / "runs" / run_id / "candidate").exists()
    run = go(redis_client, config, run_id, [stages[0], *GOOD[1:]])
    assert (run.state, run.attempt, marks.read_text()) == (RunState.DONE, 2, "r")
    os.close(stop)
    os.close(write)


def test_cancelled_run_stops_and_stays_cancelled(redis_client, config, run_id):
    """Cancelled while a stage runs: the trainer is killed at the next heartbeat and nothing is registered."""

    def command(round_: Round, out: Path) -> list[str | Path]:
        runs.cancel(redis_client, run_id, actor="cli:ann", reason="by hand")
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    run = go(redis_client, config, run_id, [Stage(name="reward", command=command)])
    assert (run.state, run.reason) == (RunState.CANCELLED, "cancelled by cli:ann: by hand")
    assert [policy.version for policy in registry.policies(redis_client)] == [0]


def test_zombie_commits_nothing(redis_server, redis_client, config, run_id):
    """An attempt that is fenced off during its last stage registers nothing, and leaves run and files alone."""
    takeover = f"""if True:
        import redis
        with redis.Redis.from_url({redis_server!r}) as client:
            client.hset({keys.run(run_id)!r}, mapping={{"attempt": 2, "owner": "next"}})
    """
    run = go(redis_client, config, run_id, [*GOOD, python("afterwards", takeover)])
    assert (run.state, run.attempt, run.owner) == (RunState.RUNNING, 2, "next")
    assert [policy.version for policy in registry.policies(redis_client)] == [0]
    assert (config.artifacts / "runs" / run_id / "evaluate").exists()


def test_live_policy_moved_before_the_commit(redis_client, config, run_id):
    """Evaluated against a policy that is no longer live: refused, and a retry redoes all but the reward model."""

    def command(round_: Round, out: Path) -> list[str | Path]:
        command_line = gate_stage().command(round_, out)
        other_goes_live(redis_client)
        return command_line

    run = go(redis_client, config, run_id, [*GOOD[:3], Stage(name="evaluate", command=command)])
    assert run.state is RunState.FAILED
    assert run.reason.startswith("version 1 went live while the gate compared with version 0")
    directory = config.artifacts / "runs" / run_id
    kept = [(directory / name).exists() for name in ("reward", "candidate", "publish", "evaluate")]
    assert kept == [True, False, False, False]

    runs.retry(redis_client, run_id, actor="test", reason="test")
    run = go(redis_client, config, run_id, GOOD)
    assert (run.state, run.version, run.parent, run.attempt) == (RunState.DONE, 2, 1, 2)
    assert registry.policy(redis_client, 2).parent == 1


def test_another_candidate_is_on_its_way(redis_client, config, run_id):
    """One release at a time: the run is done, and its candidate waits for that release's end."""
    candidate = registry.policy(redis_client, 0).model_copy(update={"parent": 0, "method": "dpo"})
    redis_client.hset(keys.run("other"), mapping={"state": "running", "attempt": 1})
    gate = GateReport(verdict=Verdict.PASS, live_version=0, checks=[], summary="s")
    registry.publish(redis_client, candidate, gate, run="other", attempt=1)
    run = go(redis_client, config, run_id, GOOD)
    assert (run.state, run.version, releases.current(redis_client).id) == (RunState.DONE, 2, "rel_1")
    assert registry.policy(redis_client, 2).state is PolicyState.CANDIDATE
    releases.end(redis_client, "rel_1", state="kept", reason="test", actor="test")
    assert registry.waiting(redis_client).version == 2


def test_live_policy_moved_before_a_stage(redis_client, config, run_id):
    """What would be measured against the wrong policy is not trained at all."""
    other_goes_live(redis_client)
    run = go(redis_client, config, run_id, GOOD)
    assert run.state is RunState.FAILED
    assert run.reason.startswith("version 1 is live now, and this run started from version 0")
    assert not (config.artifacts / "runs" / run_id / "reward").exists()


def test_retry_drops_what_was_made_from_another_parent(redis_client, config, run_id):
    """A candidate of the old parent never meets the new one, whatever the first attempt failed of."""
    broken = python("evaluate", "import sys; sys.exit('no memory')")
    assert go(redis_client, config, run_id, [*GOOD[:3], broken]).reason == "evaluate: no memory"
    other_goes_live(redis_client)
    runs.retry(redis_client, run_id, actor="test", reason="test")
    again = python("candidate", "import sys, pathlib; pathlib.Path(sys.argv[1], 'out').write_text('new')")
    assert go(redis_client, config, run_id, [GOOD[0], again, *GOOD[2:]]).state is RunState.DONE
    assert (config.artifacts / "runs" / run_id / "candidate" / "out").read_text() == "new"


COUNTS_ATTEMPTS = """
import os, pathlib, signal, sys
checkpoint = pathlib.Path(sys.argv[1], "checkpoint.pt")
done = int(checkpoint.read_text()) if checkpoint.exists() else 0
checkpoint.write_text(str(done + 1))
if done < 2:
    END
pathlib.Path(sys.argv[1], "out").write_text(str(done))
"""


@pytest.mark.parametrize(
    ("end", "reasons"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", ["killed by signal 9", "killed by signal 9"]),
        ("sys.exit('no')", ["no", "no", "no"]),
    ],
)
def test_a_killed_trainer_goes_on(redis_client, config, run_id, end, reasons):
    """Killed, it finds its checkpoint in the next attempt; one that failed by itself starts from the beginning, since
    it would fail again."""
    stages = [GOOD[0], python("candidate", COUNTS_ATTEMPTS.replace("END", end)), *GOOD[2:]]
    for reason in reasons:
        assert go(redis_client, config, run_id, stages).reason == f"candidate: {reason}"
        runs.retry(redis_client, run_id, actor="test", reason="test")

    if len(reasons) == 2:
        assert go(redis_client, config, run_id, stages).state is RunState.DONE
        assert (config.artifacts / "runs" / run_id / "candidate" / "out").read_text() == "2"


def test_a_checkpoint_of_another_parent_is_not_gone_on_from(redis_client, config, run_id):
    """What was begun from the old parent is dropped with it."""
    killed = COUNTS_ATTEMPTS.replace("END", "os.kill(os.getpid(), signal.SIGKILL)")
    assert go(redis_client, config, run_id, [GOOD[0], python("candidate", killed)]).state is RunState.FAILED
    other_goes_live(redis_client)
    runs.retry(redis_client, run_id, actor="test", reason="test")
    once = "import os, pathlib, sys; pathlib.Path(sys.argv[1], 'out').write_text(str(len(os.listdir(sys.argv[1]))))"
    assert go(redis_client, config, run_id, [GOOD[0], python("candidate", once), *GOOD[2:]]).state is RunState.DONE
    assert (config.artifacts / "runs" / run_id / "candidate" / "out").read_text() == "0"


def choice_stage(end: str = "") -> Stage:
    """Leaves one pair of answers to ask about."""
    versions = VersionDoubt(versions=[0, 1], covariance=[[1.0, 0.0], [0.0, 1.0]], prior=1.0)
    pairs = OpenPairs(pairs=[("chatcmpl-1", "chatcmpl-2")], scores=[0.3])
    said = Choices(versions=versions, clusters={}, open_pairs=pairs, members=2).to_json()
    return python("choice", f"import sys, pathlib; pathlib.Path(sys.argv[1], 'choices.json').write_text({said!r}){end}")


def test_what_to_ask_next_is_left_when_the_round_has_ended(redis_client, config, run_id):
    """It stands in the run's directory and in Redis, with the version that the run registered."""
    run = go(redis_client, config, run_id, GOOD, choice=choice_stage())
    assert (run.state, run.version) == (RunState.DONE, 1)
    found = redis_client.hgetall(keys.CHOICES)
    assert (found["run"], found["policy_version"]) == (run_id, "1")
    assert VersionDoubt.model_validate_json(found["versions"]).of(0, 1) == 2.0
    assert OpenPairs.model_validate_json(found["pairs"]).scores == [0.3]
    assert (config.artifacts / "runs" / run_id / "choice" / "choices.json").exists()


@pytest.mark.parametrize("broken", [choice_stage("; sys.exit(1)"), python("choice", "pass")])
def test_advice_that_fails_costs_nothing_else(redis_client, config, run_id, broken):
    """The program fails, or leaves no file: the round is done all the same, and what an earlier one left stays."""
    redis_client.hset(keys.CHOICES, "run", "earlier")
    run = go(redis_client, config, run_id, GOOD, choice=broken)
    assert (run.state, run.version, registry.state(redis_client).canary) == (RunState.DONE, 1, 1)
    assert redis_client.hgetall(keys.CHOICES) == {"run": "earlier"}


def test_a_round_that_fails_leaves_no_advice(redis_client, config, run_id):
    """Without a commit there is nothing after it."""
    go(redis_client, config, run_id, [python("reward", "import sys; sys.exit(1)")], choice=choice_stage())
    assert not redis_client.exists(keys.CHOICES)


def test_every_stage_is_a_span(redis_client: redis.Redis, config: Settings, run_id: str) -> None:
    """In a worker that traces: which stage of which attempt, how long it took, and how its program ended."""
    with otlp.listening() as collector:
        tracing.start(Settings(otlp_endpoint=collector.url), "worker")
        try:
            with tracing.span("run", {"plumbline.run.id": run_id}):
                go(redis_client, config, run_id, [*GOOD[:1], python("candidate", "raise SystemExit(4)")])
        finally:
            tracing.stop()
    (run,), (reward,), (candidate,) = (collector.named(name) for name in ("run", "stage reward", "stage candidate"))
    assert {reward.parent_id, candidate.parent_id} == {run.span_id}
    assert reward.attributes == {"plumbline.run.attempt": 1, "process.exit.code": 0}
    assert candidate.attributes["process.exit.code"] == 4
    assert (reward.service, run.attributes) == ("plumbline-worker", {"plumbline.run.id": run_id})
