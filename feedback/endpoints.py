"""The feedback API: one form for every kind of signal; give it, read it, change it, take it back; and consent."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import redis.asyncio
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import ValidationError
from starlette.convertors import StringConvertor, register_url_convertor

from core import metrics, tracing
from core.access import Caller, Needs, NeedsUnlessReceipt, issuer, tenant_of
from core.errors import ApiError, InvalidRequest
from core.http import ERRORS, ErrorDetail, invalid_request
from core.quotas import Quotas
from core.records import Feedback, Target, new_id, now
from feedback import consent, events, lookup, receipt_endpoints, schemas, store, vote_limits
from feedback.archive import Archive
from feedback.events import Ballot, Change
from feedback.lineage import Lineage
from feedback.schemas import (
    BatchRequest,
    BatchResponse,
    BatchResult,
    ConsentObject,
    ConsentRequest,
    FeedbackDetail,
    FeedbackList,
    FeedbackObject,
    FeedbackRequest,
    ListQuery,
    RevisionRequest,
)
from feedback.scripts import View
from feedback.store import StoredVote

log = logging.getLogger("plumbline.feedback")
_IDEMPOTENCY_KEY: dict[str, Any] = {
    "parameters": [
        {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "minLength": 1, "maxLength": 255}}
    ]
}
"""Read by hand: as a declared parameter this one header costs a tenth of the whole request."""
_TURN = 25
_T = TypeVar("_T")
Voter = Annotated[Caller, Depends(Needs("feedback"))]
Reader = Annotated[Caller, Depends(Needs("read"))]
VoterOrReader = Annotated[Caller, Depends(Needs("feedback", "read"))]
MaybeVoter = Annotated[Caller | None, Depends(NeedsUnlessReceipt("feedback"))]
IfMatch = Annotated[str | None, Header(max_length=255)]


class _FeedbackIds(StringConvertor):
    """Keeps `/v1/feedback/batch` and its like from being taken for feedback: they are resources with other methods."""

    regex = "fb_[^/]+"


register_url_convertor("feedback_id", _FeedbackIds())
_ONE = "/v1/feedback/{feedback_id:feedback_id}"
FeedbackPath = Annotated[str, Path(json_schema_extra={"pattern": schemas.FEEDBACK_ID})]
"""Documented, not checked: an id that cannot be is 404 like one that is not."""


def routes(
    client: redis.asyncio.Redis, quotas: Quotas, *, window_s: int, archive: Archive, lineage: Lineage
) -> APIRouter:
    """The feedback API over `client`; completions can be voted on for `window_s` seconds."""
    router = APIRouter(responses=ERRORS)
    _add_giving(router, client, quotas, window_s)
    _add_reading(router, client, archive, lineage)
    _add_changing(router, client, archive)
    _add_consent(router, client)
    router.include_router(receipt_endpoints.routes(client))
    return router


def _add_giving(router: APIRouter, client: redis.asyncio.Redis, quotas: Quotas, window_s: int) -> None:
    @router.post(
        "/v1/feedback", status_code=201, responses={200: {"model": FeedbackObject}}, openapi_extra=_IDEMPOTENCY_KEY
    )
    async def give_feedback(
        body: FeedbackRequest, request: Request, response: Response, keyed: MaybeVoter
    ) -> FeedbackObject:
        """201 with the stored vote; 200 if this very vote was stored before. A browser brings a receipt."""
        receipt = await receipt_endpoints.presented(client, request)
        caller = keyed if receipt is None else issuer(request, receipt.key)
        assert caller is not None
        ballot, idempotency_key = _ballot(body, caller), _idempotency_key(request, caller)
        try:
            if receipt is not None:
                ballot = receipt_endpoints.signed(ballot, receipt)
            events.check(ballot, now=now())
            await vote_limits.check(quotas, caller, ballot)
            with metrics.VOTE_WRITE.time(), tracing.span("vote write", {"plumbline.feedback.kind": ballot.kind}):
                vote = await store.vote(client, ballot, idempotency_key=idempotency_key, window_s=window_s)
        except ApiError as error:
            _count(ballot, error)
            raise
        _count(ballot, vote)
        response.status_code = _status(vote)
        return _tagged(response, vote.view, caller)

    @router.post("/v1/feedback/batch", response_model=BatchResponse)
    async def give_feedback_batch(body: BatchRequest, caller: Voter) -> Response:
        """Votes in order, each as if it came alone; a bad one harms no other. Idempotent by the items' own ids."""
        ballots = [_checked(item, caller) async for _, item in _in_turns(body.items)]
        ballots = await vote_limits.within(quotas, caller, ballots)
        good = [ballot for ballot in ballots if isinstance(ballot, Ballot)]
        stored = await store.vote_all(client, good, window_s=window_s)
        for ballot, outcome in zip(good, stored, strict=True):
            _count(ballot, outcome)
        _raise_if_all_away(stored)
        outcomes = iter(stored)
        each = [next(outcomes) if isinstance(ballot, Ballot) else ballot for ballot in ballots]
        results = [_result(index, outcome, caller) async for index, outcome in _in_turns(each)]
        return Response(BatchResponse(results=results).model_dump_json(), media_type="application/json")


def _add_reading(router: APIRouter, client: redis.asyncio.Redis, archive: Archive, lineage: Lineage) -> None:
    @router.get("/v1/feedback")
    async def list_feedback(query: Annotated[ListQuery, Query()], caller: Reader) -> FeedbackList:
        """Votes that match, newest first."""
        version = None if query.policy_version is None else int(query.policy_version.rpartition("v")[2])
        named = {name: None if it is None else caller.stored(it) for name, it in _names(query).items()}
        given = query.model_dump() | named | {"policy_version": version, "tenant": caller.tenant}
        return schemas.feedback_list(await lookup.page(client, lookup.Query(**given), archive), caller)

    @router.get(_ONE)
    async def get_feedback(feedback_id: FeedbackPath, response: Response, caller: VoterOrReader) -> FeedbackDetail:
        """One vote with its earlier revisions and what became of it; the `ETag` is its revision."""
        stored = caller.stored(feedback_id)
        found = await lookup.find(client, stored, history=lookup.MAX_HISTORY, archive=archive)
        _check_theirs(found.view, caller)
        _tagged(response, found.view, caller)
        return schemas.feedback_detail(found, await lineage.uses(found.view), caller)


def _add_changing(router: APIRouter, client: redis.asyncio.Redis, archive: Archive) -> None:
    @router.patch(_ONE)
    async def revise_feedback(
        feedback_id: FeedbackPath, body: RevisionRequest, response: Response, caller: Voter, if_match: IfMatch = None
    ) -> FeedbackObject:
        """Appends a revision; one that says nothing new changes nothing."""
        change = _change(body)

        def revised(view: View) -> Feedback | None:
            _check_theirs(view, caller)
            if view.archived:
                raise lookup.archived()
            return events.revised(view.feedback, change, superseded=view.superseded)

        with _counted("revise"):
            view = await store.revise(
                client, caller.stored(feedback_id), revised, revisions=_revisions(if_match), archive=archive
            )
        return _tagged(response, view, caller)

    @router.delete(_ONE)
    async def withdraw_feedback(
        feedback_id: FeedbackPath, response: Response, caller: Voter, if_match: IfMatch = None
    ) -> FeedbackObject:
        """Takes a vote back: no later snapshot holds it. Doing it twice is doing it once."""

        def withdrawn(view: View) -> Feedback | None:
            _check_theirs(view, caller)
            return events.withdrawn(view.feedback)

        with _counted("withdraw"):
            view = await store.revise(
                client,
                caller.stored(feedback_id),
                withdrawn,
                revisions=_revisions(if_match),
                archive=archive,
            )
        return _tagged(response, view, caller)


def _add_consent(router: APIRouter, client: redis.asyncio.Redis) -> None:
    @router.post("/v1/raters/{rater_id:path}/consent", status_code=201, responses={200: {"model": ConsentObject}})
    async def give_consent(
        rater_id: schemas.Id, body: ConsentRequest, response: Response, caller: Voter
    ) -> ConsentObject:
        """Says whether all that this rater wrote and voted, and will, may be trained on. 200 if that is known."""
        with _counted("consent"):
            event, new = await consent.give(client, caller.speaks_for(rater_id), train=body.train)
        response.status_code = 201 if new else 200
        return schemas.consent_object(rater_id, event)

    @router.get("/v1/raters/{rater_id:path}/consent")
    async def get_consent(rater_id: schemas.Id, caller: VoterOrReader) -> ConsentObject:
        """What this rater said last; somebody unknown has said nothing."""
        return schemas.consent_object(rater_id, await consent.given(client, caller.speaks_for(rater_id)))


# --- from bodies --------------------------------------------------------------------------------------------------


def _names(query: ListQuery) -> dict[str, str | None]:
    """Those parts of a query that clients choose themselves."""
    return {"rater": query.rater, "after": query.after}


def _idempotency_key(request: Request, caller: Caller) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= 255:
        raise InvalidRequest("An Idempotency-Key has 1 to 255 characters.", param="header.idempotency-key")
    if key is None:
        return None
    return caller.stored(f"{caller.visitor}/{key}" if caller.visitor else key)


def _check_theirs(view: View, caller: Caller) -> None:
    """Raises NotFound: to a visitor, what others said does not exist."""
    if not caller.owns(tenant_of(view.feedback.id), view.feedback.rater):
        raise lookup.unknown()


def _ballot(body: FeedbackRequest, caller: Caller) -> Ballot:
    if caller.visitor and body.id is not None:  # else a stranger could take the ids that an application will use
        raise InvalidRequest("The server names a session's votes; an Idempotency-Key can be chosen.", param="id")
    if caller.visitor and body.rater is not None and body.rater.kind != "human":
        raise InvalidRequest("A session is a person's.", param="rater.kind")
    return Ballot(
        id=caller.stored(body.id or new_id("fb_")),
        own_id=body.id is not None,
        target=Target(type=body.target.type, id=body.target.id, choice_index=body.target.choice_index),
        kind=body.kind,
        value=body.value,
        reasons=tuple(body.reasons),
        comment=body.comment,
        metadata=tuple(sorted(body.metadata.items())),
        rater=caller.named(body.rater.id if body.rater else None),
        rater_kind=body.rater.kind if body.rater else "human",
        occurred_at=body.occurred_at.timestamp() if body.occurred_at else None,
        on_own=bool(caller.visitor),
    )


async def _in_turns(items: Sequence[_T]) -> AsyncIterator[tuple[int, _T]]:
    """Items with their numbers; streams of chat, which share this event loop, go on between them."""
    for index, item in enumerate(items):
        if index % _TURN == 0:
            await asyncio.sleep(0)
        yield index, item


def _checked(item: Any, caller: Caller) -> Ballot | ApiError:
    """One item of a batch, or why it cannot be a vote."""
    try:
        ballot = _ballot(FeedbackRequest.model_validate(item), caller)
    except ValidationError as error:
        return invalid_request(error.errors())
    except ApiError as error:
        return error
    try:
        events.check(ballot, now=now())
    except ApiError as error:
        _count(ballot, error)
        return error
    return ballot


def _change(body: RevisionRequest) -> Change:
    given = body.model_fields_set
    if "value" in given and body.value is None:
        raise InvalidRequest("A value cannot be taken away; DELETE takes the whole feedback back.", param="value")
    return Change(
        value=body.value,
        reasons=tuple(body.reasons or ()) if "reasons" in given else None,
        comment=body.comment,
        clear_comment="comment" in given and body.comment is None,
        metadata=tuple(sorted((body.metadata or {}).items())) if "metadata" in given else None,
    )


def _revisions(if_match: str | None) -> frozenset[int] | None:
    """The revisions that an `If-Match` allows: `"3", "4"`; None if any. Weak tags match nothing (RFC 9110, 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return None
    tags = [tag.strip() for tag in if_match.split(",")]
    numbers = [tag[1:-1] for tag in tags if len(tag) > 2 and tag[0] == tag[-1] == '"']
    return frozenset(int(number) for number in numbers if number.isascii() and number.isdigit())


# --- to answers ---------------------------------------------------------------------------------------------------


def _tagged(response: Response, view: View, caller: Caller) -> FeedbackObject:
    response.headers["etag"] = f'"{view.feedback.revision}"'
    return schemas.feedback_object(view, caller)


def _status(outcome: StoredVote | ApiError) -> int:
    if isinstance(outcome, ApiError):
        return outcome.status
    return 201 if outcome.new else 200


def _result(index: int, outcome: StoredVote | ApiError, caller: Caller) -> BatchResult:
    if isinstance(outcome, ApiError):
        error = ErrorDetail.model_validate(outcome.body()["error"])
        return BatchResult(index=index, status=outcome.status, error=error)
    return BatchResult(index=index, status=_status(outcome), feedback=schemas.feedback_object(outcome.view, caller))


def _raise_if_all_away(outcomes: Sequence[StoredVote | ApiError]) -> None:
    away = [outcome for outcome in outcomes if isinstance(outcome, ApiError) and outcome.status >= 500]
    if away and len(away) == len(outcomes):
        raise away[0]


def _count(ballot: Ballot, outcome: StoredVote | ApiError) -> None:
    if isinstance(outcome, StoredVote):
        metrics.VOTES.labels(ballot.kind, "new" if outcome.new else "replay").inc()
        if outcome.new and ballot.kind == "preference" and ballot.rater_kind == "human":
            metrics.PREFERENCES.labels(ballot.value).inc()
        return
    result = _counted_as(outcome, "a vote")
    metrics.VOTES.labels(ballot.kind, result).inc()
    if result == "refused":
        metrics.VOTES_REFUSED.labels(outcome.error_code or "invalid").inc()


@contextlib.contextmanager
def _counted(action: str) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        metrics.FEEDBACK_CHANGES.labels(action, _counted_as(error, f"a change ({action})")).inc()
        raise
    metrics.FEEDBACK_CHANGES.labels(action, "done").inc()


def _counted_as(error: ApiError, what: str) -> str:
    if error.status < 500:
        return "refused"
    log.warning("%s could not be stored: %r", what, error.__cause__)
    return "unavailable"
