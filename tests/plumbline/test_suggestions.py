"""`plumbline tasks suggest`: from the last run's list to rater tasks, and on to training rows."""

import asyncio
from pathlib import Path

import pytest
import redis

from core import choice, keys, registry
from core.errors import UsageError
from core.records import Comparison, Message, OpenPairs, RaterTask
from core.redis import connect_async
from feedback import task_store
from feedback.tasks import Said
from plumbline import suggestions
from plumbline.suggestions import Asked, Suggested
from tests.feedback.conftest import completion_record
from tests.feedback.rounds import cut, policy
from tests.plumbline.test_rater_tasks import plumbline

WINDOW_S = 3600


def put(client: redis.Redis, number: int) -> tuple[str, str]:
    """A comparison of version 0 with itself on which nobody voted; returns its answers."""
    ids = (f"chatcmpl-{number}-a", f"chatcmpl-{number}-b")
    comparison = f"cmp_{number}"
    messages = [Message(role="user", content=f"prompt {number}")]
    for identifier in ids:
        given = {"messages": messages, "comparison_id": comparison, "assignment": "comparison"}
        record = completion_record(identifier, **given)
        fields = {"record": record.to_json(), "outline": record.outline(), "state": record.state}
        client.hset(keys.completion(identifier), mapping=fields)
    record = Comparison(id=comparison, created=1.0, completion_ids=list(ids), policy_versions=[0, 0], order=[0, 1])
    client.hset(keys.comparison(comparison), "record", record.to_json())
    return ids


def leave(client: redis.Redis, scores: list[float]) -> list[tuple[str, str]]:
    """What a run leaves: a pair for each score."""
    pairs = [put(client, number) for number in range(len(scores))]
    client.hset(keys.CHOICES, "pairs", OpenPairs(pairs=pairs, scores=scores).to_json())
    return pairs


def tasks(client: redis.Redis) -> list[RaterTask]:
    records = [client.hget(keys.task(each), "record") for each in client.zrange(keys.TASKS, 0, -1)]
    return [RaterTask.model_validate_json(record) for record in records if record]


def comparison_of(client: redis.Redis, task: RaterTask) -> Comparison:
    return Comparison.model_validate_json(client.hget(keys.comparison(task.target.id), "record") or "")


def suggest(url: str, count: int, asked: Asked | None = None) -> Suggested:
    return suggestions.suggest(url, count, asked or Asked(), exploration=0.2, window_s=WINDOW_S)


def answer(url: str, task: RaterTask, rater: str) -> None:
    async def say() -> None:
        client = connect_async(url)
        await task_store.answer(client, task.id, Said(rater=rater, value="a"), window_s=WINDOW_S)
        await client.aclose()

    asyncio.run(say())


def test_tasks_carry_the_probability_of_their_draw(redis_server: str, redis_client: redis.Redis) -> None:
    """As many as asked for, each about one pair of the list, active, with its probability; the comparison has it too
    and holds the very answers."""
    scores = [5.0, 1.0, 1.0, 0.0]
    pairs = leave(redis_client, scores)
    included = dict(zip(map(frozenset, pairs), choice.inclusion(scores, 2, exploration=0.2), strict=True))
    done = suggest(redis_server, 2, Asked(overlap=3, instructions="Prefer what is *true*.", priority=7))
    assert (done.eligible, done.added, done.errors) == (4, 2, [])
    found = tasks(redis_client)
    assert len({frozenset(comparison_of(redis_client, task).completion_ids) for task in found}) == 2
    for task in found:
        comparison = comparison_of(redis_client, task)
        likely = included[frozenset(comparison.completion_ids)]
        assert task.propensity == comparison.propensity == pytest.approx(likely)
        assert (task.asked, comparison.asked, comparison.policy_versions) == ("active", "active", [0, 0])
        assert (task.kind, task.overlap, task.priority, task.instructions) == (
            "compare",
            3,
            7,
            "Prefer what is *true*.",
        )
        assert redis_client.ttl(keys.comparison(comparison.id)) > 0


def test_a_pair_is_asked_once(redis_server: str, redis_client: redis.Redis) -> None:
    """Called until nothing is left, every pair becomes one task; then none is added and nothing is wrong."""
    leave(redis_client, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert [suggest(redis_server, 2).added for _ in range(4)] == [2, 2, 1, 0]
    asked = [frozenset(comparison_of(redis_client, task).completion_ids) for task in tasks(redis_client)]
    assert len(asked) == len(set(asked)) == 5


def test_what_changed_since_the_list_is_passed_over(redis_server: str, redis_client: redis.Redis) -> None:
    """Answers that have expired, or that the person who got them has compared meanwhile."""
    leave(redis_client, [1.0, 1.0, 1.0])
    redis_client.delete(keys.completion("chatcmpl-0-b"))
    redis_client.hset(keys.comparison("cmp_1"), "revealed", "fb_1")
    done = suggest(redis_server, 9)
    assert (done.eligible, done.added) == (1, 1)
    assert set(comparison_of(redis_client, tasks(redis_client)[0]).completion_ids) == {"chatcmpl-2-a", "chatcmpl-2-b"}


def test_the_rows_of_the_answers_have_the_propensity(
    redis_server: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """From the draw to the snapshot: a vote on a suggested task gives a pair with the probability of that draw."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    leave(redis_client, [3.0, 1.0])
    suggest(redis_server, 1)
    (task,) = tasks(redis_client)
    answer(redis_server, task, "ann")
    (row,) = cut(redis_client, tmp_path).pairs
    first = "chatcmpl-0-a" in comparison_of(redis_client, task).completion_ids
    assert row.propensity == task.propensity == pytest.approx(0.7 if first else 0.3)
    assert row.comparison_id == task.target.id


def test_before_the_first_run_there_is_no_list(redis_server: str, redis_client: redis.Redis) -> None:
    """One line that says what will help."""
    with pytest.raises(UsageError, match="No run has listed"):
        suggest(redis_server, 3)


def test_the_command_says_what_it_did(redis_server: str, redis_client: redis.Redis) -> None:
    """How many of how many."""
    leave(redis_client, [1.0, 1.0, 1.0])
    done = plumbline("tasks", "suggest", "--count", "2", redis_url=redis_server)
    assert (done.returncode, done.stdout) == (0, "2 tasks added, out of 3 pairs that nobody has compared.\n")
