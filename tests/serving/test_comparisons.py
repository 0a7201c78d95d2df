"""Comparisons over the fake engine: two sides, one prompt, nothing that tells them apart."""

import json
import time
from typing import Any

from core import keys
from core.records import Comparison, CompletionRecord
from tests.serving.conftest import FakeStack

ASK: Any = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}


def _comparison(stack: FakeStack, comparison_id: str) -> Comparison:
    return Comparison.model_validate_json(stack.client.hget(keys.comparison(comparison_id), "record") or "")


def _side(stack: FakeStack, completion_id: str) -> CompletionRecord:
    return CompletionRecord.model_validate_json(stack.client.hget(keys.completion(completion_id), "record") or "")


def test_a_comparison_is_two_recorded_completions(stack: FakeStack) -> None:
    """Both complete, marked as sides, with what was shown; the comparison names them before the 201 arrives."""
    response = stack.live.post("/v1/comparisons", ASK | {"user": "ann"})
    assert response.status_code == 201
    body = response.json()
    comparison = _comparison(stack, body["id"])
    assert (comparison.policy_versions, comparison.rater) == ((0, 0), "ann")
    for side, completion_id in zip(body["sides"], (comparison.a, comparison.b), strict=True):
        record = _side(stack, completion_id)
        assert record.choices[0].text == side["content"]
        assert (record.state, record.assignment, record.comparison_id) == ("complete", "comparison", body["id"])
        assert record.rater == "ann"
    assert stack.client.ttl(keys.comparison(body["id"])) > 0
    assert stack.client.xlen(keys.PROMPTS) == 0


def test_sides_are_dealt_by_a_coin(stack: FakeStack) -> None:
    """Over 40 comparisons of v1 with v0 both orders occur, and the record always knows which side is which."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    orders = set()
    for _ in range(40):
        body = stack.live.post("/v1/comparisons", ASK | {"policies": ["assistant", "assistant@v0"]}).json()
        comparison = _comparison(stack, body["id"])
        assert [side["side"] for side in body["sides"]] == ["a", "b"]
        shown = [side["content"].split()[0] for side in body["sides"]]
        assert shown == [f"assistant@v{version}" for version in comparison.policy_versions]
        assert comparison.swapped == (comparison.policy_versions == (0, 1))
        orders.add(comparison.policy_versions)
    assert orders == {(0, 1), (1, 0)}


def test_the_answer_is_blind(stack: FakeStack) -> None:
    """Only id, object, created and sides; no header names a version, an adapter or a side's completion."""
    response = stack.live.post("/v1/comparisons", ASK)
    assert set(response.json()) == {"id", "object", "created", "sides"}
    comparison = _comparison(stack, response.json()["id"])
    headers = json.dumps(dict(response.headers))
    assert "x-policy-version" not in headers
    assert "x-adapter-sha256" not in headers
    assert comparison.a not in response.text + headers


def test_drafts_of_one_seed_are_independent(stack: FakeStack) -> None:
    """The first policy samples with the seed, the second with the next one; without a seed neither has any."""
    stack.live.post("/v1/comparisons", ASK | {"seed": 7})
    assert sorted(body["seed"] for body in stack.engine.seen) == [7, 8]
    stack.engine.seen.clear()
    stack.live.post("/v1/comparisons", ASK)
    assert ["seed" in body for body in stack.engine.seen] == [False, False]


def test_bad_comparisons_are_refused(stack: FakeStack) -> None:
    """Unknown fields and policies, wrong values; no version stays taken."""
    for extra, status, param in [
        ({"n": 2}, 400, "n"),
        ({"policies": ["assistant", "assistant@v9"]}, 404, "model"),
        ({"policies": ["assistant"]}, 400, "policies.1"),
        ({"temperature": -1}, 400, "temperature"),
        ({"messages": []}, 400, "messages"),
    ]:
        response = stack.live.post("/v1/comparisons", ASK | extra)
        assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert stack.live.serving.replica.in_flight == 0


def test_a_side_that_breaks_fails_the_comparison(stack: FakeStack) -> None:
    """A typed error, no comparison record, nothing left running."""
    stack.engine.fail_after = 1
    response = stack.live.post("/v1/comparisons", ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_error")
    assert list(stack.client.scan_iter(keys.comparison("*"))) == []
    assert (stack.live.serving.replica.in_flight, stack.engine.running) == (0, 0)


def test_without_redis_there_is_no_comparison(stack: FakeStack) -> None:
    """503 with Retry-After: an unrecorded comparison could never be voted on."""
    stack.store.stop()
    stack.live.wait(lambda: not stack.live.serving.records.recording, timeout_s=10)
    started = time.monotonic()
    response = stack.live.post("/v1/comparisons", ASK)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_unavailable")
    assert "retry-after" in response.headers
    assert time.monotonic() - started < 60
