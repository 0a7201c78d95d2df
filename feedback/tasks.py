"""The rules of rater tasks, pure: which tasks can be asked, what their raters see, and when a gold answer is met.

A rater sees the instructions, the prompt and the answers, and an id that says nothing. What tells a gold question from
another (gold, overlap, priority, the operator's own name for it) and what tells one policy from another stay here.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import InvalidRequest
from core.records import SIDES, CompletionRecord, CompletionState, Kind, Message, RaterTask, TaskKind, Value
from feedback import events
from feedback.events import Ballot, LoggedVote

LEASE_S = 1800
"""How long a rater may think: enough to read and rank nine long answers."""
KEPT_S = 60
"""How long a place is kept while its answer is being stored, which takes two seconds at most."""
MAX_INSTRUCTIONS = 8000
MAX_OVERLAP = 100
MAX_PRIORITY = 100
KINDS: dict[TaskKind, Kind] = {"compare": "preference", "rank": "ranking", "rate": "rating", "correct": "correction"}
"""The kind of feedback that answers each kind of task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """A rater's answer: `Said(rater="ann", value="a", reasons=("correct",))`."""

    rater: str
    value: Value
    reasons: tuple[str, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """What a rater sees of a task's target: the prompt, and of each side its name (None if there is one) and text."""

    messages: list[Message]
    answers: list[tuple[str | None, str]]


# --- what can be asked --------------------------------------------------------------------------------------------


def check(task: RaterTask, subjects: Sequence[CompletionRecord], *, now: float, window_s: int) -> None:
    """Whether raters can be asked this about these completions: the target, or its sides in order.

    Raises:
        InvalidRequest: kind, gold or deadline do not fit, or the answers cannot be shown; `param` names the field.
    """
    _check_kind(task, len(subjects))
    _check_gold(task, len(subjects))
    if not now < task.deadline <= now + window_s + events.CLOCK_SKEW_S:
        raise InvalidRequest("It lies in the past, or beyond the feedback window.", param="deadline")
    for record in subjects:
        if record.state is not CompletionState.COMPLETE:
            raise _unfit("An answer is not finished, was cut off or failed.", "target_not_votable")
        if not record.messages or all(choice.index != task.target.choice_index for choice in record.choices):
            raise _unfit("Nothing can be shown: there is no such choice, or no text was kept.", "target_not_votable")
        if not record.train:
            raise _unfit("Its author keeps it from training, so nobody is asked to read it.", "no_consent")


def _check_kind(task: RaterTask, sides: int) -> None:
    asks = {"compare": "a comparison of two", "rank": "a comparison of three to nine"}.get(task.kind, "a completion")
    fits = {"compare": sides == 2, "rank": 3 <= sides <= len(SIDES)}.get(task.kind, task.target.type == "completion")
    if not fits or (task.kind in ("compare", "rank")) != (task.target.type == "comparison"):
        raise InvalidRequest(f"A {task.kind} task is about {asks}.", param="kind")
    if task.target.type == "comparison" and task.target.choice_index != 0:
        raise InvalidRequest("A comparison has no choices to index.", param="target.choice_index")


def _check_gold(task: RaterTask, sides: int) -> None:
    if task.gold is None:
        return
    if task.kind == "correct":
        raise InvalidRequest("No edited answer is the only right one: a correct task has no gold.", param="gold")
    try:
        events.check_value(KINDS[task.kind], task.gold)
    except InvalidRequest as error:
        raise InvalidRequest(str(error), param="gold") from None
    if task.kind == "rank" and events.ranked_sides(task.gold) != sides:
        raise InvalidRequest(f"The ranking must place all {sides} sides, each once.", param="gold")


def _unfit(message: str, code: str) -> InvalidRequest:
    return InvalidRequest(message, param="target", code=code)


# --- asking and answering -----------------------------------------------------------------------------------------


def shown(task: RaterTask, subjects: Sequence[CompletionRecord]) -> Shown:
    """The prompt and the answers, in the order in which the comparison shows them to everybody."""
    index = task.target.choice_index
    texts = [next(choice.text for choice in record.choices if choice.index == index) for record in subjects]
    names = list(SIDES) if task.target.type == "comparison" else [None]
    return Shown(messages=subjects[0].messages, answers=list(zip(names, texts, strict=False)))


def ballot(task: RaterTask, said: Said) -> Ballot:
    """The vote that answers the task. Its id follows from task and rater, so that any retry is the same vote."""
    word = hashlib.sha256(f"{task.id} {said.rater}".encode()).hexdigest()[:32]
    return Ballot(
        id=f"fb_{word}",
        own_id=True,
        target=task.target,
        kind=KINDS[task.kind],
        value=said.value,
        reasons=said.reasons,
        comment=said.comment,
        metadata=(("task", task.id),),
        rater=said.rater,
        source="task",
    )


# --- gold ---------------------------------------------------------------------------------------------------------


def gold_results(tasks: Mapping[str, RaterTask], votes: Iterable[LoggedVote]) -> Iterator[tuple[str, bool]]:
    """Who answered a gold question, and whether rightly, once for each of the standing votes that answers one.

    Args:
        tasks: by id; those without gold, and missing ones, are passed over.
        votes: what stands of the log (`events.standing`).
    """
    for vote in votes:
        said = vote.feedback
        task = tasks.get(said.metadata.get("task", "")) if said.source == "task" else None
        if task is not None and task.gold is not None and said.rater is not None:
            yield said.rater, is_right(task.kind, task.gold, said.value)


def is_right(kind: TaskKind, gold: Value, value: Value) -> bool:
    """A rating may be one off; a ranking must order all that the gold one orders, and may order its ties."""
    if kind == "rate":
        assert isinstance(gold, int)
        assert isinstance(value, int)
        return abs(value - gold) <= 1
    if kind == "rank":
        return _strict_pairs(gold) <= _strict_pairs(value)
    return value == gold


def _strict_pairs(ranking: Value) -> set[tuple[str, str]]:
    assert isinstance(ranking, list)
    return {
        (better, worse)
        for place, group in enumerate(ranking)
        for better in group
        for later in ranking[place + 1 :]
        for worse in later
    }
