"""A stand-in for scheduler, worker and release controller, at the seam that the demo looks at: Redis."""

import json
import threading
from collections.abc import Callable

import redis

from core import keys, registry, releases
from core.evidence import Evidence
from core.records import GateReport, PolicyState, PolicyVersion, RunState, SnapshotManifest, Verdict
from core.settings import Settings
from tests.lab.fake_service import FakeService
from tests.waiting import eventually
from training import runs


class FakeLearner:
    """Notices votes, runs "training" in a thread through the real run and registry scripts, and swaps the service.

    Args:
        settings: the demo's: how many votes start a run, and where artifacts are.
        verdicts: of the gate, a round each.
        printed: what the demo has said so far.
    """

    def __init__(
        self,
        service: FakeService,
        client: redis.Redis,
        settings: Settings,
        verdicts: list[Verdict],
        printed: Callable[[], str],
    ) -> None:
        self.service, self.client, self.settings, self.printed = service, client, settings, printed
        self.verdicts = iter(verdicts)
        self.rounds = max(1, len(verdicts))
        """Votes that are still under way when the last round's run ends start no further one."""
        self.votes = self.used = 0
        self.end = "promoted"
        """How releases end; `open`: not at all."""
        self.failure = ""
        """If set, the next run fails for this reason."""
        self.threads: list[threading.Thread] = []
        zero = PolicyVersion(
            version=0,
            parent=None,
            base_sha256="b",
            adapter_sha256="a",
            method="zero",
            created=0.0,
            state=PolicyState.LIVE,
        )
        registry.initialise(client, zero, actor="test")
        service.on_preference = self.notice

    def notice(self) -> None:
        self.votes += 1
        if len(self.threads) == self.rounds:
            return
        is_idle = not runs.active(self.client) and releases.current(self.client) is None
        if self.votes - self.used >= self.settings.min_votes and is_idle:
            self.used = self.votes
            run_id = self.queue()
            self.threads.append(threading.Thread(target=self.learn, args=[run_id]))
            self.threads[-1].start()

    def queue(self) -> str:
        """Every vote is a row but one in each round, which is dropped."""
        number = len(self.threads) + 1
        manifest = SnapshotManifest(
            id=f"snapshot-{number}",
            created=0.0,
            last_event="1-0",
            rows=self.votes - number,
            rows_by_fold={"optimize": self.votes - number},
            policy_rows=10 * number,
            prompts=5,
            dropped={"identical": number},
            thumbs=3 * number,
            live_version=self.service.live,
            base_sha256="b",
            tokenizer_sha256="t",
        )
        directory = self.settings.artifacts / "snapshots" / manifest.id
        directory.mkdir(parents=True)
        (directory / "manifest.json").write_text(manifest.to_json())
        seconds, _ = self.client.time()
        run = runs.planned(snapshot=manifest.id, parent=self.service.live, recipe="{}", last_vote=float(seconds))
        assert runs.create(self.client, run, votes=self.votes) == "created"
        return run.id

    def outlast_the_votes(self, run_id: str) -> None:
        """Real training takes longer than the raters take to notice it; they must not vote the next run into being."""
        self.wait_for(f"started run {run_id[:8]}")
        self.used = self.votes

    def wait_for(self, said: str) -> None:
        """Until the demo has printed it."""
        eventually(lambda: said in self.printed())

    def learn(self, run_id: str) -> None:
        run = runs.claim(self.client, run_id, "worker", 60.0)
        assert run is not None
        runs.heartbeat(self.client, run_id, run.attempt, "reward", 0.5, 60.0)
        self.outlast_the_votes(run_id)
        if self.failure:
            runs.finish(self.client, run_id, run.attempt, RunState.FAILED, self.failure)
            return
        directory = self.settings.artifacts / "runs" / run_id / "reward"
        directory.mkdir(parents=True)
        (directory / "reward.json").write_text(json.dumps({"test_accuracy": 0.7, "head": "surprise"}))
        self.service.broken = ""
        verdict = next(self.verdicts)
        metrics = {"kl_to_parent": 0.5, "kl_to_base": 0.8, "mean_tokens": 9.0}
        gate = GateReport(verdict=verdict, live_version=run.parent, checks=[], metrics=metrics, summary="for a test")
        candidate = PolicyVersion(
            version=-1,
            parent=run.parent,
            base_sha256="b",
            adapter_sha256="a",
            method="dpo",
            snapshot=run.snapshot,
            run=run_id,
            gate=gate,
            created=0.0,
            state=PolicyState.CANDIDATE,
        )
        version = registry.publish(self.client, candidate, gate, run=run_id, attempt=run.attempt)
        if verdict is Verdict.PASS:
            self.decide(f"rel_{version}")
        if verdict is Verdict.PASS and self.end == "promoted":
            self.service.resident = sorted({0, self.service.live, version})
            self.service.live = version

    def decide(self, release_id: str) -> None:
        """Five more votes, and the release is what the test wants it to be."""
        if self.end == "open":
            return
        target = self.votes + 5
        eventually(lambda: self.votes >= target - 3)
        releases.advance(self.client, release_id, from_stage=releases.FIRST, reason="it is quiet")
        self.wait_for("10% of end users: it is quiet")
        eventually(lambda: self.votes >= target)
        found = Evidence(release=release_id, position="1-0", wins=4, losses=1, log10_e=1.5)
        self.client.hset(keys.release_evidence(release_id), "record", found.to_json())
        self.used = self.votes
        if self.end == "promoted":
            releases.promote(self.client, release_id, reason="e = 32", actor="scheduler")
        else:
            releases.end(self.client, release_id, state="rolled_back", reason="e = 40 against", actor="scheduler")
