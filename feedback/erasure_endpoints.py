"""Erasure over HTTP, for operators: ask for it, and see how far it is. The scheduler does it (feedback/erasure.py)."""

from typing import Annotated, Literal

import redis.asyncio
from fastapi import APIRouter, Depends
from pydantic import BaseModel

from core.access import DEPLOYMENT, Caller, Needs
from core.http import ERRORS
from core.records import Erasure, ErasureState, policy_name
from feedback import erasure
from feedback.schemas import Id

Looks = Annotated[Caller, Depends(Needs("read", "admin"))]
Acts = Annotated[Caller, Depends(Needs("admin"))]


class ErasureObject(BaseModel):
    """How far an erasure is. Nothing in it says whose it is."""

    job: str
    object: Literal["erasure"] = "erasure"
    state: ErasureState
    counts: dict[str, int]
    snapshots: list[str]
    runs: list[str]
    tainted: list[str]
    """Policies that were trained on what is erased: `["assistant@v3"]`."""
    error: str


def routes(client: redis.asyncio.Redis) -> APIRouter:
    router = APIRouter(responses=ERRORS)

    @router.delete("/v1/users/{rater_id:path}", status_code=202)
    async def erase_rater(rater_id: Id, caller: Acts) -> ErasureObject:
        """Queues the erasure of all that a rater wrote and voted. Asked twice, it is one job."""
        return _shown(await erasure.request(client, caller.addressed(rater_id)))

    @router.get("/v1/erasures/{job}")
    async def get_erasure(job: str, caller: Looks) -> ErasureObject:
        """How far it is, and the policies that learned from what is gone."""
        found = await erasure.find(client, job)
        if not caller.owns(found.tenant) and caller.tenant != DEPLOYMENT:
            raise erasure.unknown()
        return _shown(found)

    return router


def _shown(it: Erasure) -> ErasureObject:
    return ErasureObject(
        job=it.id,
        state=it.state,
        counts=it.counts,
        snapshots=it.snapshots,
        runs=it.runs,
        tainted=[policy_name(version) for version in it.tainted],
        error=it.error,
    )
