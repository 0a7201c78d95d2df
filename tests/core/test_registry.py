"""The registry in a real Redis: exactly one version is live, and no change goes unrecorded."""

import asyncio
from functools import partial

import pytest
import redis

from core import audit, keys, registry, registry_scripts, releases
from core.errors import Conflict, UsageError
from core.records import Check, GateReport, PolicyState, PolicyVersion, Verdict
from core.redis import connect_async


def policy(parent: int | None, **given: object) -> PolicyVersion:
    fields = {"version": 0, "base_sha256": "b", "adapter_sha256": "00", "created": 1.5, "state": "candidate"}
    method = "zero" if parent is None else "dpo"
    return PolicyVersion.model_validate(fields | {"parent": parent, "method": method} | given)


def gate(verdict: Verdict, live: int) -> GateReport:
    check = Check(name="win_rate", value=0.5, bound="> 0.5", verdict=verdict)
    return GateReport(verdict=verdict, live_version=live, checks=[check], summary=f"{verdict} é")


def publish(client: redis.Redis, *, run: str, parent: int, live: int, verdict: Verdict = Verdict.PASS) -> int:
    """Publishes as attempt 1 of a run that is held."""
    client.hset(keys.run(run), mapping={"state": "running", "attempt": 1})
    return registry.publish(client, policy(parent, run=run), gate(verdict, live), run=run, attempt=1)


def go_live(client: redis.Redis, *, run: str, parent: int) -> int:
    """Publishes against the version that is live, and lets the release end well."""
    live = registry.state(client).live
    version = publish(client, run=run, parent=parent, live=live)
    releases.promote(client, f"rel_{version}", reason="e = 21", actor="scheduler")
    return version


def states(client: redis.Redis) -> list[str]:
    return [str(it.state) for it in registry.policies(client)]


@pytest.fixture
def client(redis_client: redis.Redis) -> redis.Redis:
    """Version 0 is live."""
    assert registry.initialise(redis_client, policy(None), actor="test")
    return redis_client


def test_before_version_zero_there_is_nothing(redis_client):
    """An empty registry has no state, and nothing to roll back."""
    assert registry.state(redis_client) is None
    assert registry.policies(redis_client) == []
    with pytest.raises(UsageError, match="no policy yet"):
        registry.rollback(redis_client, actor="a", reason="r")


def test_version_zero_is_registered_once(client):
    """Initialising again changes nothing."""
    assert not registry.initialise(client, policy(None, adapter_sha256="ff"), actor="other")
    (zero,) = registry.policies(client)
    assert (zero.version, zero.adapter_sha256, zero.state) == (0, "00", PolicyState.LIVE)
    state = registry.state(client)
    assert (state.generation, state.live, state.previous, state.next_version) == (1, 0, None, 1)


def test_what_versions_were_trained_on(client, redis_server):
    """Read without the gate reports: the state of each version, and its snapshot; none of version 0."""
    publish(client, run="r", parent=0, live=0, verdict=Verdict.FAIL)
    client.hset(keys.run("s"), mapping={"state": "running", "attempt": 1})
    registry.publish(client, policy(0, run="s", snapshot="5d41"), gate(Verdict.PASS, 0), run="s", attempt=1)
    releases.promote(client, "rel_2", reason="e = 21", actor="scheduler")

    async def read() -> tuple[dict[int, PolicyState], dict[int, str | None], dict[int, str | None]]:
        asynchronous = connect_async(redis_server)
        states = await registry.states(asynchronous)
        found = await registry.snapshots_of(asynchronous, sorted(states)), await registry.snapshots_of(asynchronous, [])
        await asynchronous.aclose()
        return states, *found

    states, snapshots, nothing = asyncio.run(read())
    assert states == {0: PolicyState.PREVIOUS, 1: PolicyState.REJECTED, 2: PolicyState.LIVE}
    assert (snapshots, nothing) == ({0: None, 1: None, 2: "5d41"}, {})


def test_passed_candidate_is_kept_with_its_whole_record(client):
    """What was published comes back as it went in, with the number and state that the registry gave."""
    assert publish(client, run="r", parent=0, live=0) == 1
    found = registry.policy(client, 1)
    expected = policy(0, run="r", version=1, state="canary")
    assert found == expected
    assert states(client) == ["live", "canary"]
    assert client.hmget(keys.run("r"), "state", "version", "verdict", "stage") == ["done", "1", "pass", "done"]


@pytest.mark.parametrize("verdict", [Verdict.FAIL, Verdict.INCONCLUSIVE])
def test_other_verdicts_are_kept_and_not_served(client, verdict):
    """Inconclusive is not a pass."""
    assert publish(client, run="r", parent=0, live=0, verdict=verdict) == 1
    assert states(client) == ["live", "rejected"]
    assert [event.action for event in audit.history(client)] == ["register", "register"]


def test_publishing_is_idempotent_per_run(client):
    """The same run again returns the first version and changes nothing."""
    publish(client, run="r", parent=0, live=0)
    before = client.hgetall(keys.REGISTRY), audit.history(client), registry.policies(client)
    again = registry.publish(client, policy(0, run="r"), gate(Verdict.PASS, 0), run="r", attempt=1)
    assert again == 1
    assert (client.hgetall(keys.REGISTRY), audit.history(client), registry.policies(client)) == before


@pytest.mark.parametrize("run", [{"state": "running", "attempt": 2}, {"state": "cancelled", "attempt": 1}, {}])
def test_fenced_off_attempt_publishes_nothing(client, run):
    """Another attempt, a cancelled run, a run that is unknown: refused, nothing registered."""
    if run:
        client.hset(keys.run("r"), mapping=run)
    with pytest.raises(Conflict, match="attempt 1 no longer holds run r"):
        registry.publish(client, policy(0), gate(Verdict.PASS, 0), run="r", attempt=1)
    assert states(client) == ["live"]


def test_gate_against_a_policy_that_is_no_longer_live(client):
    """A pass counts only against the version that is live when it is published; a rejection is kept anyway."""
    go_live(client, run="r", parent=0)
    with pytest.raises(Conflict, match="version 1 went live while the gate compared with version 0"):
        publish(client, run="s", parent=0, live=0)
    assert client.hget(keys.run("s"), "state") == "running"
    assert publish(client, run="s", parent=0, live=0, verdict=Verdict.FAIL) == 2
    assert states(client) == ["previous", "live", "rejected"]


def test_rollback_goes_to_the_parent_and_stops_at_zero(client):
    """v3 was trained from v1: rolling back passes by the rejected v2, then reaches v0, then is refused."""
    go_live(client, run="r1", parent=0)
    publish(client, run="r2", parent=1, live=1, verdict=Verdict.FAIL)
    go_live(client, run="r3", parent=1)
    assert states(client) == ["retired", "previous", "rejected", "live"]
    assert registry.rollback(client, actor="a", reason="r") == 1
    assert states(client) == ["previous", "live", "rejected", "rolled_back"]
    assert registry.rollback(client, actor="a", reason="again") == 0
    assert states(client) == ["live", "rolled_back", "rejected", "rolled_back"]
    assert registry.state(client).previous is None
    with pytest.raises(UsageError, match="no parent to roll back to"):
        registry.rollback(client, actor="a", reason="r")


def test_rollback_stops_the_open_release(client):
    """The candidate was measured against a version that is gone: two changes, each with its entry."""
    go_live(client, run="r1", parent=0)
    publish(client, run="r2", parent=1, live=1)
    assert registry.rollback(client, actor="a", reason="worse") == 0
    assert states(client) == ["live", "rolled_back", "retired"]
    release = releases.release(client, "rel_2")
    assert (release.state, release.share, release.reason) == ("stopped", 0.0, "version 1 is rolled back: worse")
    state = registry.state(client)
    assert (state.release, state.canary, state.share) == (None, None, None)
    assert [event.action for event in audit.history(client)][-2:] == ["release.stopped", "rollback"]


def test_rollback_compares_generations_and_knows_its_own_retry(client):
    """A rollback meant for another generation is a conflict; the Redis client's silent retry of one is the same one."""
    go_live(client, run="r1", parent=0)
    go_live(client, run="r2", parent=1)
    generation = registry.state(client).generation
    once = partial(registry_scripts.run, client, "registry_rollback", generation, "a", "r")
    assert [once(also=keys.call("mine")) for _ in range(2)] == [["done", 1], ["done", 1]]
    assert once(also=keys.call("another")) == ["conflict", 1]
    assert registry.state(client).generation == generation + 1


def test_a_person_may_promote_any_version(client):
    """A rejected one, with its reason in the audit trail; the open release is stopped, and rolling back works."""
    publish(client, run="r1", parent=0, live=0, verdict=Verdict.FAIL)
    publish(client, run="r2", parent=0, live=0)
    assert registry.promote(client, 1, actor="ann", reason="the gate was wrong") == 0
    assert states(client) == ["previous", "live", "retired"]
    assert releases.release(client, "rel_2").state == "stopped"
    last = audit.history(client)[-1]
    assert (last.action, last.version, last.actor, last.reason) == ("promote", 1, "ann", "the gate was wrong")
    assert registry.rollback(client, actor="ann", reason="it was not") == 0


@pytest.mark.parametrize(("version", "words"), [(0, "Version 0 is live already"), (9, "no policy version 9")])
def test_what_cannot_be_promoted(client, version, words):
    """The live version and an unknown one: one line each, nothing changed."""
    before = registry.state(client)
    with pytest.raises(UsageError, match=words):
        registry.promote(client, version, actor="a", reason="r")
    assert registry.state(client) == before


def test_unknown_version_is_a_usage_error(client):
    """One line that says where to look."""
    with pytest.raises(UsageError, match="no policy version 7"):
        registry.policy(client, 7)


def test_children_of_a_tainted_policy_are_tainted(redis_client: redis.Redis) -> None:
    """Version 1 is marked; 2 descends from it, 3 does not."""
    given = {"base_sha256": "b", "adapter_sha256": "00", "method": "dpo", "created": 1.0}
    for version, parent in {0: None, 1: 0, 2: 1, 3: 0}.items():
        known = PolicyVersion(version=version, parent=parent, state=PolicyState.CANDIDATE, **given)
        redis_client.hset(keys.POLICIES, version, known.model_dump_json(by_alias=True, exclude={"state"}))
        redis_client.hset(keys.POLICY_STATES, version, "candidate")
    assert registry.tainted(redis_client) == {}
    registry.taint(redis_client, [1], at=5.0)
    registry.taint(redis_client, [1], at=9.0)
    assert registry.tainted(redis_client) == {1: 5.0, 2: 5.0}
