"""A release as replicas route by it: who is answered by the candidate, what is recorded, and what cannot hurt the live
version."""

import httpx
import pytest

from core import keys, registry, releases
from core.records import Comparison, CompletionRecord
from serving.assignment import place
from tests.serving import policies
from tests.serving.conftest import FakeStack
from tests.serving.live import LiveServing

USERS = [f"user-{number}" for number in range(40)]
RELEASE = "rel_1"


@pytest.fixture
def open_release(stack: FakeStack) -> FakeStack:
    """Version 1 answers half of the end users, version 0 the others."""
    policies.publish(stack.client, stack.publish())
    for stage in (1, 2):
        releases.advance(stack.client, RELEASE, from_stage=stage, reason="test")
    _wait_for_share(stack, 0.5)
    return stack


def _wait_for_share(stack: FakeStack, share: float | None) -> None:
    def served() -> bool:
        residents = stack.live.serving.replica.residents
        return residents is not None and share == (residents.canary.share if residents.canary else None)

    stack.live.wait(served, timeout_s=20)


def _record(stack: FakeStack, answer: httpx.Response) -> CompletionRecord:
    found = stack.client.hget(keys.completion(answer.json()["id"]), "record")
    return CompletionRecord.model_validate_json(found or "")


def _comparisons(stack: FakeStack, count: int, **fields: object) -> list[Comparison]:
    body = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 1} | fields
    ids = [stack.live.post("/v1/comparisons", body).json()["id"] for _ in range(count)]
    return [Comparison.model_validate_json(stack.client.hget(keys.comparison(one), "record") or "") for one in ids]


def test_both_arms_are_labelled(open_release: FakeStack) -> None:
    """Each end user gets the arm of their place, every time; headers, body and record say which."""
    arms = {}
    for user in USERS:
        answer = open_release.live.chat(user=user, max_tokens=1)
        arm = "canary" if place(RELEASE, user) < 0.5 else "live"
        version = {"canary": 1, "live": 0}[arm]
        assert answer.json()["model"] == f"assistant@v{version}"
        assert answer.headers["x-policy-version"] == str(version)
        assert answer.headers["x-release"] == f"{RELEASE}; arm={arm}"
        record = _record(open_release, answer)
        assert (record.policy_version, record.assignment) == (version, arm)
        assert (record.propensity, record.release) == (0.5, RELEASE)
        arms[user] = arm
    assert set(arms.values()) == {"canary", "live"}


def test_a_smaller_share_is_propensity_of_the_canary_and_the_rest_of_live(open_release: FakeStack) -> None:
    """At 1 % a user who stands behind it is answered by the live version with 99 %."""
    releases.end(open_release.client, RELEASE, state="stopped", reason="r", actor="a")
    policies.publish(open_release.client, open_release.publish())
    _wait_for_share(open_release, 0.01)
    behind = next(user for user in USERS if place("rel_2", user) > 0.01)
    record = _record(open_release, open_release.live.chat(user=behind))
    assert (record.assignment, record.policy_version, record.propensity) == ("live", 0, 0.99)


def test_without_a_name_each_request_is_drawn(open_release: FakeStack) -> None:
    """Nobody's requests meet both arms."""
    versions = {open_release.live.chat(max_tokens=1).json()["model"] for _ in range(40)}
    assert versions == {"assistant@v0", "assistant@v1"}


def test_the_end_of_a_release_is_the_end_of_its_traffic(open_release: FakeStack) -> None:
    """Stopped: all are answered by the incumbent again, without a label; the candidate is unloaded."""
    releases.end(open_release.client, RELEASE, state="rolled_back", reason="r", actor="a")
    _wait_for_share(open_release, None)
    answers = [open_release.live.chat(user=user, max_tokens=1) for user in USERS]
    assert {answer.json()["model"] for answer in answers} == {"assistant@v0"}
    assert all("x-release" not in answer.headers for answer in answers)
    assert _record(open_release, answers[0]).release is None
    open_release.live.wait(lambda: open_release.engine.unloads == ["assistant@v1"], timeout_s=10)


def test_promoted_it_answers_everybody(open_release: FakeStack) -> None:
    """And the incumbent stays resident for the way back."""
    releases.promote(open_release.client, RELEASE, reason="r", actor="a")
    open_release.live.wait_for_live(1, timeout_s=20)
    assert {open_release.live.chat(user=user).json()["model"] for user in USERS[:9]} == {"assistant@v1"}
    assert open_release.live.serving.readiness().resident == [0, 1]
    assert open_release.engine.loads.count("assistant@v1") == 1


@pytest.mark.parametrize("fault", ["refused", "file", "gone"])
def test_a_canary_that_cannot_be_loaded_harms_nobody(stack: FakeStack, fault: str) -> None:
    """All are answered by the live version, with the propensity that this has here, and /ready tells why."""
    if fault == "refused":
        stack.engine.refuse.add("assistant@v1")
    sha256 = stack.publish()
    directory = stack.settings.artifacts / "adapters" / sha256
    if fault == "file":
        (directory / "adapter_model.safetensors").write_bytes(b"")
    if fault == "gone":
        directory.rename(directory.with_name("elsewhere"))
    policies.publish(stack.client, sha256)
    stack.live.wait(lambda: "all traffic of this replica" in str(stack.live.serving.readiness().notes), timeout_s=20)
    assert "assistant@v1 is not resident" in stack.live.serving.readiness().notes[0]
    assert stack.live.serving.ready()
    residents = stack.live.serving.replica.residents
    assert residents is not None and (residents.generation, residents.canary) == (3, None)
    record = _record(stack, stack.live.chat(user=next(user for user in USERS if place(RELEASE, user) < 0.5)))
    assert (record.policy_version, record.assignment, record.propensity, record.release) == (0, "live", 1.0, None)
    assert {it.asked for it in _comparisons(stack, 5)} == {"random"}


def test_an_engine_is_built_without_a_canary_whose_files_are_gone(stack: FakeStack) -> None:
    """A start amid such a release serves the live version."""
    sha256 = stack.publish()
    policies.publish(stack.client, sha256)
    _wait_for_share(stack, 0.01)
    stack.live.stop()
    (stack.settings.artifacts / "adapters" / sha256).rename(stack.settings.artifacts / "elsewhere")
    for copy in (stack.settings.directory / "replica-cache" / sha256).iterdir():
        copy.unlink()
    live: LiveServing = stack.rebuild()
    live.start()
    live.wait_for_live(0, timeout_s=20)
    assert "all traffic of this replica" in str(live.serving.readiness().notes)


def test_there_is_room_for_four_and_for_what_comes_next(stack: FakeStack) -> None:
    """v0, previous, live and canary are resident together; then an old version is promoted by hand, and one after the
    other they make room for it."""
    for version in (1, 2, 3):
        assert stack.promote() == version
    policies.publish(stack.client, stack.publish())
    stack.live.wait(lambda: stack.live.serving.readiness().resident == [0, 2, 3, 4], timeout_s=20)
    registry.promote(stack.client, 1, actor="ann", reason="it was the best")
    stack.live.wait_for_live(1, timeout_s=20)
    stack.live.wait(lambda: stack.live.serving.readiness().resident == [0, 1, 3], timeout_s=20)
    assert stack.live.chat(max_tokens=1).json()["model"] == "assistant@v1"
    assert stack.live.chat(model="assistant@v4").status_code == 404
    assert set(stack.engine.adapters) == {"assistant@v0", "assistant@v1", "assistant@v3"}


def test_two_changes_at_once_find_room_too(stack: FakeStack) -> None:
    """Everything but v0 is another one at the next look: the old live version answers until the new one does."""
    for version in (1, 2, 3):
        assert stack.promote() == version
    policies.publish(stack.client, stack.publish())
    stack.live.wait(lambda: stack.live.serving.readiness().resident == [0, 2, 3, 4], timeout_s=20)
    registry.promote(stack.client, 1, actor="ann", reason="r")
    stack.promote()
    policies.publish(stack.client, stack.publish())
    stack.live.wait_for_live(5, timeout_s=20)
    stack.live.wait(lambda: stack.live.serving.readiness().resident == [0, 1, 5, 6], timeout_s=20)
    assert stack.live.serving.readiness().notes == []


def test_release_comparisons_are_the_candidate_against_the_incumbent(open_release: FakeStack) -> None:
    """By a draw of one half: they name the release and the propensity; the others are two drafts of the live version,
    also for somebody whom the canary answers."""
    canary_user = next(user for user in USERS if place(RELEASE, user) < 0.5)
    found = _comparisons(open_release, 40, user=canary_user)
    of_release = [it for it in found if it.asked == "release"]
    others = [it for it in found if it.asked == "random"]
    assert len(of_release) + len(others) == 40 and of_release and others
    assert {it.release for it in of_release} == {RELEASE} and {it.release for it in others} == {None}
    assert {it.propensity for it in found} == {0.5}
    assert {tuple(it.policy_versions) for it in of_release} == {(0, 1), (1, 0)}
    for comparison in of_release:  # the candidate is what was asked for first, wherever it stands
        assert comparison.policy_versions[comparison.order.index(0)] == 1
    assert {tuple(it.policy_versions) for it in others} == {(0, 0)}
    side = open_release.client.hget(keys.completion(of_release[0].completion_ids[0]), "record")
    record = CompletionRecord.model_validate_json(side or "")
    assert (record.assignment, record.release, record.propensity) == ("comparison", None, 1.0)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"policies": ["assistant", "assistant@v1"]}, "requested"),
        ({"n": 3}, "random"),
        ({"choice": "active"}, "active"),
    ],
)
def test_who_chooses_is_not_asked_about_the_release(
    open_release: FakeStack, fields: dict[str, object], asked: str
) -> None:
    """Named policies, more than two drafts, and what is learned from the most: no such vote is evidence."""
    found = _comparisons(open_release, 12, **fields)
    assert {(it.asked, it.release) for it in found} == {(asked, None)}


def test_without_an_open_release_all_is_as_ever(stack: FakeStack) -> None:
    """Two drafts of the live version, with certainty."""
    (found,) = _comparisons(stack, 1)
    assert (found.asked, found.propensity, found.release) == ("random", 1.0, None)
