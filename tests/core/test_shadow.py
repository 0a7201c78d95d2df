"""Unseen answers in a real Redis: they live and die with the chat that they are the like of, and count once."""

import asyncio

import pytest
import redis

from core import keys, shadow
from core.records import Choice, CompletionRecord
from core.redis import connect_async
from core.shadow import Compared, ShadowAnswer


@pytest.fixture
def chat(redis_client: redis.Redis):
    """Writes the record of an answered chat."""

    def write(number: int, *, state: str = "complete", prompt: tuple[int, ...] = (1, 2)) -> str:
        record = CompletionRecord(
            id=f"chatcmpl-{number}",
            state=state,
            created=1.0,
            prompt_token_ids=list(prompt),
            choices=[Choice(index=0, text="a b", token_ids=[5, 6])],
            policy_version=0,
            adapter_sha256="00",
            assignment="live",
            rater="ann",
        )
        name = keys.completion(record.id)
        redis_client.hset(name, mapping={"record": record.to_json(), "state": state})
        redis_client.expire(name, 3600)
        return record.id

    return write


@pytest.fixture
def put(redis_server: str):
    def work(completion: str, *token_ids: int, rater: str | None = "ann") -> bool:
        async def send() -> bool:
            async with connect_async(redis_server) as client:
                answer = ShadowAnswer(release="rel_1", token_ids=list(token_ids))
                return await shadow.put(client, answer, completion=completion, rater=rater)

        return asyncio.run(send())

    return work


def compared(completion: str, ours: float, theirs: float) -> Compared:
    return Compared(completion=completion, rewards=(ours, theirs), tokens=(3, 2))


def test_both_answers_meet_the_judge(redis_client, chat, put):
    """Put down twice is once; taken twice, they still wait."""
    one = chat(1)
    assert put(one, 7, 8, 3) and put(one, 7, 8, 3)
    for _ in range(2):
        (pair,) = shadow.take(redis_client, "rel_1", most=9)
        assert (pair.completion, pair.prompt) == (one, [1, 2])
        assert (pair.candidate, pair.incumbent) == ([7, 8, 3], [5, 6])
    assert shadow.take(redis_client, "rel_2", most=9) == []
    assert 0 < redis_client.ttl(keys.completion(one)) <= 3600


def test_what_the_judge_says_counts_once(redis_client, chat, put):
    """However often it is said; the answers are removed, and counts, means and an interval stay."""
    ids = [chat(number) for number in range(4)]
    for each in ids:
        put(each, 7)
    said = [compared(ids[0], 0.5, 0.25), compared(ids[1], 1.5, 0.25), compared(ids[2], 0, 0), compared(ids[3], -1, 0.5)]
    for _ in range(2):
        shadow.settle(redis_client, "rel_1", said, judge="judge")
    found = shadow.load(redis_client, "rel_1")
    assert (found.wins, found.ties, found.losses, found.compared, found.win_rate) == (2, 1, 1, 4, 0.625)
    assert (found.candidate_reward, found.incumbent_reward) == (0.25, 0.25)
    assert (found.candidate_tokens, found.incumbent_tokens, found.judge) == (3.0, 2.0, "judge")
    assert (found.low, found.high) == pytest.approx((0.2194, 0.9081), abs=1e-4)
    assert (found.waiting, found.gone) == (0, 0)
    assert not any(redis_client.hexists(keys.completion(each), "shadow") for each in ids)
    assert redis_client.hexists(keys.completion(ids[0]), "record")
    assert redis_client.ttl(keys.release_shadow("rel_1")) > 0


def test_nothing_is_laid_beside_what_is_gone(redis_client, chat, put):
    """A deleted, broken or expired chat does not come back to life for it."""
    assert not put("chatcmpl-9", 7)
    assert not put(chat(1, state="aborted"), 7)
    assert redis_client.keys("*shadow*") == []
    assert not redis_client.exists(keys.completion("chatcmpl-9"))


def test_who_does_not_consent_is_not_compared(redis_client, chat, put):
    """The rater's own no, as the log left it, is asked at the last moment."""
    redis_client.hset(keys.rater("ann"), "consent", "False")
    assert not put(chat(1), 7)
    assert put(chat(2), 7, rater=None)
    redis_client.hset(keys.rater("ann"), "consent", "True")
    assert put(chat(1), 7)


def test_deletion_takes_both_answers(redis_client, chat, put):
    """There is one place for both: with the chat's record the other answer is gone, and is counted as gone, once."""
    one, two = chat(1), chat(2)
    put(one, 7)
    put(two, 8)
    redis_client.unlink(keys.completion(one))
    for _ in range(2):
        assert [pair.completion for pair in shadow.take(redis_client, "rel_1", most=9)] == [two]
    found = shadow.load(redis_client, "rel_1")
    assert (found.gone, found.waiting, found.compared) == (1, 1, 0)


def test_no_more_than_the_judge_will_want_wait(redis_client, chat, put):
    """Redis holds votes: there is an end to what is put beside them."""
    waiting = {f"x{number}" for number in range(shadow.MOST_WAITING - 1)}
    redis_client.sadd(keys.shadow_waiting("rel_1"), *waiting)
    one, two = chat(1), chat(2)
    assert put(one, 7)
    assert not put(two, 7)
    assert put(one, 7)
    assert not redis_client.hexists(keys.completion(two), "shadow")


def test_a_release_without_a_shadow_has_an_empty_one(redis_client):
    """Nothing is known, and the interval says so."""
    found = shadow.load(redis_client, "rel_1")
    assert (found.win_rate, found.low, found.high, found.candidate_reward) == (None, 0.0, 1.0, None)
    shadow.fail(redis_client, "rel_1", "no judge")
    assert shadow.load(redis_client, "rel_1").error == "no judge"
