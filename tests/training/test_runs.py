"""Runs in a real Redis: one holder at a time, by attempt; whatever was fenced off changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from core import audit, keys
from core.errors import UsageError
from core.records import Run, RunState
from training import runs

LIVE, EXPIRED = 1000.0, -1.0
BECAUSE = {"actor": "cli:ann", "reason": "by hand"}


class Twice(redis.Redis):
    """Sends each script twice, as redis-py does when the first answer was lost."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "EVALSHA":
            super().execute_command(*args, **options)
        return super().execute_command(*args, **options)


def plan(snapshot: str = "s", **given: object) -> Run:
    fields = {"snapshot": snapshot, "parent": 0, "recipe": "{}", "last_vote": 7.5}
    return runs.planned(**(fields | given))


@pytest.fixture
def run(redis_client: redis.Redis) -> str:
    """The id of a queued run."""
    assert runs.create(redis_client, plan(), votes=5) == "created"
    return plan().id


def test_planning_twice_is_one_run(redis_client):
    """The id is a function of method, snapshot, parent and recipe; the second `create` changes nothing."""
    assert runs.create(redis_client, plan(), votes=5) == "created"
    assert runs.create(redis_client, plan(last_vote=9.0), votes=6) == "exists"
    (found,) = runs.all_runs(redis_client)
    assert found == plan().model_copy(update={"created": found.created, "updated": found.created})
    assert found.created > 1_700_000_000
    assert redis_client.hget(keys.SCHEDULER, "votes_at_cut") == "5"
    assert len({plan().id, plan("t").id, plan(parent=1).id, plan(recipe="{ }").id}) == 4


def test_one_active_run_at_a_time(redis_client, run):
    """While one run is queued or running no other is created; when it has ended, one is."""
    assert runs.create(redis_client, plan("t"), votes=9) == "busy"
    claimed = runs.claim(redis_client, run, "w", LIVE)
    assert runs.create(redis_client, plan("t"), votes=9) == "busy"
    runs.finish(redis_client, run, claimed.attempt, RunState.FAILED, "x")
    assert runs.create(redis_client, plan("t"), votes=9) == "created"
    assert [it.snapshot for it in runs.all_runs(redis_client)] == ["s", "t"]


def test_thirty_two_claimers_one_winner(redis_server, redis_client, run):
    """Concurrent claims: exactly one gets the run, as attempt 1."""

    def claim(number: int) -> Run | None:
        with redis.Redis.from_url(redis_server, decode_responses=True) as client:
            return runs.claim(client, run, f"w{number}", LIVE)

    with ThreadPoolExecutor(32) as pool:
        won = [it for it in pool.map(claim, range(32)) if it]
    assert [it.attempt for it in won] == [1]
    assert runs.get(redis_client, run) == won[0]


def test_silent_retry_of_a_claim_is_the_same_claim(redis_client, run):
    """redis-py may send a claim twice: the same owner gets the same attempt, another owner gets nothing."""
    first, again = (runs.claim(redis_client, run, "w", LIVE) for _ in range(2))
    assert first == again
    assert runs.claim(redis_client, run, "v", LIVE) is None


def test_silent_retry_of_a_finish_is_the_same_finish(redis_client, run):
    """Finishing twice in the same words succeeds twice; in other words it does not."""
    attempt = runs.claim(redis_client, run, "w", LIVE).attempt
    assert runs.finish(redis_client, run, attempt, RunState.FAILED, "x")
    assert runs.finish(redis_client, run, attempt, RunState.FAILED, "x")
    assert not runs.finish(redis_client, run, attempt, RunState.SKIPPED, "y")
    assert (runs.get(redis_client, run).state, runs.get(redis_client, run).reason) == (RunState.FAILED, "x")


def test_zombie_changes_nothing(redis_client, run):
    """A worker whose lease ran out is refused everything once the next attempt has begun."""
    zombie = runs.claim(redis_client, run, "zombie", EXPIRED)
    holder = runs.claim(redis_client, run, "holder", LIVE)
    assert (zombie.attempt, holder.attempt) == (1, 2)
    before = runs.get(redis_client, run)
    assert not runs.heartbeat(redis_client, run, 1, "candidate", 0.5, LIVE)
    assert not runs.finish(redis_client, run, 1, RunState.FAILED, "late")
    assert not runs.release(redis_client, run, 1)
    assert runs.get(redis_client, run) == before
    assert runs.heartbeat(redis_client, run, 2, "candidate", 0.5, LIVE)
    assert (runs.get(redis_client, run).stage, runs.get(redis_client, run).progress) == ("candidate", 0.5)


def test_attempts_are_capped(redis_client, run):
    """After three workers that vanished the run has failed, and says so."""
    assert [runs.claim(redis_client, run, f"w{i}", EXPIRED).attempt for i in range(3)] == [1, 2, 3]
    assert runs.claim(redis_client, run, "w4", EXPIRED) is None
    assert runs.get(redis_client, run).state is RunState.FAILED
    assert runs.get(redis_client, run).reason.startswith("max_attempts: 3 workers")


def test_orderly_stop_is_forgiven(redis_client, run):
    """A run that was given back can be claimed at once, under a new number that does not count to the cap."""
    for expected in range(1, 7):
        held = runs.claim(redis_client, run, f"w{expected}", LIVE)
        assert held.attempt == expected
        assert runs.release(redis_client, run, expected)
        assert not runs.heartbeat(redis_client, run, expected, "x", 0.0, LIVE)


def test_cancel_stops_the_next_heartbeat(redis_client, run):
    """A cancelled run refuses its worker; it cannot be cancelled twice, nor can nothing."""
    runs.claim(redis_client, run, "w", LIVE)
    runs.cancel(redis_client, run, **BECAUSE)
    assert not runs.heartbeat(redis_client, run, 1, "x", 0.0, LIVE)
    assert runs.get(redis_client, run).reason == "cancelled by cli:ann: by hand"
    with pytest.raises(UsageError, match=r"has ended \(cancelled\)"):
        runs.cancel(redis_client, run, **BECAUSE)
    with pytest.raises(UsageError, match="no run nothing"):
        runs.cancel(redis_client, "nothing", **BECAUSE)


def test_retry_has_fresh_attempts_against_the_live_policy(redis_client, run):
    """A failed run can be queued again: numbers go on, the cap starts anew, the parent is what is live now."""
    for i in range(4):
        runs.claim(redis_client, run, f"w{i}", EXPIRED)
    redis_client.hset(keys.REGISTRY, "live", 4)
    runs.retry(redis_client, run, **BECAUSE)
    assert runs.get(redis_client, run).parent == 4
    assert [runs.claim(redis_client, run, f"v{i}", EXPIRED).attempt for i in range(3)] == [4, 5, 6]
    assert runs.claim(redis_client, run, "v4", EXPIRED) is None
    with pytest.raises(UsageError, match="no run nothing"):
        runs.retry(redis_client, "nothing", **BECAUSE)


@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_only_ended_runs_are_retried(redis_client, run, state):
    """There is nothing to retry about an active run or one that is done."""
    redis_client.hset(keys.run(run), "state", state)
    with pytest.raises(UsageError, match=f"is {state}: there is nothing to retry"):
        runs.retry(redis_client, run, **BECAUSE)


def test_acts_are_audited(redis_client, run):
    """Who, why and which run, chained to what stands there; what is refused leaves no entry."""
    redis_client.hset(keys.REGISTRY, "generation", 5)
    with pytest.raises(UsageError):
        runs.retry(redis_client, run, **BECAUSE)
    runs.cancel(redis_client, run, **BECAUSE)
    runs.retry(redis_client, run, actor="api:key_1", reason="the disk is mended")
    with pytest.raises(UsageError):
        runs.cancel(redis_client, "nothing", **BECAUSE)
    told = [(it.action, it.subject, it.actor, it.reason, it.generation) for it in audit.history(redis_client)]
    assert told == [
        ("run.cancel", run, "cli:ann", "by hand", 5),
        ("run.retry", run, "api:key_1", "the disk is mended", 5),
    ]
    assert audit.check(redis_client).fault == ""


def test_silent_retry_of_an_act_is_the_same_act(redis_server, redis_client, run):
    """Done once and audited once, and the second answer is the first one's."""
    with Twice.from_url(redis_server, decode_responses=True) as client:
        runs.cancel(client, run, **BECAUSE)
        runs.retry(client, run, **BECAUSE)
    assert runs.get(redis_client, run).state is RunState.QUEUED
    assert [it.action for it in audit.history(redis_client)] == ["run.cancel", "run.retry"]


def test_lost_runs(redis_client, run):
    """Unclaimed for ten seconds, or held by a silent worker: its doorbell must ring again."""
    assert runs.lost(redis_client) == []
    redis_client.hset(keys.run(run), "updated", runs.get(redis_client, run).updated - 10)
    assert [it.id for it in runs.lost(redis_client)] == [run]
    runs.claim(redis_client, run, "w", LIVE)
    assert runs.lost(redis_client) == []
    runs.heartbeat(redis_client, run, 1, "x", 0.0, EXPIRED)
    assert [it.id for it in runs.lost(redis_client)] == [run]


class Lives(RuleBasedStateMachine):
    """Any interleaving of workers, operators and lease ends, against a model of one run."""

    claims: Bundle[int] = Bundle("claims")

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client = client
        client.flushall()
        client.hset(keys.REGISTRY, "live", 0)
        runs.create(client, plan(), votes=0)
        self.run = plan().id
        self.state, self.attempt, self.counted, self.leased = "queued", 0, 0, False
        self.owners = 0

    @rule(target=claims, live=st.booleans())
    def claim(self, live: bool) -> int:
        self.owners += 1
        lease = LIVE if live else EXPIRED
        found = runs.claim(self.client, self.run, f"w{self.owners}", lease, max_attempts=3)
        free = self.state == "queued" or (self.state == "running" and not self.leased)
        if free and self.counted < 3:
            self.state, self.attempt, self.counted, self.leased = "running", self.attempt + 1, self.counted + 1, live
            assert found is not None and found.attempt == self.attempt
        else:
            assert found is None
            self.state = "failed" if free else self.state
        return self.attempt

    def holds(self, attempt: int) -> bool:
        return self.state == "running" and attempt == self.attempt

    @rule(attempt=claims, live=st.booleans())
    def heartbeat(self, attempt: int, live: bool) -> None:
        beats = runs.heartbeat(self.client, self.run, attempt, "s", 0.1, LIVE if live else EXPIRED)
        assert beats == self.holds(attempt)
        self.leased = live if beats else self.leased

    @rule(attempt=claims, state=st.sampled_from([RunState.FAILED, RunState.SKIPPED]), reason=st.uuids())
    def finish(self, attempt: int, state: RunState, reason: object) -> None:
        ended = runs.finish(self.client, self.run, attempt, state, str(reason))
        assert ended == self.holds(attempt)
        self.state = state if ended else self.state

    @rule(attempt=claims)
    def release(self, attempt: int) -> None:
        held, reason = self.holds(attempt), runs.get(self.client, self.run).reason
        given_back = runs.release(self.client, self.run, attempt)
        again = self.state == "queued" and attempt == self.attempt and reason.startswith("given back")
        assert given_back == (held or again)
        if held:
            self.state, self.counted = "queued", self.counted - 1

    @rule()
    def cancel_or_retry(self) -> None:
        if self.state in ("queued", "running"):
            runs.cancel(self.client, self.run, **BECAUSE)
            self.state = "cancelled"
        else:
            runs.retry(self.client, self.run, **BECAUSE)
            self.state, self.counted = "queued", 0

    @invariant()
    def record_agrees(self) -> None:
        found = runs.get(self.client, self.run)
        assert (found.state, found.attempt) == (self.state, self.attempt)
        assert found.attempt - found.forgiven == self.counted


def test_any_interleaving(redis_client):
    """The record agrees with the model after every step; attempts only grow."""
    run_state_machine_as_test(
        lambda: Lives(redis_client),
        settings=hypothesis_settings(max_examples=30, stateful_step_count=25),
    )
