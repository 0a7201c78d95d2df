"""`POST /v1/feedback`: the one endpoint for every kind of vote."""

import logging
from typing import Annotated

import redis.asyncio
from fastapi import APIRouter, Header, Response

from core import metrics
from core.errors import ApiError
from core.records import Target, new_id
from feedback import events, store
from feedback.events import Ballot
from feedback.schemas import FeedbackObject, FeedbackRequest, feedback_object

log = logging.getLogger("plumbline.feedback")


def routes(client: redis.asyncio.Redis, *, window_s: int) -> APIRouter:
    """The feedback API over `client`; completions can be voted on for `window_s` seconds."""
    router = APIRouter()

    @router.post("/v1/feedback", status_code=201, responses={200: {"model": FeedbackObject}})
    async def give_feedback(
        body: FeedbackRequest,
        response: Response,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> FeedbackObject:
        """201 with the stored vote; 200 if this very vote was stored before."""
        ballot = _ballot(body)
        try:
            events.check(ballot)
            with metrics.VOTE_WRITE.time():
                vote = await store.vote(client, ballot, idempotency_key=idempotency_key, window_s=window_s)
        except ApiError as error:
            metrics.VOTES.labels(ballot.kind, "unavailable" if error.status >= 500 else "refused").inc()
            if error.status >= 500:
                log.warning("a vote could not be stored: %r", error.__cause__)
            raise
        metrics.VOTES.labels(ballot.kind, "new" if vote.new else "replay").inc()
        response.status_code = 201 if vote.new else 200
        return feedback_object(vote.feedback, active=vote.active)

    return router


def _ballot(body: FeedbackRequest) -> Ballot:
    return Ballot(
        id=new_id("fb_"),
        target=Target(type=body.target.type, id=body.target.id, choice_index=body.target.choice_index),
        kind=body.kind,
        value=body.value,
        rater=body.rater.id if body.rater else None,
        rater_kind=body.rater.kind if body.rater else "human",
        comment=body.comment,
    )
