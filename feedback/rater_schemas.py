"""What the admin listener takes and gives about raters and the trust in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.access import Caller
from core.records import RaterEvent, RaterReport, SharedHabit, TrustReport
from core.records import Share as MeasuredShare
from core.text import Text
from feedback.rater_lookup import RaterHistory, RaterPage, RaterView
from feedback.rater_review import MAX_REASON, Reviewed
from feedback.schemas import Id, as_time

State = Literal["active", "quarantined"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RaterListQuery(_Body):
    """Which raters to list."""

    after: Id | None = None
    """`last_id` of the page before."""
    limit: int = Field(20, ge=1, le=100)
    quarantined: bool | None = None
    """Only those who are in quarantine now, or only the others."""


class ReviewRequest(_Body):
    """Why: `{"reason": "a script: 400 votes in a minute"}`."""

    reason: Annotated[Text, Field(json_schema_extra={"minLength": 1, "maxLength": MAX_REASON})]


class ReviewObject(_Body):
    """One decision: who made it, when and why. The actor `trust` is the scheduler."""

    action: Literal["quarantine", "restore"]
    actor: str
    reason: str
    created_at: datetime


class Reliability(_Body):
    """How clearly a rater prefers what is expected, with its 95 % interval: 1 as the usual rater, 0 a coin, below 0 the
    opposite."""

    value: float
    low: float
    high: float


class ReportObject(_Body):
    """What the last round that looked at their votes found."""

    votes: int
    """That were looked at."""
    judged: int
    """Of which something is known about what an honest rater would have said."""
    reliability: Reliability
    weight: float
    """Of the rater's training rows, 0 to 1."""
    quarantined: bool
    """By what these votes say. What holds now is the `state`."""
    reason: str
    as_of: datetime


class RaterObject(_Body):
    """One rater as they are now."""

    id: str
    object: Literal["rater"] = "rater"
    state: State
    review: ReviewObject | None
    """The newest decision."""
    report: ReportObject | None


class RaterDetail(RaterObject):
    """One rater with all that was decided of them."""

    train: bool | None
    """Their consent; null if they never said."""
    history: list[ReviewObject]
    """All decisions, the newest first."""
    invited_until: datetime | None
    """To the page; null if they are not."""
    audited_as: str
    """Their name in the audit trail, the `subject` of what was done about them."""


class RaterList(_Body):
    """A page, by name."""

    object: Literal["list"] = "list"
    data: list[RaterObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ReviewedObject(_Body):
    """What holds of a rater after a decision."""

    id: str
    object: Literal["rater.review"] = "rater.review"
    state: State
    review: ReviewObject | None
    """The newest decision: not this one, if it was so before."""


class ShareObject(_Body):
    """A measured share with its 95 % interval, of `count` votes."""

    value: float
    low: float
    high: float
    count: int


class HabitObject(_Body):
    """A habit that several raters share."""

    habit: str
    raters: int
    log10_e: float
    """Evidence against nobody having it."""


class AgreementObject(_Body):
    """What the last round found of all raters."""

    as_of: datetime
    snapshot: str
    votes: int
    """That were looked at."""
    surveyed: int
    """Of which a reward model that never saw their raters has an opinion."""
    raters: int
    """Who were judged: all who voted but those in quarantine already."""
    quarantined: int
    """Who were in quarantine afterwards."""
    alpha_nominal: float | None
    """Krippendorff's, of preferences and thumbs on items with several votes."""
    alpha_ordinal: float | None
    """The same of ratings."""
    first: ShareObject | None
    """How often people prefer the side that was shown first: one half without position bias."""
    longer: ShareObject | None
    """How often they prefer the longer answer."""
    longer_expected: float | None
    """How often they would by what the answers say; more is length bias."""
    habits: list[HabitObject]
    error: str
    """Why there was no survey, if there was to be one."""


class TrustObject(_Body):
    """How many raters are in quarantine now, and what the last round found; `report` is null before the first."""

    object: Literal["trust"] = "trust"
    quarantined: int
    report: AgreementObject | None


# --- from records -------------------------------------------------------------------------------------------------


def rater_object(it: RaterView) -> RaterObject:
    return RaterObject(id=it.rater, state=_state(it.quarantined), review=_review(it.review), report=_report(it.report))


def rater_detail(it: RaterHistory, caller: Caller) -> RaterDetail:
    shown = rater_object(it.view)
    return RaterDetail(
        id=caller.shown(shown.id),
        state=shown.state,
        review=shown.review,
        report=shown.report,
        train=None if it.consent is None else it.consent.train,
        history=_reviews(it.reviews),
        invited_until=None if it.invitation is None else as_time(it.invitation.expires),
        audited_as=it.audited_as,
    )


def rater_list(page: RaterPage) -> RaterList:
    data = [rater_object(each) for each in page.raters]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return RaterList(data=data, first_id=first, last_id=last, has_more=page.more)


def reviewed_object(rater: str, it: Reviewed) -> ReviewedObject:
    return ReviewedObject(id=rater, state=_state(it.quarantined), review=_review(it.event))


def trust_object(report: TrustReport | None, quarantined: int) -> TrustObject:
    return TrustObject(quarantined=quarantined, report=None if report is None else _agreement(report))


def _state(quarantined: bool) -> State:
    return "quarantined" if quarantined else "active"


def _reviews(events: Sequence[RaterEvent]) -> list[ReviewObject]:
    return [shown for event in events if (shown := _review(event)) is not None]


def _review(event: RaterEvent | None) -> ReviewObject | None:
    if event is None:
        return None
    assert event.action == "quarantine" or event.action == "restore", "see lua/rater_review.lua"
    return ReviewObject(
        action=event.action, actor=event.actor, reason=event.reason, created_at=as_time(event.created_at)
    )


def _report(it: RaterReport | None) -> ReportObject | None:
    if it is None:
        return None
    return ReportObject(
        votes=it.votes,
        judged=it.judged,
        reliability=Reliability(value=it.reliability, low=it.reliability_low, high=it.reliability_high),
        weight=it.weight,
        quarantined=it.quarantined,
        reason=it.reason,
        as_of=as_time(it.as_of),
    )


def _agreement(it: TrustReport) -> AgreementObject:
    return AgreementObject(
        as_of=as_time(it.as_of),
        snapshot=it.snapshot,
        votes=it.votes,
        surveyed=it.surveyed,
        raters=it.raters,
        quarantined=it.quarantined,
        alpha_nominal=it.alpha_nominal,
        alpha_ordinal=it.alpha_ordinal,
        first=_share(it.first),
        longer=_share(it.longer),
        longer_expected=it.longer_expected,
        habits=[_habit(each) for each in it.habits],
        error=it.error,
    )


def _share(it: MeasuredShare | None) -> ShareObject | None:
    return None if it is None else ShareObject(value=it.value, low=it.low, high=it.high, count=it.count)


def _habit(it: SharedHabit) -> HabitObject:
    return HabitObject(habit=it.habit, raters=it.raters, log10_e=it.log10_e)
