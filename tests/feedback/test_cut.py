"""Cutting a snapshot from a real Redis."""

import pytest

from core import keys, registry
from core.errors import UsageError
from core.records import GateReport, Message, PolicyState, PolicyVersion, Verdict
from feedback.cut import cut_snapshot, lineage
from feedback.snapshot import Snapshot


def policy(version: int, parent: int | None, **given: object) -> PolicyVersion:
    fields = {
        "version": version,
        "parent": parent,
        "base_sha256": "b",
        "adapter_sha256": f"{version:064d}",
        "method": "zero" if parent is None else "dpo",
        "created": 1.0,
        "state": PolicyState.CANDIDATE,
    }
    return PolicyVersion.model_validate(fields | given)


def publish(client, candidate: PolicyVersion, *, verdict: Verdict = Verdict.PASS) -> int:
    live = registry.state(client).live
    client.hset(keys.run("r"), mapping={"state": "running", "attempt": 1})
    client.hdel(keys.run("r"), "version")
    gate = GateReport(verdict=verdict, live_version=live, checks=[], summary="s")
    return registry.publish(client, candidate, gate, run="r", attempt=1)


def cut(client, tmp_path) -> Snapshot:
    return cut_snapshot(client, tmp_path, salt=b"s", base_sha256="b", tokenizer_sha256="t")


@pytest.fixture
def vote_on(api, put_comparison):
    """A fresh comparison by two given versions, and a vote on it."""

    def vote(name: str, versions: tuple[int, int] = (0, 0), value: str = "a", **more: object) -> None:
        messages = [Message(role="user", content=f"prompt {name}")]
        sides = [{"policy_version": version, "messages": messages} for version in versions]
        put_comparison(name, a=sides[0], b=sides[1])
        body = {"target": {"type": "comparison", "id": f"cmp_{name}"}, "kind": "preference", "value": value} | more
        assert api.post("/v1/feedback", json=body).status_code == 201

    return vote


def test_without_a_policy_there_is_nothing_to_cut(redis_client, tmp_path):
    """Before version 0 there is no round."""
    with pytest.raises(UsageError, match="no policy yet"):
        cut(redis_client, tmp_path)


def test_cut_is_a_function_of_the_log(redis_client, tmp_path, vote_on):
    """Twice the same log gives one snapshot, on any machine the same id; one more vote gives another."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    vote_on("1")
    vote_on("2", value="tie")
    first = cut(redis_client, tmp_path / "here")
    assert cut(redis_client, tmp_path / "here") == first
    assert cut(redis_client, tmp_path / "there").manifest.id == first.manifest.id
    assert (first.manifest.rows, first.manifest.dropped, first.manifest.live_version) == (2, {"tie": 1}, 0)
    assert first.manifest.last_event == redis_client.xrevrange(keys.FEEDBACK, count=1)[0][0]
    vote_on("3")
    assert cut(redis_client, tmp_path / "here").manifest.id != first.manifest.id


def test_an_ai_raters_votes_reach_the_snapshot_as_such(redis_client, tmp_path, vote_on):
    """From the API's `rater.kind` to the row, at its own weight and share."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    for index in range(20):
        vote_on(f"person-{index}")
        vote_on(f"machine-{index}", rater={"id": "ai:judge", "kind": "ai"})
    pairs = cut(redis_client, tmp_path).pairs
    machine = [row for row in pairs if row.rater_kind == "ai"]
    people = [row for row in pairs if row.rater_kind == "human" and row.fold == "optimize"]
    assert len(machine) == int(len(people) * 3 / 7)
    assert {(row.fold, row.weight) for row in machine} == {("optimize", 0.5)}


def test_only_a_live_policy_consumes_votes(redis_client, tmp_path, vote_on):
    """Votes stay policy rows after a rejected candidate and stop being so after a promoted one."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    for name in "1234567890":
        vote_on(name)
    first = cut(redis_client, tmp_path)
    assert 0 < first.manifest.policy_rows < 10
    publish(redis_client, policy(1, 0, snapshot=first.manifest.id), verdict=Verdict.FAIL)
    assert cut(redis_client, tmp_path).manifest.policy_rows == first.manifest.policy_rows
    publish(redis_client, policy(2, 0, snapshot=first.manifest.id))
    assert cut(redis_client, tmp_path).manifest.policy_rows == 0
    registry.rollback(redis_client, actor="test", reason="worse")
    assert cut(redis_client, tmp_path).manifest.policy_rows == first.manifest.policy_rows


def test_a_live_policy_without_its_snapshot_is_an_error(redis_client, tmp_path):
    """Nothing is trained on twice by guess: the missing snapshot is named."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    publish(redis_client, policy(1, 0, snapshot="gone"))
    with pytest.raises(UsageError, match="gone"):
        cut(redis_client, tmp_path)


def test_lineage_follows_parents_not_numbers():
    """v3 was trained from v1 after v2 was rejected: v2's answers are not its ancestors'."""
    policies = {version: policy(version, parent) for version, parent in ((0, None), (1, 0), (2, 1), (3, 1))}
    assert lineage(policies, 3, 1) == {3, 1}
    assert lineage(policies, 3, 9) == {3, 1, 0}
    assert lineage(policies, 0, 1) == {0}
