"""The rules of rater tasks."""

import pytest

from core.errors import InvalidRequest
from core.records import Feedback, Message, RaterTask, Target
from feedback import events, tasks
from feedback.events import LoggedVote
from feedback.tasks import Said, Shown
from tests.feedback.conftest import completion_record

NOW, WINDOW_S = 1790000000.0, 3600


def task(kind: str = "compare", **given: object) -> RaterTask:
    about = "comparison" if kind in ("compare", "rank") else "completion"
    fields: dict[str, object] = {
        "id": "task_1",
        "kind": kind,
        "target": Target(type=about, id="target-1"),
        "created": NOW,
        "deadline": NOW + WINDOW_S,
    }
    return RaterTask.model_validate(fields | given)


def sides(count: int, **given: object):
    return [completion_record(f"chatcmpl-{index}", **given) for index in range(count)]


def refusal(asked: RaterTask, count: int, **given: object) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        tasks.check(asked, sides(count, **given), now=NOW, window_s=WINDOW_S)
    return caught.value.param, caught.value.error_code


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        (task(gold="both_bad"), 2),
        (task("rank", gold=[["b"], ["a", "c", "d"]]), 4),
        (task("rank"), 9),
        (task("rate", gold=5), 1),
        (task("correct"), 1),
        (task(deadline=NOW + 1), 2),
    ],
)
def test_what_can_be_asked(asked, count):
    """Two sides are compared, three to nine ranked, one answer is rated or corrected."""
    tasks.check(asked, sides(count), now=NOW, window_s=WINDOW_S)


@pytest.mark.parametrize(
    ("asked", "count", "record", "expected"),
    [
        (task(), 3, {}, ("kind", None)),
        (task("rank"), 2, {}, ("kind", None)),
        (task("rate", target=Target(type="comparison", id="cmp_1")), 2, {}, ("kind", None)),
        (task(target=Target(type="completion", id="chatcmpl-1")), 1, {}, ("kind", None)),
        (task(target=Target(type="comparison", id="cmp_1", choice_index=1)), 2, {}, ("target.choice_index", None)),
        (task(gold="c"), 2, {}, ("gold", None)),
        (task("rank", gold=[["a"], ["b", "c"]]), 4, {}, ("gold", None)),
        (task("rate", gold=6), 1, {}, ("gold", None)),
        (task("correct", gold="A pet."), 1, {}, ("gold", None)),
        (task(deadline=NOW), 2, {}, ("deadline", None)),
        (task(deadline=NOW + WINDOW_S + 61), 2, {}, ("deadline", None)),
        (task(), 2, {"state": "streaming"}, ("target", "target_not_votable")),
        (task(), 2, {"state": "aborted"}, ("target", "target_not_votable")),
        (task(), 2, {"messages": []}, ("target", "target_not_votable")),
        (task(), 2, {"train": False}, ("target", "no_consent")),
        (
            task("rate", target=Target(type="completion", id="x", choice_index=1)),
            1,
            {},
            ("target", "target_not_votable"),
        ),
    ],
)
def test_what_cannot_be_asked(asked, count, record, expected):
    """Each refusal names its field."""
    assert refusal(asked, count, **record) == expected


def test_a_rater_sees_prompt_and_answers():
    """A comparison's sides by their names and in their order; a single answer without one."""
    prompt = [Message(role="user", content="A dog is")]
    expected = Shown(messages=prompt, answers=[("a", "text of chatcmpl-0"), ("b", "text of chatcmpl-1")])
    assert tasks.shown(task(), sides(2)) == expected
    assert tasks.shown(task("rate"), sides(1)) == Shown(messages=prompt, answers=[(None, "text of chatcmpl-0")])


def test_an_answer_is_a_vote_with_an_id_of_its_own():
    """Its id follows from task and rater, so any retry is the same vote; it names its task."""
    ann, again, bob = (tasks.ballot(task(), Said(rater=rater, value="a")) for rater in ("ann", "ann", "bob"))
    assert ann == again
    assert ann.id != bob.id
    assert (ann.kind, ann.rater, ann.source, ann.own_id) == ("preference", "ann", "task", True)
    assert ann.metadata == (("task", "task_1"),)
    events.check(ann, now=NOW)


@pytest.mark.parametrize(
    ("kind", "gold", "value", "expected"),
    [
        ("compare", "a", "a", True),
        ("compare", "a", "tie", False),
        ("rate", 4, 5, True),
        ("rate", 4, 2, False),
        ("rank", [["b"], ["a", "c"]], [["b"], ["c"], ["a"]], True),
        ("rank", [["b"], ["a", "c"]], [["b"], ["a", "c"]], True),
        ("rank", [["b"], ["a", "c"]], [["a", "b", "c"]], False),
        ("rank", [["b"], ["a", "c"]], [["a"], ["b"], ["c"]], False),
    ],
)
def test_when_a_gold_answer_is_met(kind, gold, value, expected):
    """A preference exactly, a rating up to one off, a ranking where the gold one is strict."""
    assert tasks.is_right(kind, gold, value) is expected


def vote(rater: str, value: str, **given: object) -> LoggedVote:
    fields: dict[str, object] = {
        "id": f"fb_{rater}",
        "target": Target(type="comparison", id="target-1"),
        "kind": "preference",
        "value": value,
        "rater": rater,
        "source": "task",
        "metadata": {"task": "task_1"},
        "created_at": NOW,
        "policy_versions": [3, 2],
        "completion_ids": ["chatcmpl-0", "chatcmpl-1"],
        "train": True,
    }
    return LoggedVote(entry="1-0", feedback=Feedback.model_validate(fields | given))


def test_gold_results():
    """One result for each standing answer of a gold question; other votes and other tasks give none."""
    known = {"task_1": task(gold="a"), "task_2": task(id="task_2")}
    votes = [
        vote("ann", "a"),
        vote("bob", "b"),
        vote("eve", "a", source="api"),
        vote("dan", "a", metadata={"task": "task_2"}),
        vote("kim", "a", metadata={"task": "task_3"}),
        vote("lee", "a", metadata={}),
    ]
    assert list(tasks.gold_results(known, votes)) == [("ann", True), ("bob", False)]
