"""The vote script and the readers of the log, against a real Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import redis
import redis.asyncio

from core import keys
from core.records import Target
from core.redis import connect_async
from feedback import store
from feedback.events import Ballot
from feedback.store import StoredVote

T = TypeVar("T")


def run(url: str, work: Callable[[redis.asyncio.Redis], Awaitable[T]]) -> T:
    async def inner() -> T:
        client = connect_async(url)
        try:
            return await work(client)
        finally:
            await client.aclose()

    return asyncio.run(inner())


def ballot(identifier: str, **given: object) -> Ballot:
    fields: dict[str, object] = {
        "id": identifier,
        "target": Target(type="completion", id="chatcmpl-1"),
        "kind": "thumb",
        "value": 1,
        "rater": None,
        "comment": None,
    }
    return Ballot(**(fields | given))  # type: ignore[arg-type]


def vote(url: str, *ballots: Ballot) -> list[StoredVote]:
    async def work(client: redis.asyncio.Redis) -> list[StoredVote]:
        return [await store.vote(client, it, idempotency_key=None, window_s=3600) for it in ballots]

    return run(url, work)


def test_silent_retry_of_one_call_is_one_success(redis_server, redis_client, put_completion):
    """The same id twice (redis-py's own retry) is stored once and answered `new` both times."""
    put_completion("chatcmpl-1")
    first, again = vote(redis_server, ballot("fb_1"), ballot("fb_1"))
    assert first == again
    assert first.new
    assert redis_client.xlen(keys.FEEDBACK) == 1


def test_silent_retry_after_a_change_of_mind(redis_server, redis_client, put_completion):
    """A retry that arrives after a later vote does not undo it."""
    put_completion("chatcmpl-1")
    _, second, again = vote(redis_server, ballot("fb_1"), ballot("fb_2", value=-1), ballot("fb_1"))
    assert (second.feedback.supersedes, again.new, again.active) == ("fb_1", True, False)
    assert redis_client.xlen(keys.FEEDBACK) == 2


def test_vote_keeps_its_target_alive(redis_server, redis_client, put_comparison):
    """A vote extends the life of the comparison and of both sides to a whole window."""
    put_comparison()
    held = [keys.comparison("cmp_1"), keys.completion("chatcmpl-1-a"), keys.completion("chatcmpl-1-b")]
    for key in held:
        redis_client.expire(key, 5)
    vote(redis_server, ballot("fb_1", target=Target(type="comparison", id="cmp_1"), kind="preference", value="b"))
    assert [redis_client.ttl(key) > 3500 for key in held] == [True, True, True]


def test_rater_is_the_votes_then_the_records_then_nobody(redis_server, put_completion):
    """Who voted: the vote's own word, else the record's."""
    put_completion("chatcmpl-1")
    put_completion("chatcmpl-2", rater=None)
    nobody = ballot("fb_3", target=Target(type="completion", id="chatcmpl-2"))
    votes = vote(redis_server, ballot("fb_1", rater="user-8"), ballot("fb_2"), nobody)
    assert [it.feedback.rater for it in votes] == ["user-8", "user-7", None]


def test_created_at_keeps_microseconds(redis_server, redis_client, put_completion):
    """The stamp is Redis's, to the microsecond: it lies in the millisecond of its own log entry."""
    put_completion("chatcmpl-1")
    (stored,) = vote(redis_server, ballot("fb_1"))
    (entry, fields) = redis_client.xrange(keys.FEEDBACK)[0]
    assert abs(stored.feedback.created_at - int(entry.split("-")[0]) / 1000) < 0.1
    assert len(fields["event"].split('"created_at":')[1].rstrip("}").split(".")[1]) == 6


def test_readers_page_through_the_whole_log(redis_server, redis_client, put_completion):
    """Votes come back in the order of the log however many pages they fill; records that are gone are left out."""
    put_completion("chatcmpl-1")
    (stored,) = vote(redis_server, ballot("fb_0"))
    names = [f"fb_{index}" for index in range(2501)]
    record = redis_client.hget(keys.completion("chatcmpl-1"), "record")
    pipeline = redis_client.pipeline()
    for name in names[1:]:
        pipeline.xadd(keys.FEEDBACK, {"event": stored.feedback.model_copy(update={"id": name}).to_json()})
        pipeline.hset(keys.completion(name), "record", record)
    pipeline.execute()
    assert [it.feedback.id for it in store.votes(redis_client)] == names
    redis_client.delete(keys.completion("fb_1200"))
    assert sorted(store.completions(redis_client, names)) == sorted(set(names) - {"fb_0", "fb_1200"})


def test_an_ai_rater_is_somebody_else(redis_server, redis_client, put_completion):
    """Its vote neither supersedes that of a person with the same id nor counts towards a round."""
    put_completion("chatcmpl-1")
    person, machine, changed = vote(
        redis_server,
        ballot("fb_1", rater="x"),
        ballot("fb_2", rater="x", rater_kind="ai", value=-1),
        ballot("fb_3", rater="x", rater_kind="ai"),
    )
    assert [it.feedback.supersedes for it in (person, machine, changed)] == [None, None, "fb_2"]
    assert [it.feedback.rater_kind for it in (person, machine)] == ["human", "ai"]
    assert redis_client.hgetall(keys.FEEDBACK_COUNTS) == {"thumb": "1", "ai_thumb": "2"}


def test_counts_and_salt(redis_server, redis_client, put_completion):
    """Only preferences count towards a round; the salt is drawn once."""
    put_completion("chatcmpl-1")
    vote(redis_server, ballot("fb_1"))
    assert store.count_votes(redis_client) == 0
    salt = store.deployment_salt(redis_client)
    assert len(salt) == 32
    assert store.deployment_salt(redis_client) == salt


def test_prompts_are_read_as_serving_writes_them(redis_client):
    """One field `prompt`: messages and token ids."""
    entry = '{"messages":[{"schema":1,"role":"user","content":"Hi"}],"prompt_token_ids":[1,2]}'
    redis_client.xadd(keys.PROMPTS, {"prompt": entry})
    (prompt,) = store.prompts(redis_client)
    assert (prompt.messages[0].content, prompt.prompt_token_ids) == ("Hi", [1, 2])
