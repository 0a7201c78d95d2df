"""What the API of rater tasks takes and gives. What raters get has classes of its own, so that nothing slips in."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt
from pydantic.json_schema import WithJsonSchema

from core.http import ErrorDetail
from core.records import TaskKind, TaskState, Value
from core.text import Text
from feedback import tasks
from feedback.schemas import AnyValue, Comment, Id, Reasons, TargetBody, Time, as_time
from feedback.task_lookup import Standing
from feedback.task_store import Leased

MAX_TASKS = 1000


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- what operators ask and see -----------------------------------------------------------------------------------


class TaskRequest(_Body):
    """One task: `{"kind": "compare", "target": {"type": "comparison", "id": "cmp_52ce…"}, "overlap": 3}`."""

    external_id: Id | None = None
    """The operator's own name for it; sent again with the same body, it is the same task. Raters do not see it."""
    kind: TaskKind
    target: TargetBody
    instructions: Annotated[Text, Field(max_length=tasks.MAX_INSTRUCTIONS)] = ""
    """Markdown."""
    overlap: StrictInt = Field(1, ge=1, le=tasks.MAX_OVERLAP)
    """How many raters are to answer it."""
    gold: AnyValue | None = None
    """The answer that is known to be right."""
    priority: StrictInt = Field(0, ge=-tasks.MAX_PRIORITY, le=tasks.MAX_PRIORITY)
    asked: Literal["random", "active"] = "random"
    propensity: float = Field(1.0, gt=0, le=1, strict=True)
    """Probability with which it was chosen."""
    deadline: Time | None = None
    """Within the feedback window, which is the default."""


class TasksRequest(_Body):
    """Up to 1,000 tasks; each is checked and stored by itself."""

    items: Annotated[
        list[Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/TaskRequest"})]],
        Field(max_length=MAX_TASKS),
    ]


class TaskResult(_Body):
    """What came of one item: 201 and its id, 200 if it was there before, or the error."""

    index: int
    status: int
    id: str | None = Field(default=None, exclude_if=lambda it: it is None)
    error: ErrorDetail | None = Field(default=None, exclude_if=lambda it: it is None)


class TasksResponse(_Body):
    object: Literal["task.batch"] = "task.batch"
    results: list[TaskResult]


class TaskAnswer(_Body):
    rater: str
    feedback: str


class TaskSkip(_Body):
    rater: str
    reason: str


class TaskObject(_Body):
    """A task with all that is known of it: not for raters."""

    id: str
    object: Literal["task"] = "task"
    external_id: str | None
    kind: TaskKind
    target: TargetBody
    instructions: str
    overlap: int
    gold: Value | None
    priority: int
    asked: Literal["random", "active"]
    propensity: float
    created_at: datetime
    deadline: datetime
    state: TaskState
    leased: int
    answers: list[TaskAnswer]
    skips: list[TaskSkip]


class TaskListQuery(_Body):
    after: Id | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=100)


class TaskList(_Body):
    """A page, newest first."""

    object: Literal["list"] = "list"
    data: list[TaskObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class GoldCount(_Body):
    """Gold questions that a rater answered."""

    right: int
    wrong: int


# --- what raters ask and see --------------------------------------------------------------------------------------


class TaskRater(_Body):
    """Who does the task: `{"id": "ann"}`."""

    id: Id


class RaterQuery(_Body):
    rater: Id


class AnswerRequest(_Body):
    """`{"rater": {"id": "ann"}, "value": "a"}`; as feedback of the kind that the task asks for."""

    rater: TaskRater
    value: AnyValue
    """`compare`: `a`, `b`, `tie` or `both_bad`. `rank`: groups of sides, best first. `rate`: 1 to 5. `correct`: the
    answer as it should be."""
    reasons: Reasons = []
    comment: Comment | None = None


class SkipRequest(_Body):
    rater: TaskRater
    reason: Annotated[Text, Field(max_length=500)] = ""


class TaskMessage(_Body):
    role: str
    content: str


class TaskSide(_Body):
    """One answer to judge; `side` is null if there is only one."""

    side: str | None
    content: str


class AssignedTask(_Body):
    """A task as its rater sees it, the same for gold questions and for others."""

    id: str
    object: Literal["task.assigned"] = "task.assigned"
    kind: TaskKind
    instructions: str
    messages: list[TaskMessage]
    answers: list[TaskSide]
    expires_at: datetime
    """Until then nobody else gets the place."""


class AnsweredTask(_Body):
    """The vote that was stored; hired raters are told of no policies."""

    id: str
    object: Literal["task.answer"] = "task.answer"
    feedback: str


class SkippedTask(_Body):
    id: str
    object: Literal["task.skip"] = "task.skip"


class ProgressObject(_Body):
    object: Literal["task.progress"] = "task.progress"
    rater: str
    done: int
    skipped: int
    left: int


class RaterProgress(ProgressObject):
    """The same for operators, who may know how gold questions went."""

    gold: GoldCount


# --- from records -------------------------------------------------------------------------------------------------


def assigned_task(leased: Leased) -> AssignedTask:
    return AssignedTask(
        id=leased.task.id,
        kind=leased.task.kind,
        instructions=leased.task.instructions,
        messages=[TaskMessage(role=each.role, content=each.content) for each in leased.shown.messages],
        answers=[TaskSide(side=side, content=text) for side, text in leased.shown.answers],
        expires_at=as_time(leased.until),
    )


def task_object(standing: Standing) -> TaskObject:
    task = standing.task
    target = TargetBody(type=task.target.type, id=task.target.id, choice_index=task.target.choice_index)
    return TaskObject(
        **task.model_dump(exclude={"schema_version", "target", "created", "deadline"}),
        target=target,
        created_at=as_time(task.created),
        deadline=as_time(task.deadline),
        state=standing.state,
        leased=standing.leased,
        answers=[TaskAnswer(rater=rater, feedback=vote) for rater, vote in standing.answers.items()],
        skips=[TaskSkip(rater=rater, reason=reason) for rater, reason in standing.skips.items()],
    )
