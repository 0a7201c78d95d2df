"""Which answers raters may be asked about, from a real Redis."""

import pytest
import redis

from core import keys
from core.records import SIDES, Choice, Comparison, CompletionRecord, CompletionState, Message
from training import open_pairs
from training.data import Text


def put(client: redis.Redis, name: str, *sides: dict[str, object], **fields: str) -> None:
    """The comparison cmp_{name} of answers of version 1 to the prompt {name}."""
    ids = [f"chatcmpl-{name}-{letter}" for letter in SIDES[: len(sides)]]
    for number, (identifier, changes) in enumerate(zip(ids, sides, strict=True)):
        given: dict[str, object] = {
            "id": identifier,
            "state": CompletionState.COMPLETE,
            "created": 1.0,
            "messages": [Message(role="user", content=name)],
            "prompt_token_ids": [1, 2],
            "choices": [Choice(index=0, text=f"text {number}", token_ids=[70 + number, 4], finish_reason="stop")],
            "policy_version": 1,
            "adapter_sha256": "00",
            "assignment": "comparison",
            "comparison_id": f"cmp_{name}",
        }
        record = CompletionRecord.model_validate(given | changes)
        client.hset(keys.completion(identifier), mapping={"record": record.to_json(), "state": record.state})
    versions = [int(str(side.get("policy_version", 1))) for side in sides]
    order = list(range(len(sides)))
    comparison = Comparison(id=f"cmp_{name}", created=1.0, completion_ids=ids, policy_versions=versions, order=order)
    client.hset(keys.comparison(comparison.id), mapping={"record": comparison.to_json(), **fields})


def names(client: redis.Redis, limit: int = 100) -> list[str]:
    """Of each pair, prompt and sides: `one-a one-b`."""
    found = open_pairs.read(client, version=1, limit=limit)
    return sorted(" ".join(identifier.removeprefix("chatcmpl-") for identifier in pair.ids) for pair in found)


def test_a_pair_has_the_tokens_that_were_sampled(redis_client: redis.Redis) -> None:
    """And the cluster of its prompt, by which pairs about the same thing are told."""
    put(redis_client, "one", {}, {})
    put(redis_client, "One ", {}, {})
    first, second = open_pairs.read(redis_client, version=1, limit=9)
    assert first.texts == (Text(prompt=[1, 2], completion=[70, 4]), Text(prompt=[1, 2], completion=[71, 4]))
    assert first.cluster == second.cluster


def test_of_several_sides_each_two_are_a_pair(redis_client: redis.Redis) -> None:
    """And no more pairs are given than asked for."""
    put(redis_client, "one", {}, {}, {})
    assert names(redis_client) == ["one-a one-b", "one-a one-c", "one-b one-c"]
    assert len(names(redis_client, limit=2)) == 2


TEXT = Choice(index=0, text="text 0", token_ids=[70, 4], finish_reason="stop")


@pytest.mark.parametrize(
    "changes",
    [
        {"policy_version": 2},
        {"train": False},
        {"messages": []},
        {"state": CompletionState.ABORTED},
        {"choices": []},
        {"choices": [TEXT]},
        {"choices": [TEXT.model_copy(update={"text": "text 9", "finish_reason": "length"})]},
        {"rater": "ann"},
    ],
)
def test_what_nobody_may_be_asked_about(redis_client: redis.Redis, changes: dict[str, object]) -> None:
    """Another version, no consent (of the answer or its author), no text, unfinished, cut off, or the same text."""
    redis_client.hset(keys.rater("ann"), "consent", "False")
    redis_client.hset(keys.rater("bob"), "consent", "True")
    put(redis_client, "good", {"rater": "bob"}, {"rater": "bob"})
    put(redis_client, "bad", {}, changes)
    assert names(redis_client) == ["good-a good-b"]


def test_what_has_a_vote_is_not_open(redis_client: redis.Redis) -> None:
    """Nor what a task has decided, nor what has expired."""
    put(redis_client, "voted", {}, {}, revealed="fb_1")
    put(redis_client, "decided", {}, {}, decided="fb_2")
    put(redis_client, "gone", {}, {})
    redis_client.delete(keys.completion("chatcmpl-gone-b"))
    assert names(redis_client) == []
