"""A vote says the same whatever side its answers stood on; who may not be judged by it is not."""

from collections.abc import Sequence

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from core import keys
from core.records import CompletionRecord, Message, RaterEvent, RaterTask, Target
from feedback import store, witnesses
from feedback.archive import Archive
from feedback.events import LoggedRater, LoggedVote
from feedback.opinions import Opinion
from feedback.witnesses import heard_of, opinion, words
from tests.feedback.votes import SALT, on_completion, side, vote


def said(cast: LoggedVote, *, gold: RaterTask | None = None, **changed: object) -> Opinion:
    records = {each: side(each, **changed) for each in cast.feedback.completion_ids}
    return opinion(cast, records, {gold.id: gold} if gold is not None else {})


def event(rater: str, action: str, *, at: float, actor: str = "trust", **given: object) -> LoggedRater:
    made = RaterEvent(rater=rater, action=action, actor=actor, created_at=at, **given)
    return LoggedRater(entry=f"{round(1000 * at)}-0", event=made)


def heard(votes: Sequence[LoggedVote], events: Sequence[LoggedRater] = ()) -> list[str]:
    return [each.feedback.id for each in heard_of(votes, events, salt=SALT)]


@given(value=st.sampled_from(["a", "b", "tie", "both_bad"]), ids=st.permutations(["x", "y"]), seed=st.integers(0, 9))
def test_the_side_on_which_an_answer_stood_changes_its_position_alone(value: str, ids: list[str], seed: int) -> None:
    """Two raters who prefer the same answer, one of whom saw it on the other side."""
    swapped = {"a": "b", "b": "a"}.get(value, value)
    records = {
        "x": side("x", policy_version=seed, prompt="Say it"),
        "y": side("y", policy_version=3, prompt="Say it", text="something else"),
    }

    one = opinion(vote(value, completion_ids=ids), records, {})
    other = opinion(vote(swapped, completion_ids=ids[::-1]), records, {})

    assert (one.item, one.value, one.lengths, one.versions) == (other.item, other.value, other.lengths, other.versions)
    assert (one.item, one.versions) == ("x y", (seed, 3))
    assert {one.position, other.position} == ({0, 1} if value in "ab" else {None})
    assert (one.value == "a") == (value in "ab" and ids["ab".index(value)] == "x")


@given(order=st.permutations(["p", "q", "r"]), best=st.sampled_from("pqr"), tied=st.booleans())
def test_of_a_ranking_two_answers_count_whatever_the_order(order: list[str], best: str, tied: bool) -> None:
    """The first two by id: `a` if p stands above q, `b` if below, a tie if in one group."""
    name = dict(zip(order, "abc", strict=True))
    rest = [name[each] for each in "pqr" if each != best]
    groups = [[name[best]], rest] if tied else [[name[best]], *([each] for each in rest)]

    found = said(vote(groups, kind="ranking", completion_ids=order, policy_versions=[3] * 3))

    assert (found.item, found.kind, found.position) == ("p q", "preference", None)
    assert found.value == {"p": "a", "q": "b", "r": "tie" if tied else "a"}[best]


def test_thumbs_and_ratings_are_of_one_answer() -> None:
    """Its choice is part of what was voted on."""
    thumb, rating = said(on_completion("thumb", -1)), said(on_completion("rating", 4, choice_index=0))
    assert (thumb.item, thumb.kind, thumb.value, thumb.position) == ("1-a 0", "thumb", -1, None)
    assert (rating.kind, rating.value) == ("rating", 4)


def test_tags_are_words_of_the_last_question_and_the_day() -> None:
    """Once each, as `words` has them; what the model said before is not the prompt."""
    cast = vote(entry="172800000-0")
    turns = [
        Message(role="user", content="first"),
        Message(role="assistant", content="no"),
        Message(role="user", content="The dog, the CAT"),
    ]
    assert words("The dog, the CAT") == ["the", "dog", "cat"]
    assert said(cast, messages=turns).tags == {"word:the", "word:dog", "word:cat", "day:2"}
    assert len(said(cast, messages=[Message(role="user", content=" ".join(map(str, range(500))))]).tags) == 101


def test_dwell_is_from_the_last_token_and_not_of_hired_raters() -> None:
    """A vote at 10 s on answers that ended at 7.5 s; a task was written long ago."""
    assert said(vote(entry="10000-0"), finished=7.5).dwell == 2.5
    assert said(vote(entry="10000-0")).dwell is None
    assert said(vote(entry="10000-0", source="task"), finished=7.5).dwell is None


@pytest.mark.parametrize(("ids", "expected"), [(["x", "y"], "a"), (["y", "x"], "b")])
def test_a_gold_answer_is_turned_as_votes_are(ids: list[str], expected: str) -> None:
    """Gold is `a` as shown; without a task, or as somebody's own vote, there is none."""
    task = RaterTask(
        id="task_1", kind="compare", target=Target(type="comparison", id="cmp_1"), gold="a", created=1.0, deadline=2.0
    )
    answer = vote("b", completion_ids=ids, source="task", metadata={"task": "task_1"})
    assert said(answer, gold=task).gold == expected
    assert said(answer).gold is None
    assert said(vote("b", completion_ids=ids, metadata={"task": "task_1"}), gold=task).gold is None


def test_without_its_records_a_vote_still_overlaps_with_others() -> None:
    """Item and value come from the vote itself."""
    found = opinion(vote("b"), {"1-a": side("1-a")}, {})
    assert (found.item, found.value, found.position, found.lengths, found.versions) == ("1-a 1-b", "b", 1, (), ())


def test_votes_that_say_nothing_of_a_person_are_not_heard() -> None:
    """Nobody's, an AI's, withdrawn, superseded, kept from training, no judgement; and all of whom is set aside."""
    votes = [
        vote(name="1"),
        vote(name="2", rater=None),
        vote(name="3", rater_kind="ai"),
        vote(name="4", withdrawn=True),
        vote(name="5", supersedes="fb_6"),
        vote(name="6"),
        vote(name="7", train=False),
        on_completion("comment", "why?", name="8"),
        vote(name="9", rater="bad"),
        vote(name="10", rater="shy"),
    ]
    events = [event("bad", "quarantine", at=1.0), event("shy", "consent", at=1.0, train=False)]
    assert heard(votes, events) == ["fb_1", "fb_5"]


def test_whom_a_person_restored_is_judged_by_what_came_since() -> None:
    """Votes at 1 s and 3 s, restored at 2 s. What trust itself says changes nothing that a person looked at."""
    votes = [vote(name="old", entry="1000-0"), vote(name="new", entry="3000-0")]
    aside = event("user-7", "quarantine", at=1.5)
    assert heard(votes, [aside]) == []
    assert heard(votes, [aside, event("user-7", "restore", at=2.0, actor="ann")]) == ["fb_new"]
    assert heard(votes, [aside, event("user-7", "restore", at=2.0)]) == ["fb_old", "fb_new"]


def test_the_newest_votes_of_the_log_are_read(redis_client: redis.Redis, tmp_path) -> None:
    """Two of three; rare words are no tags; who is set aside is known by name."""
    for number in range(3):
        cast = vote(name=str(number), entry=f"{number}-1")
        for each in cast.feedback.completion_ids:
            record: CompletionRecord = side(each)
            redis_client.hset(keys.completion(each), "record", record.to_json())
        redis_client.xadd(keys.FEEDBACK, {"event": cast.feedback.to_json()})
    redis_client.xadd(keys.FEEDBACK, {"rater": event("bad", "quarantine", at=1.0).event.to_json()})

    found = witnesses.read(redis_client, Archive(tmp_path), salt=store.deployment_salt(redis_client), most=2)

    assert [each.feedback_id for each in found.witnesses] == ["fb_1", "fb_2"]
    assert [(each.opinion.lengths, each.opinion.tags) for each in found.witnesses] == [((2, 2), frozenset())] * 2
    assert (found.aside, list(found.reviewed)) == (["bad"], ["bad"])
