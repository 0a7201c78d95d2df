"""Raters over HTTP, for operators: how far each is trusted and why; setting one aside, and taking them back.

On the admin listener alone: nobody learns from the public one that they are in quarantine (feedback/fate.py).
"""

from typing import Annotated

import redis.asyncio
from fastapi import APIRouter, Depends, Query, Response

from core.access import LOOK, Caller, Needs
from core.http import ERRORS
from feedback import rater_lookup, rater_review, rater_schemas
from feedback.archive import Archive
from feedback.rater_review import Action
from feedback.rater_schemas import (
    RaterDetail,
    RaterList,
    RaterListQuery,
    ReviewedObject,
    ReviewRequest,
    TrustObject,
)
from feedback.schemas import Id

Looks = Annotated[Caller, Depends(Needs("read", "admin"))]
Acts = Annotated[Caller, Depends(Needs("admin"))]


def routes(client: redis.asyncio.Redis, archive: Archive) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.get("/v1/trust", dependencies=[LOOK])
    async def get_trust() -> TrustObject:
        """Agreement, position and length bias, shared habits: what the last round found of all raters."""
        return rater_schemas.trust_object(*await rater_lookup.trust(client))

    @router.get("/v1/raters", dependencies=[LOOK])
    async def list_raters(query: Annotated[RaterListQuery, Query()]) -> RaterList:
        """Those whom the last round judged and those in quarantine, by name."""
        found = rater_lookup.page(client, after=query.after, limit=query.limit, quarantined=query.quarantined)
        return rater_schemas.rater_list(await found)

    @router.get("/v1/raters/{rater_id:path}")
    async def get_rater(rater_id: Id, caller: Looks) -> RaterDetail:
        """One rater: how far they are trusted, their consent, and who decided what of them, when and why."""
        return rater_schemas.rater_detail(await rater_lookup.find(client, caller.addressed(rater_id), archive), caller)

    @router.post("/v1/raters/{rater_id:path}/quarantine", status_code=201, responses={200: {"model": ReviewedObject}})
    async def quarantine_rater(rater_id: Id, body: ReviewRequest, response: Response, caller: Acts) -> ReviewedObject:
        """Sets a rater aside: from the next snapshot on nothing of theirs is trained on. 200 if they were already."""
        return await _decide(rater_id, "quarantine", body, response, caller)

    @router.post("/v1/raters/{rater_id:path}/restore", status_code=201, responses={200: {"model": ReviewedObject}})
    async def restore_rater(rater_id: Id, body: ReviewRequest, response: Response, caller: Acts) -> ReviewedObject:
        """Takes a rater back, with all that they voted meanwhile. 200 if they were not in quarantine."""
        return await _decide(rater_id, "restore", body, response, caller)

    async def _decide(
        named: str, action: Action, body: ReviewRequest, response: Response, caller: Caller
    ) -> ReviewedObject:
        rater = caller.addressed(named)
        await rater_lookup.must_exist(client, rater, archive)
        found = await rater_review.review(client, rater, action, reason=body.reason, actor=caller.actor)
        response.status_code = 201 if found.new else 200
        return rater_schemas.reviewed_object(named, found)

    return router
