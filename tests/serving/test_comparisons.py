"""Comparisons over the fake engine: two to nine sides, one prompt, nothing that tells them apart."""

import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from core import keys
from core.records import SIDES, Comparison, CompletionRecord, VersionDoubt
from tests.serving.conftest import FakeStack

ASK: Any = {"messages": [{"role": "user", "content": "A dog is"}], "max_tokens": 2}


def _comparison(stack: FakeStack, comparison_id: str) -> Comparison:
    return Comparison.model_validate_json(stack.client.hget(keys.comparison(comparison_id), "record") or "")


def _side(stack: FakeStack, completion_id: str) -> CompletionRecord:
    return CompletionRecord.model_validate_json(stack.client.hget(keys.completion(completion_id), "record") or "")


def _states(stack: FakeStack, comparison: Comparison) -> list[str | None]:
    return [stack.client.hget(keys.completion(completion_id), "state") for completion_id in comparison.completion_ids]


def _nothing_left(stack: FakeStack) -> None:
    """No version stays taken, no answer is being written."""
    stack.live.wait(lambda: stack.live.serving.replica.in_flight == 0, timeout_s=10)
    assert stack.engine.running == 0


@contextmanager
def _streaming(stack: FakeStack, **fields: Any) -> Iterator[tuple[httpx.Response, Iterator[str]]]:
    """The response and the data of its events."""
    body = ASK | {"stream": True} | fields
    with httpx.stream("POST", stack.live.url + "/v1/comparisons", json=body, timeout=30) as response:
        yield response, (line.removeprefix("data: ") for line in response.iter_lines() if line)


def _events(stack: FakeStack, **fields: Any) -> list[Any]:
    """All events of a stream, which must end with `[DONE]`."""
    with _streaming(stack, **fields) as (_, data):
        *events, done = list(data)
    assert done == "[DONE]"
    return [json.loads(event) for event in events]


def _texts(events: list[Any]) -> dict[str, str]:
    texts = dict.fromkeys(events[0]["sides"], "")
    for event in events[1:]:
        texts[event["side"]] += event.get("delta", "")
    return texts


def test_a_comparison_is_two_recorded_completions(stack: FakeStack) -> None:
    """Both complete, marked as sides, with what was shown; the comparison names them before the 201 arrives."""
    response = stack.live.post("/v1/comparisons", ASK | {"user": "ann", "metadata": {"page": "3"}})
    assert response.status_code == 201
    body = response.json()
    comparison = _comparison(stack, body["id"])
    assert (comparison.policy_versions, comparison.rater) == ([0, 0], "ann")
    assert (comparison.asked, comparison.propensity, sorted(comparison.order)) == ("random", 1.0, [0, 1])
    for side, completion_id in zip(body["sides"], comparison.completion_ids, strict=True):
        record = _side(stack, completion_id)
        assert record.choices[0].text == side["content"]
        assert (record.state, record.assignment, record.comparison_id) == ("complete", "comparison", body["id"])
        assert (record.rater, record.metadata) == ("ann", {"page": "3"})
        assert record.finished is not None and record.finished >= record.created
    assert stack.client.ttl(keys.comparison(body["id"])) > 0
    assert stack.client.xlen(keys.PROMPTS) == 0


def test_sides_are_dealt_by_the_server(stack: FakeStack) -> None:
    """Over 80 comparisons of v1, v0 and the live one all orders that can be told apart occur, and the record always
    knows which side is which."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    policies, versions, orders = ["assistant", "assistant@v0", "assistant@v1"], [1, 0, 1], set()
    for _ in range(80):
        body = stack.live.post("/v1/comparisons", ASK | {"policies": policies}).json()
        comparison = _comparison(stack, body["id"])
        assert [side["side"] for side in body["sides"]] == ["a", "b", "c"]
        shown = [side["content"].split()[0] for side in body["sides"]]
        assert shown == [f"assistant@v{version}" for version in comparison.policy_versions]
        assert comparison.policy_versions == [versions[index] for index in comparison.order]
        assert comparison.asked == "requested"
        orders.add(tuple(comparison.order))
    assert orders == set(itertools.permutations(range(3)))


def test_an_active_choice_is_of_two_versions_with_its_propensity(stack: FakeStack) -> None:
    """With one version it is two drafts of it. Of two there is one pair. Of three, a pair of which the votes say much
    is rare: its share of the draw is its part of the floor and of the doubt, and the record holds that probability."""
    body = stack.live.post("/v1/comparisons", ASK | {"choice": "active"}).json()
    comparison = _comparison(stack, body["id"])
    assert (comparison.policy_versions, comparison.asked, comparison.propensity) == ([0, 0], "active", 1.0)
    for _ in range(2):
        stack.live.wait_for_live(stack.promote(), timeout_s=20)
    known = VersionDoubt(versions=[0, 1], covariance=[[0.5, 0.5], [0.5, 0.5]], prior=1.0)
    stack.client.hset(keys.CHOICES, "versions", known.to_json())
    met = set()
    for _ in range(60):
        body = stack.live.post("/v1/comparisons", ASK | {"choice": "active"}).json()
        comparison = _comparison(stack, body["id"])
        pair = tuple(sorted(comparison.policy_versions))
        assert comparison.policy_versions == [pair[index] for index in comparison.order]
        shown = [side["content"].split()[0] for side in body["sides"]]
        assert shown == [f"assistant@v{version}" for version in comparison.policy_versions]
        assert comparison.propensity == pytest.approx(0.2 / 3 if pair == (0, 1) else 0.2 / 3 + 0.4)
        assert comparison.asked == "active"
        met.add(pair)
    assert {(0, 2), (1, 2)} <= met
    _nothing_left(stack)


def test_without_a_run_all_pairs_are_alike(stack: FakeStack) -> None:
    """Nothing is known, or what is there cannot be read: a third for each of three pairs."""
    for _ in range(2):
        stack.live.wait_for_live(stack.promote(), timeout_s=20)
    for left in (None, "{}"):
        if left is not None:
            stack.client.hset(keys.CHOICES, "versions", left)
        body = stack.live.post("/v1/comparisons", ASK | {"choice": "active"}).json()
        assert _comparison(stack, body["id"]).propensity == pytest.approx(1 / 3)


@pytest.mark.parametrize("n", [2, 4, 9])
@pytest.mark.parametrize("stream", [True, False])
def test_there_may_be_up_to_nine_drafts(stack: FakeStack, n: int, stream: bool) -> None:
    """`n` sides named a, b, c, …, each a completion of its own."""
    if stream:
        events = _events(stack, n=n)
        comparison_id, sides = events[0]["id"], events[0]["sides"]
        assert [event["side"] for event in events if "finish_reason" in event] == sides
        assert set(_texts(events).values()) == {"assistant@v0 assistant@v0 "}
    else:
        body = stack.live.post("/v1/comparisons", ASK | {"n": n}).json()
        comparison_id, sides = body["id"], [side["side"] for side in body["sides"]]
    comparison = _comparison(stack, comparison_id)
    assert sides == list(SIDES[:n])
    assert len(set(comparison.completion_ids)) == len(comparison.policy_versions) == n
    assert sorted(comparison.order) == list(range(n))
    assert _states(stack, comparison) == ["complete"] * n
    _nothing_left(stack)


@pytest.mark.parametrize("stream", [True, False])
def test_the_answer_is_blind(stack: FakeStack, stream: bool) -> None:
    """Only id, object, created and sides; no header names a version, an adapter or a side's completion."""
    response = stack.live.post("/v1/comparisons", ASK | {"stream": stream})
    text = response.text + json.dumps(dict(response.headers))
    events = [json.loads(line[6:]) for line in response.text.split("\n\n")[:-2]] if stream else [response.json()]
    assert set(events[0]) == {"id", "object", "created", "sides"}
    assert {frozenset(event) for event in events[1:]} <= {
        frozenset({"side", "delta"}),
        frozenset({"side", "finish_reason"}),
    }
    comparison = _comparison(stack, events[0]["id"])
    assert response.headers["x-feedback-status"] == "recorded"
    assert "x-policy-version" not in text
    assert "x-adapter-sha256" not in text
    assert not any(completion_id in text for completion_id in comparison.completion_ids)


def test_speed_does_not_tell_the_sides_apart(stack: FakeStack) -> None:
    """One policy ten times faster than the other: at every moment both sides have shown equally many words, events of
    one tick come in the order of the sides' names, and both end together."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    stack.engine.pause_s = {"assistant@v0": 0.03, "assistant@v1": 0.003}
    for _ in range(3):
        events = _events(stack, policies=["assistant@v0", "assistant@v1"], max_tokens=20)
        deltas = [event for event in events[1:] if "delta" in event]
        assert [event["side"] for event in deltas] == ["a", "b"] * (len(deltas) // 2)
        assert len(deltas) > 8
        assert all(len(a["delta"]) == len(b["delta"]) for a, b in zip(deltas[::2], deltas[1::2], strict=True))
        assert events[-2:] == [{"side": side, "finish_reason": "length"} for side in ("a", "b")]
        comparison = _comparison(stack, events[0]["id"])
        shown = [text.split()[0] for text in _texts(events).values()]
        assert shown == [f"assistant@v{version}" for version in comparison.policy_versions]
    finished = [_side(stack, completion_id).finished or 0.0 for completion_id in comparison.completion_ids]
    assert abs(finished[0] - finished[1]) > 0.3  # the record knows


def test_records_lie_in_redis_while_it_streams(stack: FakeStack) -> None:
    """With the first event there are comparison and sides, all still streaming; also the side that was written long
    ago, whose end is not shown. When an end is told, that side is complete."""
    stack.live.wait_for_live(stack.promote(), timeout_s=20)
    stack.engine.pause_s = {"assistant@v0": 0.05}
    with _streaming(stack, policies=["assistant@v0", "assistant@v1"], max_tokens=12) as (response, data):
        comparison = _comparison(stack, json.loads(next(data))["id"])
        stack.live.wait(lambda: stack.engine.running == 1, timeout_s=10)
        assert (response.status_code, _states(stack, comparison)) == (201, ["streaming"] * 2)
        assert next(event for event in data if "finish_reason" in event)
        assert _states(stack, comparison) == ["complete"] * 2


def test_a_client_that_goes_away_cancels_all_sides(stack: FakeStack) -> None:
    """Every engine request ends, the versions are free, the records say aborted."""
    stack.engine.pause_s = {"assistant@v0": 0.05}
    with _streaming(stack, n=4, max_tokens=10_000) as (_, data):
        comparison = _comparison(stack, json.loads(next(data))["id"])
    _nothing_left(stack)
    assert stack.engine.cancelled == 4
    stack.live.wait(lambda: _states(stack, comparison) == ["aborted"] * 4, timeout_s=10)


def test_a_side_that_breaks_amid_the_stream_ends_it_with_an_error(stack: FakeStack) -> None:
    """An error event in place of `[DONE]`; the comparison stays, with sides that nobody can vote on."""
    stack.engine.pause_s, stack.engine.fail_after = {"assistant@v0": 0.1}, 3
    with _streaming(stack, max_tokens=9) as (response, data):
        events = [json.loads(event) for event in data]
    assert response.status_code == 201
    assert events[-1]["error"]["code"] == "engine_error"
    _nothing_left(stack)
    comparison = _comparison(stack, events[0]["id"])
    stack.live.wait(lambda: "streaming" not in _states(stack, comparison), timeout_s=10)
    assert "failed" in _states(stack, comparison)


def test_drafts_of_one_seed_are_independent(stack: FakeStack) -> None:
    """The first policy samples with the seed, the next with the next one; without a seed none has any."""
    stack.live.post("/v1/comparisons", ASK | {"seed": 7, "n": 3})
    assert sorted(body["seed"] for body in stack.engine.seen) == [7, 8, 9]
    stack.engine.seen.clear()
    stack.live.post("/v1/comparisons", ASK)
    assert ["seed" in body for body in stack.engine.seen] == [False, False]


def test_the_engine_sees_no_consent_and_no_labels(stack: FakeStack) -> None:
    """`store`, `train`, `metadata`, `policies` and `n` are ours."""
    stack.live.post(
        "/v1/comparisons", ASK | {"store": True, "train": False, "metadata": {"a": "b"}, "n": 2, "choice": "active"}
    )
    assert {key for body in stack.engine.seen for key in body} == {"model", "messages", "max_tokens"}


@pytest.mark.parametrize("stream", [True, False])
def test_bad_comparisons_are_refused(stack: FakeStack, stream: bool) -> None:
    """Unknown fields and policies, wrong values and numbers; no version stays taken and nothing is recorded."""
    for extra, status, param in [
        ({"sides": 2}, 400, "sides"),
        ({"n": 1}, 400, "n"),
        ({"n": 10}, 400, "n"),
        ({"n": 3, "policies": ["assistant", "assistant"]}, 400, "policies"),
        ({"policies": ["assistant", "assistant@v9"]}, 404, "policies"),
        ({"policies": ["assistant"]}, 400, "policies"),
        ({"policies": ["assistant"] * 10}, 400, "policies"),
        ({"temperature": -1}, 400, "temperature"),
        ({"messages": []}, 400, "messages"),
        ({"choice": "best"}, 400, "choice"),
        ({"choice": "active", "n": 3}, 400, "choice"),
        ({"choice": "active", "policies": ["assistant", "assistant"]}, 400, "choice"),
    ]:
        response = stack.live.post("/v1/comparisons", ASK | extra | {"stream": stream})
        assert (response.status_code, response.json()["error"]["param"]) == (status, param)
    assert stack.live.serving.replica.in_flight == 0
    assert list(stack.client.scan_iter("*chatcmpl*")) == []


@pytest.mark.parametrize("stream", [True, False])
def test_a_side_that_breaks_at_once_fails_the_comparison(stack: FakeStack, stream: bool) -> None:
    """A typed error with its status, no comparison record, nothing left running."""
    stack.engine.fail_after = 0
    response = stack.live.post("/v1/comparisons", ASK | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (500, "engine_error")
    assert list(stack.client.scan_iter(keys.comparison("*"))) == []
    _nothing_left(stack)


@pytest.mark.parametrize("stream", [True, False])
def test_without_redis_there_is_no_comparison(stack: FakeStack, stream: bool) -> None:
    """503 with Retry-After before anything is streamed: an unrecorded comparison could never be voted on."""
    stack.store.stop()
    response = stack.live.post("/v1/comparisons", ASK | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_unavailable")
    stack.live.wait(lambda: not stack.live.serving.records.recording, timeout_s=10)
    started = time.monotonic()
    response = stack.live.post("/v1/comparisons", ASK | {"stream": stream})
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_unavailable")
    assert "retry-after" in response.headers
    assert time.monotonic() - started < 60
    assert stack.engine.seen == []
    _nothing_left(stack)


def test_a_store_that_goes_away_amid_the_stream_is_told(stack: FakeStack) -> None:
    """Sides whose end could not be recorded cannot be voted on yet: an error event, not `[DONE]`."""
    stack.engine.pause_s = {"assistant@v0": 0.1}
    with _streaming(stack, max_tokens=5) as (_, data):
        next(data)
        stack.store.stop()
        *_, last = list(data)
    assert json.loads(last)["error"]["code"] == "storage_unavailable"
    _nothing_left(stack)
