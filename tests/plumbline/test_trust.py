"""Raters are judged before their votes are trained on: over a real Redis, once with a real survey."""

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import redis

from core import audit, keys, registry
from core.adapters import MANIFEST, BaseShapes
from core.records import (
    AdapterManifest,
    Choice,
    CompletionRecord,
    CompletionState,
    Feedback,
    Message,
    PolicyState,
    PolicyVersion,
    RaterEvent,
    RaterReport,
    Run,
    RunState,
    Target,
    TrustReport,
)
from core.settings import Settings
from feedback import erasure_files, erasure_redis, snapshot, store
from feedback.erasure_plan import Traces
from feedback.rows import hashed_rater
from feedback.snapshot import PairRow, Snapshot
from feedback.verdicts import FROM_RATERS
from plumbline import scheduler
from tests.training.conftest import qwen_directory, qwen_shapes  # noqa: F401 (fixtures)
from tests.training.examples import DISLIKED, LIKED
from training import runs, survey
from training.features import FILE

ROOT = Path(__file__).parents[2]
HONEST, VOTES = 25, 16
RING, THEIRS = 8, 12
START = 1790000000.0


@pytest.fixture
def config(tmp_path: Path, redis_server: str, redis_client: redis.Redis) -> Settings:
    return deployed(tmp_path, redis_server, redis_client, base=tmp_path, sha256="b")


def deployed(home: Path, url: str, client: redis.Redis, *, base: Path, sha256: str) -> Settings:
    """Version 0 is live; fifty votes make a round."""
    config = Settings(home=home, redis_url=url, broker_url="", min_votes=50, base=str(base), recipe="demo")
    zero = {"version": 0, "parent": None, "base_sha256": sha256, "adapter_sha256": "00" * 32, "method": "zero"}
    registry.initialise(client, PolicyVersion(**zero, created=1.0, state=PolicyState.LIVE), actor="test")
    manifest = {"sha256": "00" * 32, "base_sha256": sha256, "tokenizer_sha256": "t", "rank": 1}
    directory = config.artifacts / "adapters" / ("00" * 32)
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text(AdapterManifest(**manifest, serving_dtype="float32", probe=[]).to_json())
    return config


class Crowd:
    """Who votes: honest people prefer the answer that begins with LIKED, five times in six; a ring prefers the other.

    Example: `Crowd(client).cast({"person-3": 0.83, "ring-1": 0.0}, votes=12)`.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client, self._rng, self._given = client, random.Random(0), 0

    def honest(self, count: int = HONEST) -> None:
        self.cast({f"person-{number}": 5 / 6 for number in range(count)}, votes=VOTES)

    def ring(self) -> None:
        self.cast({f"ring-{number}": 0.0 for number in range(RING)}, votes=THEIRS)

    def cast(self, likes: dict[str, float], *, votes: int) -> None:
        for _ in range(votes):
            for rater, share in likes.items():
                self._cast(rater, liked=self._rng.random() < share)

    def _cast(self, rater: str, *, liked: bool) -> None:
        number = self._given = self._given + 1
        order = self._rng.sample([LIKED, DISLIKED], 2)
        ids = [f"chatcmpl-{number}-{side}" for side in "ab"]
        for identifier, first in zip(ids, order, strict=True):
            record = CompletionRecord(
                id=identifier,
                state=CompletionState.COMPLETE,
                created=1.0,
                messages=[Message(role="user", content=f"prompt {number}")],
                prompt_token_ids=[4, 30 + number % 60, 5],
                choices=[Choice(index=0, text=identifier, token_ids=self._tokens(first), finish_reason="stop")],
                policy_version=0,
                adapter_sha256="00" * 32,
                assignment="comparison",
            )
            self._client.hset(keys.completion(identifier), "record", record.to_json())
        event = Feedback(
            id=f"fb_{number}",
            target=Target(type="comparison", id=f"cmp_{number}"),
            kind="preference",
            value="ab"[order.index(LIKED if liked else DISLIKED)],
            rater=rater,
            created_at=START + number,
            policy_versions=[0, 0],
            completion_ids=ids,
            train=True,
        )
        self._client.xadd(keys.FEEDBACK, {"event": event.to_json()})
        self._client.hincrby(keys.FEEDBACK_COUNTS, "preference", 1)

    def _tokens(self, first: int) -> list[int]:
        return [first, *(self._rng.randrange(30, 97) for _ in range(self._rng.randint(1, 8))), 3]


@pytest.fixture
def crowd(redis_client: redis.Redis) -> Crowd:
    return Crowd(redis_client)


def leave_survey(client: redis.Redis, config: Settings) -> str:
    """What a worker leaves: how the answers differ, as a base that knows which of them is liked sees it."""
    asked = survey.pending(client)
    assert asked is not None
    rows = list(snapshot.rows(config.artifacts / "snapshots" / asked.snapshot, PairRow))
    rng = np.random.default_rng(1)
    right = np.array([1.0 if row.chosen_token_ids[0] == LIKED else -1.0 for row in rows])
    seen = np.concatenate(
        [2 * right[:, None] + rng.normal(size=(len(rows), 1)), rng.normal(size=(len(rows), 3))], axis=1
    )
    directory = survey.directory(config.artifacts, asked.snapshot)
    directory.mkdir(parents=True)
    np.savez(directory / FILE, feedback_id=[row.feedback_id for row in rows], preferred=seen.astype(np.float32))
    return asked.snapshot


def start(client: redis.Redis, config: Settings) -> tuple[Run, Snapshot]:
    """Through both steps to a run, by looking twice."""
    assert scheduler.start_round(client, config, force=True) is None
    leave_survey(client, config)
    run = scheduler.start_round(client, config)
    assert run is not None
    return run, snapshot.read(config.artifacts / "snapshots" / run.snapshot)


def events(client: redis.Redis) -> list[RaterEvent]:
    return [
        RaterEvent.model_validate_json(fields["rater"])
        for _, fields in client.xrange(keys.FEEDBACK)
        if "rater" in fields
    ]


def reports(client: redis.Redis) -> dict[str, RaterReport]:
    return {name: RaterReport.model_validate_json(held) for name, held in client.hgetall(keys.TRUST_RATERS).items()}


def report(client: redis.Redis) -> TrustReport:
    return TrustReport.model_validate_json(client.get(keys.TRUST))


def rung(client: redis.Redis) -> int:
    return client.llen(keys.BROKER_PREFIX + keys.TRAIN_QUEUE)


def end(client: redis.Redis, run: Run) -> None:
    client.hset(keys.run(run.id), "state", RunState.FAILED)


def test_a_ring_is_set_aside_by_what_a_real_survey_sees(
    redis_server,
    redis_client,
    tmp_path,
    qwen_directory: Path,  # noqa: F811
    qwen_shapes: BaseShapes,  # noqa: F811
):
    """Eight ids that all vote against what 25 people prefer: the check asks, the worker looks with a real (tiny) base,
    the next check sets them aside. The run's snapshot holds none of their rows and says why; people keep theirs."""
    config = deployed(tmp_path, redis_server, redis_client, base=qwen_directory, sha256=qwen_shapes.sha256)
    crowd = Crowd(redis_client)
    crowd.honest()
    crowd.ring()

    scheduler.check(redis_client, config)
    assert (runs.all_runs(redis_client), rung(redis_client)) == ([], 1)
    assert redis_client.hget(keys.SCHEDULER, "last_reason") == "the raters are looked at first"
    assert survey.carry_out(redis_client, config, survey.pending(redis_client).snapshot)
    scheduler.check(redis_client, config)

    (run,) = runs.all_runs(redis_client)
    cut = snapshot.read(config.artifacts / "snapshots" / run.snapshot)
    ring = {f"ring-{number}" for number in range(RING)}
    found = reports(redis_client)
    caught = {name for name, each in found.items() if each.quarantined}
    assert (caught & ring, len(caught - ring) <= 1) == (ring, True)
    salt = store.deployment_salt(redis_client)
    assert {hashed_rater(salt, name) for name in caught}.isdisjoint(row.rater for row in cut.pairs)
    assert cut.manifest.dropped["quarantined"] >= RING * THEIRS
    assert np.mean([each.weight for name, each in found.items() if name not in ring]) > 0.7
    assert {event.actor for event in events(redis_client)} == {"trust"}
    told = report(redis_client)
    assert (told.quarantined, told.surveyed, told.error) == (len(caught), HONEST * VOTES + RING * THEIRS, "")
    assert told.habits[0].raters == RING
    assert not any(name in redis_client.get(keys.TRUST) for name in found)
    assert survey.pending(redis_client) is None


def test_rows_weigh_what_their_raters_do(redis_client, config, crowd):
    """Of people as of nobody in particular, who weighs as a rater of whom nothing is known."""
    crowd.honest()
    crowd.cast({"careless": 0.4}, votes=VOTES)
    _, cut = start(redis_client, config)
    salt, found = store.deployment_salt(redis_client), reports(redis_client)
    weights = {row.rater: row.weight for row in cut.pairs}
    assert weights == {hashed_rater(salt, name): each.weight for name, each in found.items() if not each.quarantined}
    assert found["careless"].weight < np.mean([each.weight for each in found.values()]) - 0.2
    assert events(redis_client) == []


def test_votes_that_nobody_looked_at_wait_for_the_next_round(redis_client, config, crowd):
    """What comes while the worker looks is not trained on, and counts as new afterwards. What was said before and is
    taken back meanwhile is not trained on either."""
    crowd.honest()
    assert scheduler.start_round(redis_client, config, force=True) is None
    crowd.cast({"late": 0.0, "person-1": 5 / 6}, votes=10)
    first = Feedback.model_validate_json(redis_client.xrange(keys.FEEDBACK, count=1)[0][1]["event"])
    gone = first.model_copy(update={"revision": 2, "withdrawn": True})
    redis_client.xadd(keys.FEEDBACK, {"event": gone.to_json()})
    leave_survey(redis_client, config)
    run = scheduler.start_round(redis_client, config)
    assert run is not None
    cut = snapshot.read(config.artifacts / "snapshots" / run.snapshot)
    assert {row.feedback_id for row in cut.pairs} == {f"fb_{number}" for number in range(2, HONEST * VOTES + 1)}
    assert scheduler.new_votes(redis_client) == 20


def test_doing_it_again_is_doing_it_once(redis_server, redis_client, config, crowd):
    """Four schedulers find the same survey, and a later round judges anew: one run, and each of the ring is set aside
    once and keeps the report that says why, though their votes are not looked at any more."""
    crowd.honest()
    crowd.ring()
    assert scheduler.start_round(redis_client, config) is None
    leave_survey(redis_client, config)

    def look(_: int) -> Run | None:
        with redis.Redis.from_url(redis_server, decode_responses=True) as client:
            return scheduler.start_round(client, config)

    with ThreadPoolExecutor(4) as pool:
        (first,) = [run for run in pool.map(look, range(4)) if run]
    assert [run.id for run in runs.all_runs(redis_client)] == [first.id]
    assert (len(events(redis_client)), survey.pending(redis_client)) == (RING, None)
    end(redis_client, first)
    crowd.cast({"person-1": 0.8}, votes=1)
    later, _ = start(redis_client, config)
    assert later.snapshot != first.snapshot
    assert len(events(redis_client)) == RING
    told = [it.actor for it in audit.history(redis_client) if it.action == "rater.quarantine"]
    assert told == ["scheduler"] * RING
    ring = {f"ring-{number}" for number in range(RING)}
    assert {name for name, each in reports(redis_client).items() if each.quarantined} == ring
    assert (report(redis_client).raters, report(redis_client).quarantined) == (HONEST, RING)


def test_a_survey_that_nobody_ended_starts_no_second_round(redis_client, config, crowd):
    """The scheduler was killed after it had queued the run: the next look ends what the run had waited for."""
    crowd.honest()
    run, _ = start(redis_client, config)
    survey.ask(redis_client, report(redis_client).snapshot, recipe=run.recipe, votes=900)
    assert scheduler.start_round(redis_client, config) is None
    assert survey.pending(redis_client) is None
    end(redis_client, run)
    assert scheduler.start_round(redis_client, config) is None


def test_whom_a_person_restored_stays(redis_client, config, crowd):
    """The votes that the person had seen are no evidence any more: the next round leaves them in."""
    crowd.honest()
    crowd.ring()
    run, _ = start(redis_client, config)
    end(redis_client, run)
    restored = RaterEvent(rater="ring-3", action="restore", actor="ann", created_at=START + 10_000)
    redis_client.xadd(keys.FEEDBACK, {"rater": restored.to_json()})
    redis_client.srem(keys.QUARANTINED, "ring-3")
    crowd.cast({"person-1": 0.8}, votes=1)

    _, cut = start(redis_client, config)

    assert len(events(redis_client)) == RING + 1
    salt = store.deployment_salt(redis_client)
    assert {row.weight for row in cut.pairs if row.rater == hashed_rater(salt, "ring-3")} == {0.76}


def test_a_person_who_decides_meanwhile_is_heard(redis_client, config, crowd):
    """Somebody reviews a rater after the log was read: no quarantine against their decision, and the rater weighs as
    one of whom nothing is known."""
    crowd.honest()
    crowd.ring()
    assert scheduler.start_round(redis_client, config) is None
    leave_survey(redis_client, config)
    redis_client.hset(keys.rater("ring-3"), "review_at", "9-0")  # which the log that is read does not hold yet
    run = scheduler.start_round(redis_client, config)
    assert run is not None
    assert "ring-3" not in {event.rater for event in events(redis_client)}
    cut = snapshot.read(config.artifacts / "snapshots" / run.snapshot)
    salt = store.deployment_salt(redis_client)
    assert {row.weight for row in cut.pairs if row.rater == hashed_rater(salt, "ring-3")} == {0.76}
    assert not reports(redis_client)["ring-3"].quarantined


def test_where_no_survey_comes_the_round_goes_on(redis_client, config, crowd):
    """Rung for three times without an answer; then overlap, gold and habits decide, and the status says why."""
    crowd.honest()
    crowd.ring()
    for looks in range(1, survey.MOST_RINGS + 1):
        scheduler.check(redis_client, config)
        scheduler.check(redis_client, config)
        assert (rung(redis_client), runs.all_runs(redis_client)) == (looks, [])
        redis_client.delete(keys.survey_lease(survey.pending(redis_client).snapshot))  # as when it runs out
    scheduler.check(redis_client, config)
    (run,) = runs.all_runs(redis_client)
    assert run.state is RunState.QUEUED
    assert "does the worker run?" in redis_client.hget(keys.SCHEDULER, "trust_error")
    assert report(redis_client).error == redis_client.hget(keys.SCHEDULER, "trust_error")
    assert (report(redis_client).surveyed, events(redis_client)) == (0, [])
    end(redis_client, run)
    crowd.cast({"person-1": 0.8}, votes=1)
    start(redis_client, config)
    assert redis_client.hget(keys.SCHEDULER, "trust_error") == ""


def test_a_survey_that_cannot_be_read_stops_no_round(redis_client, config, crowd):
    """A file of something else: told, and gone on without."""
    crowd.honest()
    scheduler.start_round(redis_client, config)
    (survey.directory(config.artifacts, leave_survey(redis_client, config)) / FILE).write_bytes(b"PK nothing")
    assert scheduler.start_round(redis_client, config) is not None
    assert "cannot be used" in redis_client.hget(keys.SCHEDULER, "trust_error")


@pytest.mark.parametrize("raters", [1, 2, 5, FROM_RATERS - 1])
def test_among_few_raters_nobody_is_weighed(redis_client, config, crowd, raters):
    """At home one rater is all there is: no survey, every row whole; the report is there all the same."""
    crowd.honest(raters - 1)
    crowd.cast({"contrary": 0.0}, votes=60)
    run = scheduler.start_round(redis_client, config)
    assert run is not None
    cut = snapshot.read(config.artifacts / "snapshots" / run.snapshot)
    assert {row.weight for row in cut.pairs} == {1.0}
    assert "quarantined" not in cut.manifest.dropped
    assert {(each.weight, each.quarantined) for each in reports(redis_client).values()} == {(1.0, False)}
    assert (report(redis_client).raters, report(redis_client).first is not None) == (raters, True)


def test_trust_can_be_switched_off(redis_client, config, crowd):
    """Then nobody is judged, even if a survey was asked for before."""
    crowd.honest()
    assert scheduler.start_round(redis_client, config) is None
    redis_client.hset(keys.SURVEY, "error", "too late")
    off = config.model_copy(update={"trust": False})
    assert scheduler.start_round(redis_client, off) is not None
    assert (redis_client.exists(keys.TRUST, keys.TRUST_RATERS), survey.pending(redis_client)) == (0, None)


def test_nothing_of_an_erased_rater_is_left_in_reports_and_surveys(redis_client, config, crowd):
    """Their report and the numbers of every snapshot that held them; a round that waits for them is cut anew."""
    crowd.honest()
    assert scheduler.start_round(redis_client, config) is None
    name = leave_survey(redis_client, config)
    (config.artifacts / "trust" / f"{name}.log").write_text("words")
    (config.artifacts / "trust" / f".{name}-17").mkdir()
    redis_client.hset(keys.TRUST_RATERS, mapping={"person-1": "{}", "person-2": "{}"})
    salt = store.deployment_salt(redis_client)
    gone = Traces(rater="person-1", hashed=hashed_rater(salt, "person-1"))

    erasure_redis.erase(redis_client, gone)
    erasure_files.erase_snapshot(config.artifacts, name, at=1.0)

    assert redis_client.hkeys(keys.TRUST_RATERS) == ["person-2"]
    assert list((config.artifacts / "trust").iterdir()) == []
    redis_client.hset(keys.SURVEY, "error", "the data are gone")
    crowd.cast({"person-2": 0.8}, votes=1)
    assert scheduler.start_round(redis_client, config) is None
    assert survey.pending(redis_client).snapshot != name
