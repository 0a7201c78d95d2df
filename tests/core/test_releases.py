"""Releases in a real Redis: at most one is open, each step is one compare-and-set, and one version is
live throughout."""

from functools import partial

import pytest
import redis
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from core import audit, keys, registry, registry_scripts, releases
from core.errors import Conflict, UsageError
from core.records import PolicyState, Verdict
from tests.core.test_registry import gate, go_live, policy, publish, states


@pytest.fixture
def client(redis_client: redis.Redis) -> redis.Redis:
    """Version 0 is live, version 1 on its way."""
    registry.initialise(redis_client, policy(None), actor="test")
    publish(redis_client, run="r1", parent=0, live=0)
    return redis_client


def test_a_candidate_that_passed_has_an_open_release(client):
    """At 1 % of end users, against the version that is live; the registry's hash says so as well."""
    release = releases.current(client)
    assert (release.id, release.version, release.against, release.state) == ("rel_1", 1, 0, "canary")
    assert (release.stage, release.share, release.alpha, release.ended) == (1, 0.01, 0.05, None)
    assert (release.reason, release.actor) == ("gate passed", "run:r1")
    assert release.opened == release.staged == audit.history(client)[-1].at
    state = registry.state(client)
    assert (state.live, state.release, state.canary, state.share) == (0, "rel_1", 1, 0.01)
    assert states(client) == ["live", "canary"]


def test_only_one_is_open(client):
    """Another candidate that passed is registered, its run is done, and it waits for a release of its own."""
    assert publish(client, run="r2", parent=0, live=0) == 2
    assert client.hget(keys.run("r2"), "state") == "done"
    assert states(client) == ["live", "canary", "candidate"]
    assert [it.id for it in releases.releases(client)] == ["rel_1"]
    with pytest.raises(Conflict, match="the release of version 1 is still open"):
        releases.begin(client, 2, stage=releases.FIRST, reason="r", actor="a")

    releases.end(client, "rel_1", state="kept", reason="r", actor="a")
    opened = releases.begin(client, 2, stage=releases.FIRST, reason="its turn", actor="scheduler", against=0)
    assert opened == releases.current(client)
    assert (opened.version, opened.against, opened.stage, opened.share) == (2, 0, 1, 0.01)
    assert states(client) == ["live", "retired", "canary"]
    last = audit.history(client)[-1]
    assert (last.action, last.version, last.subject, last.actor) == ("release.opened", 2, "rel_2", "scheduler")


def test_the_newest_that_was_compared_with_what_is_live_waits_first(client):
    """A candidate whose gate looked at another version does not come by itself; by hand it may."""
    assert registry.waiting(client) is None
    for number in (2, 3):
        judged(client, run=f"r{number}", live=0)
    assert registry.waiting(client).version == 3
    judged(client, run="r4", live=0, verdict=Verdict.FAIL)
    assert registry.waiting(client).version == 3

    releases.promote(client, "rel_1", reason="e = 21", actor="scheduler")
    assert registry.waiting(client) is None
    with pytest.raises(Conflict, match="version 1 is live, and version 3 was to be compared with version 0"):
        releases.begin(client, 3, stage=releases.FIRST, reason="r", actor="a", against=0)
    assert releases.begin(client, 3, stage=releases.FIRST, reason="r", actor="ann").against == 1


def judged(client, *, run, live, verdict=Verdict.PASS):
    """As a round publishes: with the gate's report in the record."""
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    report = gate(verdict, live)
    return registry.publish(client, policy(live, run=run, gate=report), report, run=run, attempt=1)


def test_a_version_has_one_release(client):
    """What had one, was refused or is unknown gets none."""
    releases.end(client, "rel_1", state="stopped", reason="r", actor="a")
    publish(client, run="r2", parent=0, live=0, verdict=Verdict.FAIL)
    for version in (0, 1, 2):
        with pytest.raises(UsageError, match=f"Version {version} is no candidate that waits"):
            releases.begin(client, version, stage=releases.FIRST, reason="r", actor="a")
    with pytest.raises(UsageError, match="There is no policy version 9"):
        releases.begin(client, 9, stage=releases.FIRST, reason="r", actor="a")


def test_a_release_may_begin_unseen(redis_client):
    """At the shadow's stage nobody is answered by the candidate; it is left like any other."""
    registry.initialise(redis_client, policy(None), actor="test")
    redis_client.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
    report = gate(Verdict.PASS, 0)
    registry.publish(redis_client, policy(0), report, run="r", attempt=1, stage=releases.SHADOW)
    release, state = releases.current(redis_client), registry.state(redis_client)
    assert (release.stage, release.share, state.canary, state.share) == (0, 0.0, 1, 0.0)
    releases.advance(redis_client, "rel_1", from_stage=0, reason="r")
    assert (releases.current(redis_client).stage, registry.state(redis_client).share) == (1, 0.01)


def test_it_advances_stage_by_stage(client):
    """1 %, 10 %, 50 %; from the stage where it is and no other, and no further than the last."""
    releases.advance(client, "rel_1", from_stage=1, reason="quiet")
    with pytest.raises(Conflict, match="release rel_1 is at stage 2, and was to leave stage 1"):
        releases.advance(client, "rel_1", from_stage=1, reason="quiet")
    assert (registry.state(client).share, releases.current(client).stage) == (0.1, 2)
    releases.advance(client, "rel_1", from_stage=2, reason="quiet still")
    release = releases.current(client)
    assert (release.stage, release.share, release.reason, release.actor) == (3, 0.5, "quiet still", "scheduler")
    assert release.staged > release.opened
    with pytest.raises(AssertionError):
        releases.advance(client, "rel_1", from_stage=3, reason="quiet")


def test_promoted_its_candidate_is_live(client):
    """The incumbent becomes the previous version, and the release is over."""
    releases.promote(client, "rel_1", reason="e = 21", actor="scheduler")
    assert states(client) == ["previous", "live"]
    release = releases.release(client, "rel_1")
    assert (release.state, release.share, release.reason) == ("promoted", 1.0, "e = 21")
    assert release.ended == audit.history(client)[-1].at
    assert releases.current(client) is None
    state = registry.state(client)
    assert (state.live, state.previous, state.release, state.canary, state.share) == (1, 0, None, None, None)


@pytest.mark.parametrize(("end", "policy_state"), [("rolled_back",) * 2, ("kept", "retired"), ("stopped", "retired")])
def test_ended_otherwise_the_incumbent_stays(client, end, policy_state):
    """Nobody is answered by the candidate any more, and another one may come."""
    releases.end(client, "rel_1", state=end, reason="why", actor="ann")
    assert (registry.state(client).live, states(client)) == (0, ["live", policy_state])
    release = releases.release(client, "rel_1")
    assert (release.state, release.share, release.actor, release.stage) == (end, 0.0, "ann", 1)
    last = audit.history(client)[-1]
    assert (last.action, last.version, last.subject, last.reason) == (f"release.{end}", 1, "rel_1", "why")
    assert publish(client, run="r2", parent=0, live=0) == 2
    assert [release.id for release in releases.releases(client)] == ["rel_1", "rel_2"]


def test_what_is_over_changes_no_more(client):
    """Neither does another release's id reach the open one."""
    releases.end(client, "rel_1", state="kept", reason="r", actor="a")
    publish(client, run="r2", parent=0, live=0)
    before = releases.releases(client), registry.state(client)
    for step in (
        partial(releases.promote, reason="r", actor="a"),
        partial(releases.end, state="kept", reason="r", actor="a"),
        partial(releases.advance, from_stage=1, reason="r"),
    ):
        with pytest.raises(Conflict, match="rel_1 is not open"):
            step(client, "rel_1")
    assert (releases.releases(client), registry.state(client)) == before


def test_an_unknown_release(client):
    """One line that says where to look."""
    with pytest.raises(UsageError, match="no release 'rel_9'"):
        releases.release(client, "rel_9")


class Releases(RuleBasedStateMachine):
    """Any sequence of publishes, steps, endings, rollbacks and promotions by hand, each sent once or twice by the Redis
    client, and of steps that come too late."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.client = client
        client.flushall()
        registry.initialise(client, policy(None), actor="test")
        self.parents: dict[int, int | None] = {0: None}
        self.live, self.open, self.stage, self.calls, self.changes = 0, None, 0, 0, 1
        self.waiting: set[int] = set()

    def call(self, name: str, *arguments: str | int | float, times: int) -> str:
        """What the first answer was; the others are the same."""
        self.calls += 1
        key = keys.call(f"c{self.calls}")
        answers = [registry_scripts.run(self.client, name, *arguments, also=key) for _ in range(times)]
        assert answers == answers[:1] * times
        return str(answers[0][0])

    def generation(self) -> int:
        state = registry.state(self.client)
        assert state is not None
        return state.generation

    @rule(verdict=st.sampled_from(list(Verdict)), times=st.integers(1, 2))
    def publish(self, verdict: Verdict, times: int) -> None:
        self.calls += 1
        run = f"r{self.calls}"
        version = publish(self.client, run=run, parent=self.live, live=self.live, verdict=verdict)
        for _ in range(times - 1):
            report = gate(verdict, self.live)
            assert registry.publish(self.client, policy(self.live), report, run=run, attempt=1) == version
        assert version == max(self.parents) + 1
        self.parents[version] = self.live
        self.changes += 1
        if verdict is Verdict.PASS and self.open is None:
            self._opened(version, releases.FIRST)
        elif verdict is Verdict.PASS:
            self.waiting.add(version)

    @rule(version=st.integers(0, 5), stage=st.sampled_from([releases.SHADOW, releases.FIRST]), times=st.integers(1, 2))
    def begin(self, version: int, stage: int, times: int) -> None:
        arguments = [version, "", stage, releases.STAGES[stage], 0.05, "a", "r"]
        outcome = self.call("release_open", *arguments, times=times)
        refused = "unknown" if version not in self.parents else "over" if version not in self.waiting else "done"
        assert outcome == ("busy" if refused == "done" and self.open is not None else refused)
        if outcome == "done":
            self._opened(version, stage)

    def _opened(self, version: int, stage: int) -> None:
        self.open, self.stage = version, stage
        self.waiting -= {version}
        self.changes += 1

    @rule(attempt=st.integers(2, 5))
    def publish_as_zombie(self, attempt: int) -> None:
        self.client.hset(keys.run("z"), mapping={"state": "running", "attempt": 1})
        with pytest.raises(Conflict):
            registry.publish(self.client, policy(0), gate(Verdict.PASS, self.live), run="z", attempt=attempt)

    @rule(distance=st.integers(1, 3))
    def publish_against_another_live(self, distance: int) -> None:
        with pytest.raises(Conflict):
            publish(self.client, run="c", parent=self.live, live=self.live + distance)

    @rule(version=st.integers(1, 4), stage=st.integers(0, 2), times=st.integers(1, 2))
    def advance(self, version: int, stage: int, times: int) -> None:
        done = self.call("release_advance", f"rel_{version}", stage, releases.STAGES[stage + 1], "a", "r", times=times)
        assert (done == "done") == (version == self.open and stage == self.stage)
        if done == "done":
            self.stage += 1
            self.changes += 1

    @rule(
        version=st.integers(1, 4),
        state=st.sampled_from(["promoted", "rolled_back", "kept", "stopped"]),
        times=st.integers(1, 2),
    )
    def end(self, version: int, state: str, times: int) -> None:
        done = self.call("release_end", f"rel_{version}", state, "a", "r", times=times)
        assert (done == "done") == (version == self.open)
        if done == "done":
            self.live = version if state == "promoted" else self.live
            self.open = None
            self.changes += 1

    @rule(times=st.integers(1, 2), late=st.booleans())
    def rollback(self, times: int, late: bool) -> None:
        parent = self.parents[self.live]
        outcome = self.call("registry_rollback", self.generation() - late, "a", "r", times=times)
        assert outcome == ("conflict" if late else "bottom" if parent is None else "done")
        if outcome == "done":
            assert parent is not None
            self._moved(parent)

    @rule(version=st.integers(0, 5), times=st.integers(1, 2), late=st.booleans())
    def promote_by_hand(self, version: int, times: int, late: bool) -> None:
        outcome = self.call("registry_promote", self.generation() - late, version, "a", "r", times=times)
        refused = "unknown" if version not in self.parents else "live" if version == self.live else "done"
        assert outcome == ("conflict" if late else refused)
        if outcome == "done":
            self._moved(version)

    def _moved(self, live: int) -> None:
        self.live, self.changes = live, self.changes + 1 + (self.open is not None)
        self.open = None
        self.waiting -= {live}

    @invariant()
    def exactly_one_is_live_and_at_most_one_on_its_way(self) -> None:
        found = {it.version: it for it in registry.policies(self.client)}
        assert {version: it.parent for version, it in found.items()} == self.parents
        by_state = {state: [v for v, it in found.items() if it.state is state] for state in PolicyState}
        state = registry.state(self.client)
        assert state is not None and (state.live, state.next_version) == (self.live, len(self.parents))
        assert by_state[PolicyState.LIVE] == [self.live]
        assert by_state[PolicyState.CANARY] == ([] if self.open is None else [self.open])
        assert by_state[PolicyState.PREVIOUS] == ([] if state.previous is None else [state.previous])
        assert by_state[PolicyState.CANDIDATE] == sorted(self.waiting)

    @invariant()
    def the_open_release_is_what_the_registry_says(self) -> None:
        state, release = registry.state(self.client), releases.current(self.client)
        assert state is not None
        open_ = [it for it in releases.releases(self.client) if it.state == "canary"]
        assert open_ == ([] if release is None else [release])
        if release is None:
            assert (self.open, state.release, state.canary, state.share) == (None, None, None, None)
            return
        assert (release.version, release.against, release.stage) == (self.open, self.live, self.stage)
        assert (state.release, state.canary, state.share) == (release.id, self.open, releases.STAGES[self.stage])

    @invariant()
    def every_change_is_one_entry(self) -> None:
        history = audit.history(self.client)
        assert [event.generation for event in history] == list(range(1, self.changes + 1))
        assert self.generation() == self.changes
        moves = [event.version for event in history if event.action in ("promote", "rollback")]
        assert [0, *moves][-1] == self.live
        assert [event.version for event in history if event.action == "register"] == sorted(self.parents)
        assert audit.check(self.client).fault == ""


def test_any_sequence_of_changes(redis_client):
    """One live version, at most one open release, one audit entry a change, however often it was sent."""
    run_state_machine_as_test(
        lambda: Releases(redis_client),
        settings=hypothesis_settings(max_examples=40, stateful_step_count=25),
    )


def test_rollback_after_a_promotion_by_hand(client):
    """The parent of what is live goes live, whatever was live in between."""
    releases.promote(client, "rel_1", reason="r", actor="a")
    go_live(client, run="r2", parent=1)
    registry.promote(client, 0, actor="a", reason="r")
    registry.promote(client, 2, actor="a", reason="r")
    assert states(client) == ["previous", "retired", "live"]
    assert registry.rollback(client, actor="a", reason="r") == 1
    assert states(client) == ["previous", "live", "rolled_back"]
