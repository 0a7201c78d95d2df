"""The vote and revision scripts and the readers of the log, against a real Redis."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import pytest
import redis
import redis.asyncio

from core import keys
from core.errors import Gone, Unavailable
from core.records import Choice, RaterEvent, Target
from core.redis import connect_async
from feedback import consent, events, lookup, store
from feedback.events import Ballot, Change
from feedback.scripts import View
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
    }
    return Ballot(**(fields | given))  # type: ignore[arg-type]


def vote(url: str, *ballots: Ballot) -> list[StoredVote]:
    async def work(client: redis.asyncio.Redis) -> list[StoredVote]:
        return [await store.vote(client, it, idempotency_key=None, window_s=3600) for it in ballots]

    return run(url, work)


class TwiceSent:
    """A client whose every script that writes reaches Redis twice, as after a silent retry, with an event in between
    if one is given; the second answer is returned."""

    def __init__(self, client: redis.asyncio.Redis, between: Callable[[], Awaitable[object]] | None = None) -> None:
        self._client = client
        self._between = between

    def register_script(self, text: str) -> Callable[..., Awaitable[object]]:
        script = self._client.register_script(text)

        async def twice(*, keys: list[str], args: list[str]) -> object:
            first = await script(keys=keys, args=args)
            if "XADD" not in text:
                return first
            if self._between is not None:
                between, self._between = self._between, None
                await between()
            return await script(keys=keys, args=args)

        return twice


# --- votes --------------------------------------------------------------------------------------------------------


def test_silent_retry_of_one_call_is_one_success(redis_server, redis_client, put_completion):
    """The same id twice (redis-py's own retry) is stored once and answered `new` both times."""
    put_completion("chatcmpl-1")
    first, again = vote(redis_server, ballot("fb_1"), ballot("fb_1"))
    assert first == again
    assert first.new
    assert redis_client.xlen(keys.FEEDBACK) == 1


@pytest.mark.parametrize(("own_id", "key"), [(False, None), (False, "k"), (True, None), (True, "k")])
def test_silent_retry_with_and_without_keys(redis_server, redis_client, put_completion, own_id, key):
    """Whatever makes a request idempotent for the client, the Redis client's own retry still looks like one success."""
    put_completion("chatcmpl-1")

    async def work(client: redis.asyncio.Redis) -> StoredVote:
        return await store.vote(TwiceSent(client), ballot("fb_1", own_id=own_id), idempotency_key=key, window_s=3600)

    assert run(redis_server, work).new
    assert redis_client.xlen(keys.FEEDBACK) == 1


def test_silent_retry_after_a_change_of_mind(redis_server, redis_client, put_completion):
    """A retry that arrives after a later vote does not undo it."""
    put_completion("chatcmpl-1")
    _, second, again = vote(redis_server, ballot("fb_1"), ballot("fb_2", value=-1), ballot("fb_1"))
    assert (second.view.feedback.supersedes, again.new, again.view.status) == ("fb_1", True, "superseded")
    assert redis_client.xlen(keys.FEEDBACK) == 2


def test_vote_keeps_its_target_alive(redis_server, redis_client, put_comparison):
    """A vote extends the life of the comparison and of every side to a whole window."""
    put_comparison(versions=(3, 2, 1))
    held = [keys.comparison("cmp_1"), *(keys.completion(f"chatcmpl-1-{side}") for side in "abc")]
    for key in held:
        redis_client.expire(key, 5)
    ranking = [["c"], ["a", "b"]]
    vote(redis_server, ballot("fb_1", target=Target(type="comparison", id="cmp_1"), kind="ranking", value=ranking))
    assert [redis_client.ttl(key) > 3500 for key in held] == [True] * 4


def test_rater_is_the_votes_then_the_records_then_nobody(redis_server, put_completion):
    """Who voted: the vote's own word, else the record's."""
    put_completion("chatcmpl-1")
    put_completion("chatcmpl-2", rater=None)
    nobody = ballot("fb_3", target=Target(type="completion", id="chatcmpl-2"))
    votes = vote(redis_server, ballot("fb_1", rater="user-8"), ballot("fb_2"), nobody)
    assert [it.view.feedback.rater for it in votes] == ["user-8", "user-7", None]


def test_created_at_keeps_microseconds(redis_server, redis_client, put_completion):
    """The stamp is Redis's, to the microsecond: it lies in the millisecond of its own log entry."""
    put_completion("chatcmpl-1")
    (stored,) = vote(redis_server, ballot("fb_1"))
    (entry, fields) = redis_client.xrange(keys.FEEDBACK)[0]
    assert abs(stored.view.feedback.created_at - int(entry.split("-")[0]) / 1000) < 0.1
    assert len(fields["event"].split('"created_at":')[1].rstrip("}").split(".")[1]) == 6


def test_logged_event_leaves_defaults_out(redis_server, redis_client, put_completion):
    """A plain thumb costs few bytes in the log, and the target only refers to it."""
    put_completion("chatcmpl-1", rater=None)
    (stored,) = vote(redis_server, ballot("fb_1"))
    (entry, fields) = redis_client.xrange(keys.FEEDBACK)[0]
    expected = '{"schema":2,"id":"fb_1","target":{"type":"completion","id":"chatcmpl-1"},"kind":"thumb","value":1,'
    assert fields["event"].startswith(expected)
    assert sorted(fields) == ["event"]
    assert redis_client.hget(keys.completion("chatcmpl-1"), "v:human::0:thumb") == "fb_1"
    assert (stored.view.where, stored.view.first) == (entry, entry)


def test_record_and_outline_say_the_same(redis_server, redis_client, put_completion):
    """A vote needs no more of a completion than its outline; where none was written, the record tells as much."""
    choices = [Choice(index=i, text=str(i), token_ids=[i], finish_reason="stop") for i in range(2)]
    put_completion("chatcmpl-1", choices=choices, policy_version=3, train=False)
    target = Target(type="completion", id="chatcmpl-1", choice_index=1)
    (one,) = vote(redis_server, ballot("fb_1", target=target))
    redis_client.hdel(keys.completion("chatcmpl-1"), "outline", "v:human:user-7:1:thumb")
    (two,) = vote(redis_server, ballot("fb_2", target=target))
    different = {"id": "fb_1", "created_at": one.view.feedback.created_at}
    assert two.view.feedback.model_copy(update=different) == one.view.feedback
    assert (one.view.feedback.train, one.view.feedback.policy_versions) == (False, [3])


def test_an_ai_rater_is_somebody_else(redis_server, redis_client, put_completion):
    """Its vote neither supersedes that of a person with the same id nor counts towards a round."""
    put_completion("chatcmpl-1")
    person, machine, changed = vote(
        redis_server,
        ballot("fb_1", rater="x"),
        ballot("fb_2", rater="x", rater_kind="ai", value=-1),
        ballot("fb_3", rater="x", rater_kind="ai"),
    )
    assert [it.view.feedback.supersedes for it in (person, machine, changed)] == [None, None, "fb_2"]
    assert [it.view.feedback.rater_kind for it in (person, machine)] == ["human", "ai"]
    assert redis_client.hgetall(keys.FEEDBACK_COUNTS) == {"thumb": "1", "ai_thumb": "2"}


def test_counts_and_salt(redis_server, redis_client, put_completion, put_comparison):
    """Preferences and rankings of people count towards a round; the salt is drawn once."""
    put_completion("chatcmpl-1")
    put_comparison("2")
    put_comparison("3", versions=(1, 2, 3))
    two, three = (Target(type="comparison", id=f"cmp_{name}") for name in "23")
    vote(redis_server, ballot("fb_1"), ballot("fb_2", target=two, kind="flag", value="spam"))
    assert store.count_votes(redis_client) == 0
    vote(
        redis_server,
        ballot("fb_3", target=two, kind="preference", value="both_bad"),
        ballot("fb_4", target=three, kind="ranking", value=[["a", "b", "c"]]),
    )
    assert store.count_votes(redis_client) == 2
    salt = store.deployment_salt(redis_client)
    assert len(salt) == 32
    assert store.deployment_salt(redis_client) == salt


# --- revisions ----------------------------------------------------------------------------------------------------


def valued(value: int) -> Callable[[View], object]:
    return lambda view: events.revised(view.feedback, Change(value=value), superseded=view.superseded)


def test_silent_retry_of_a_revision_is_one_revision(redis_server, redis_client, put_completion):
    """Also when it was made conditional on the revision that it replaced, and when another one came in between."""
    put_completion("chatcmpl-1")
    vote(redis_server, ballot("fb_1", value=1, kind="rating"))

    async def work(client: redis.asyncio.Redis) -> View:
        async def other() -> View:
            return await store.revise(client, "fb_1", valued(3), revisions=None)

        return await store.revise(TwiceSent(client, other), "fb_1", valued(2), revisions=frozenset({1}))

    mine = run(redis_server, work)
    assert (mine.feedback.value, mine.feedback.revision) == (2, 2)
    values = [(it.feedback.revision, it.feedback.value) for it in store.log(redis_client)[0]]
    assert values == [(1, 1), (2, 2), (3, 3)]


def test_revision_sees_what_happened_meanwhile(redis_server, redis_client, put_completion):
    """A vote that is superseded between look and write is not revised any more: the change is made of what is now."""
    put_completion("chatcmpl-1")
    vote(redis_server, ballot("fb_1"))
    seen = []

    async def work(client: redis.asyncio.Redis) -> None:
        def change(view: View) -> object:
            seen.append(view.status)
            if len(seen) == 1:
                vote_in_thread(redis_server, ballot("fb_2", value=-1))
            return events.withdrawn(view.feedback)

        await store.revise(client, "fb_1", change, revisions=None)

    run(redis_server, work)
    assert seen == ["active", "superseded"]
    assert [(it.feedback.id, it.feedback.withdrawn) for it in store.log(redis_client)[0]] == [
        ("fb_1", False),
        ("fb_2", False),
        ("fb_1", True),
    ]


def vote_in_thread(url: str, it: Ballot) -> None:
    """Somebody else's vote, while an event loop of ours is running."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(vote, url, it).result()


def test_vote_that_left_redis_is_gone_for_whoever_has_no_archive(redis_server, redis_client, put_completion):
    """The index still knows of it, and a new vote supersedes it all the same."""
    put_completion("chatcmpl-1")
    vote(redis_server, ballot("fb_1"))
    redis_client.xtrim(keys.FEEDBACK, maxlen=0, approximate=False)
    with pytest.raises(Gone):
        run(redis_server, lambda client: lookup.find(client, "fb_1"))
    (again,) = vote(redis_server, ballot("fb_2"))
    assert (again.new, again.view.feedback.supersedes) == (True, "fb_1")


# --- raters -------------------------------------------------------------------------------------------------------


def test_silent_retry_of_a_consent_is_one_event(redis_server, redis_client):
    """Also when the opposite was said in between: the retry does not say it again."""

    async def work(client: redis.asyncio.Redis) -> tuple[RaterEvent, bool]:
        async def other() -> object:
            return await consent.give(client, "user-7", train=False)

        return await consent.give(TwiceSent(client, other), "user-7", train=True)

    event, new = run(redis_server, work)
    assert (event.train, new) == (True, True)
    assert [it.event.train for it in store.log(redis_client)[1]] == [True, False]
    assert run(redis_server, lambda client: consent.given(client, "user-7")).train is False


# --- the log ------------------------------------------------------------------------------------------------------


def test_readers_page_through_the_whole_log(redis_server, redis_client, put_completion):
    """Votes come back in the order of the log however many pages they fill; records that are gone are left out."""
    put_completion("chatcmpl-1")
    (stored,) = vote(redis_server, ballot("fb_0"))
    names = [f"fb_{index}" for index in range(2501)]
    record = redis_client.hget(keys.completion("chatcmpl-1"), "record")
    pipeline = redis_client.pipeline()
    for name in names[1:]:
        pipeline.xadd(keys.FEEDBACK, {"event": stored.view.feedback.model_copy(update={"id": name}).to_json()})
        pipeline.hset(keys.completion(name), "record", record)
    pipeline.execute()
    run(redis_server, lambda client: consent.give(client, "user-7", train=True))
    votes, raters = store.log(redis_client)
    assert [it.feedback.id for it in votes] == names
    assert [it.event.rater for it in raters] == ["user-7"]
    redis_client.delete(keys.completion("fb_1200"))
    assert sorted(store.completions(redis_client, names)) == sorted(set(names) - {"fb_0", "fb_1200"})


def test_prompts_are_read_as_serving_writes_them(redis_client):
    """One field `prompt`: messages, token ids, and whose chat it was; older ones do not say that."""
    entry = '{"messages":[{"schema":1,"role":"user","content":"Hi"}],"prompt_token_ids":[1,2]'
    redis_client.xadd(keys.PROMPTS, {"prompt": entry + ',"rater":"user-7"}'})
    redis_client.xadd(keys.PROMPTS, {"prompt": entry + "}"})
    prompt, old = store.prompts(redis_client)
    assert (prompt.messages[0].content, prompt.prompt_token_ids, prompt.rater) == ("Hi", [1, 2], "user-7")
    assert old == replace(prompt, rater=None)


def test_our_own_mistakes_stay_loud(redis_server, redis_client):
    """Only Redis's troubles are a 503: a key of the wrong type is a bug and says so."""
    redis_client.set(keys.rater("user-7"), "x")
    with pytest.raises(redis.ResponseError):
        run(redis_server, lambda client: consent.given(client, "user-7"))
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Unavailable):
            run(redis_server, lambda client: consent.give(client, "user-8", train=True))
    finally:
        redis_client.config_set("maxmemory", 0)
