"""A deployment that has been through four rounds, for the tests and the pictures of the console.

What a trainer would have measured is made up; votes, releases, evidence and quarantines are written by the code that
writes them in service.
"""

import math
import random
from pathlib import Path

import redis

from core import evidence, keys, registry, releases
from core.records import (
    GateReport,
    PolicyState,
    PolicyVersion,
    RaterReport,
    RunState,
    Share,
    SharedHabit,
    SnapshotManifest,
    TrustReport,
    Verdict,
    now,
)
from core.releases import Release
from feedback import rater_review, verdicts
from feedback.archive import Archive
from plumbline import release as controller
from tests.feedback.conftest import completion_record
from tests.plumbline import releasing
from tests.plumbline.replicas import Deployment
from tests.serving import fake
from training import runs
from training.recipe import Recipe
from training.reward_card import Accuracy, Calibration, NoiseCeiling, Prequential, RewardCard

LIVE, CANDIDATE = 2, 4
"""Version 3 was rejected by its gate; the release of version 4 is at 10 %."""
LOG = "".join(f"step {at:3}  loss {0.69 - at / 900:.4f}  accuracy {0.5 + at / 600:.3f}\n" for at in range(0, 96, 4))


def lived_in(directory: Path) -> Deployment:
    """Version 0, then 1 and 2, each promoted by people's votes; 3 rejected; 4 on its way. One run failed."""
    deployment = Deployment(directory)
    client = deployment.store.client()
    _failed_run(client)
    for number, (people, preferred) in enumerate([(96, 0.72), (240, 0.61)], start=1):
        _round(deployment, number)
        votes(deployment, number, people=people, preferred=preferred)
        releases.promote(client, f"rel_{number}", reason="people prefer it: e = 24.1", actor="scheduler")
    _round(deployment, 3, verdict=Verdict.FAIL)
    _round(deployment, CANDIDATE)
    releases.advance(client, f"rel_{CANDIDATE}", from_stage=1, reason="guardrails are quiet after 25 answers")
    votes(deployment, CANDIDATE, people=140, preferred=0.6)
    _raters(client)
    client.hset(
        keys.FEEDBACK_COUNTS, mapping={"thumb": 3120, "rating": 214, "correction": 96, "flag": 7, "comment": 58}
    )
    client.hset(keys.FEEDBACK_COUNTS, mapping={"preference": 1449, "ranking": 131})
    client.hset(keys.REGENERATED, mapping={"0": 61, "1": 33, "2": 18})
    plan = {"votes_new": 127, "min_votes": 300, "next_check": now() + 3600, "last_reason": "release rel_4 is open"}
    client.hset(keys.SCHEDULER, mapping=plan)
    return deployment


def running(client: redis.Redis) -> str:
    """A run that a worker is at; its id."""
    planned = runs.planned(snapshot="e" * 32, parent=LIVE, recipe=Recipe(seed=7).model_dump_json(), last_vote=now())
    assert runs.create(client, planned, votes=2000) == "created"
    claimed = runs.claim(client, planned.id, "worker-1:4711", 3600.0)
    assert claimed is not None
    runs.heartbeat(client, planned.id, claimed.attempt, "candidate", 0.4, 3600.0)
    return planned.id


def _failed_run(client: redis.Redis) -> None:
    planned = runs.planned(snapshot="f" * 32, parent=0, recipe=Recipe(seed=1).model_dump_json(), last_vote=now())
    runs.create(client, planned, votes=300)
    claimed = runs.claim(client, planned.id, "worker-1:4711", 60.0)
    assert claimed is not None
    runs.finish(client, planned.id, claimed.attempt, RunState.FAILED, "reward: the device has no memory left")


def _round(deployment: Deployment, number: int, *, verdict: Verdict = Verdict.PASS) -> None:
    """One run from its snapshot to the registry; its release is open from then on if its gate passed."""
    client, artifacts = deployment.store.client(), deployment.settings.artifacts
    state = registry.state(client)
    assert state is not None
    manifest = _manifest(number, live=state.live)
    directory = artifacts / "snapshots" / manifest.id
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(manifest.to_json())
    recipe = Recipe(seed=number).model_dump_json()
    run = runs.planned(snapshot=manifest.id, parent=state.live, recipe=recipe, last_vote=now())
    runs.create(client, run, votes=400 * number)
    claimed = runs.claim(client, run.id, "worker-1:4711", 60.0)
    assert claimed is not None
    _leavings(artifacts / "runs" / run.id, number)
    gate = _gate(number, live=state.live, verdict=verdict)
    candidate = PolicyVersion(
        version=0,
        parent=state.live,
        base_sha256="unused",
        adapter_sha256=fake.publish(artifacts, Path(str(deployment.settings.base)), number=number + 1),
        method="dpo",
        snapshot=manifest.id,
        run=run.id,
        gate=gate,
        created=now(),
        state=PolicyState.CANDIDATE,
    )
    registry.publish(client, candidate, gate, run=run.id, attempt=claimed.attempt)


def _manifest(number: int, *, live: int) -> SnapshotManifest:
    pairs = 400 * number
    return SnapshotManifest(
        id=f"{number:x}" * 32,
        created=now(),
        last_event=f"{int(now() * 1000)}-0",
        rows=pairs,
        rows_by_fold={"optimize": pairs * 7 // 10, "judge": pairs // 5, "test": pairs // 10},
        policy_rows=pairs // 2,
        prompts=pairs,
        dropped={"tie": 31 * number, "superseded": 12 * number, "too_fast": 9, "rater_share": 44 * number},
        thumbs=700 * number,
        rankings=30 * number,
        ratings=50 * number,
        demonstrations=20 * number,
        raters=61 * number,
        live_version=live,
        base_sha256="unused",
        tokenizer_sha256="unused",
    )


def _gate(number: int, *, live: int, verdict: Verdict) -> GateReport:
    metrics = {
        "win_rate": 0.64 - 0.02 * number,
        "proxy_win_rate": 0.66 + 0.03 * number,
        "people_win_rate": 0.63 - 0.02 * number,
        "prequential_rate": 0.68,
        "kl_to_base": 0.54 + 0.7 * (number - 1),
        "kl_to_parent": 0.6,
        "length_path": 1.0 + 0.06 * number,
        "refusal_rate": 0.012 + 0.004 * number,
        "agreement": 0.2 + 0.02 * number,
    }
    if verdict is Verdict.FAIL:
        summary = "win_rate_low is 0.47, it must be > 0.5"
        return GateReport(verdict=verdict, live_version=live, checks=[], metrics=metrics, summary=summary)
    summary = f"wins {metrics['win_rate']:.1%} against version {live} (at least 55.2%)"
    return GateReport(verdict=verdict, live_version=live, checks=[], metrics=metrics, summary=summary)


def _leavings(directory: Path, number: int) -> None:
    """What the trainers of a run say, and the card of its reward model."""
    (directory / "attempt-1").mkdir(parents=True)
    (directory / "attempt-1" / "reward.log").write_text(LOG)
    (directory / "attempt-1" / "candidate.log").write_text(LOG)
    earlier = Accuracy(accuracy=0.66, low=0.62, votes=280)
    card = RewardCard(
        head="last",
        mean=0.0,
        sd=1.0,
        base_sha256="unused",
        data=f"{number:x}" * 32,
        folds=["optimize"],
        seed=number,
        pairs=400 * number,
        ties=3,
        dropped={},
        train_accuracy=0.81,
        test_accuracy=0.7 + 0.01 * number,
        test_accuracy_low=0.64 + 0.015 * number,
        test_pairs=40 * number,
        rows={"pairs": 400 * number, "thumbs": 700 * number},
        noise_ceiling=NoiseCeiling(agreement=0.73, ceiling=0.84, pairs=120),
        calibration=Calibration(error=0.06, by_chance=0.05, temperature=1.3, error_after=0.05, votes=40 * number),
        prequential=Prequential(data="d", overall=earlier) if number > 1 else None,
    )
    (directory / "reward").mkdir()
    (directory / "reward" / "reward.json").write_text(card.model_dump_json())


def votes(deployment: Deployment, version: int, *, people: int, preferred: float, named: str = "person") -> None:
    """One vote each of so many people, and what the controller makes of them."""
    client = deployment.store.client()
    release = releases.release(client, f"rel_{version}")
    draw = random.Random(version)
    for number in range(people):
        value = draw.choices(["a", "tie", "b"], [preferred, 0.05, 0.95 - preferred])[0]
        _vote(client, release, f"{named}-{number}", value)
    assert evidence.claim(client, "test", lease_s=60)
    assert controller.follow(client, release, Archive(deployment.settings.artifacts), owner="test") is not None


def _vote(client: redis.Redis, release: Release, rater: str, value: str) -> None:
    """With the answers that it is about, as the leaderboard wants them."""
    number = int(str(client.get("test:votes") or 0)) + 1
    sides = [f"chatcmpl-{number}-{side}" for side in "ab"]
    for side, version in zip(sides, (release.version, release.against), strict=True):
        record = completion_record(side, policy_version=version, rater=rater)
        client.hset(keys.completion(side), mapping={"record": record.to_json(), "state": record.state})
    releasing.vote(client, release, rater, value, completion_ids=sides)


def _raters(client: redis.Redis) -> None:
    """Two are set aside, with reasons; and what was found of all."""
    aside = {
        "user-4471": "first side: e = 2.1e+06 after 38 votes",
        "@acme/reviewer-9": "votes like others who vote alike: policy v3, e = 4.0e+08",
    }
    reports = {name: _report(name, reason) for name, reason in aside.items()}
    report = TrustReport(
        as_of=now(),
        snapshot="4" * 32,
        votes=1449,
        surveyed=1320,
        raters=212,
        quarantined=len(aside),
        alpha_nominal=0.46,
        alpha_ordinal=None,
        first=Share(value=0.53, low=0.49, high=0.57, count=612),
        longer=Share(value=0.58, low=0.54, high=0.62, count=612),
        longer_expected=0.55,
        habits=[SharedHabit(habit="policy v3", raters=12, log10_e=math.log10(4.0e8))],
    )
    verdicts.publish(client, reports, report, kept=[])
    for name, reason in aside.items():
        rater_review.quarantine(client, name, reason=reason, actor="trust", seen="")


def _report(rater: str, reason: str) -> RaterReport:
    return RaterReport(
        rater=rater,
        votes=41,
        judged=38,
        reliability=0.1,
        reliability_low=-0.4,
        reliability_high=0.5,
        weight=0.0,
        quarantined=True,
        reason=reason,
        as_of=now(),
    )
