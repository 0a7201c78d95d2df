"""`/v1/policies`, `/v1/releases` and `/v1/audit` on the admin listener: what `plumbline policies` does, over HTTP.

Every change names its caller in the audit trail. Tenants see none of this: policies are the deployment's.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import redis
from fastapi import APIRouter
from pydantic import BaseModel, Field

from core import audit, evidence, registry, releases, shadow
from core.access import ACT, LOOK, Caller
from core.errors import AlreadyDecided, Conflict, InvalidRequest, NotFound, Unavailable, UsageError
from core.evidence import Evidence
from core.http import ERRORS
from core.records import AuditEvent, PolicyVersion
from core.releases import Release
from core.settings import Settings
from core.shadow import Shadow
from feedback import child
from feedback.head_to_head import HeadToHead
from plumbline import policies
from plumbline.because import Because
from plumbline.policies import Difference, Step

Acts = Annotated[Caller, ACT]
_NEWEST = 1000


class Promotion(Because):
    force: Literal[True]
    """Without waiting for people's votes: releases promote by themselves."""


class PolicyList(BaseModel):
    object: Literal["list"] = "list"
    data: list[PolicyVersion]


class ReleaseList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Release]


class Lineage(BaseModel):
    """The version, its parent, and so on to version 0."""

    object: Literal["lineage"] = "lineage"
    data: list[Step]


class AuditTrail(BaseModel):
    """The newest entries, oldest first, and what a look at the whole chain found."""

    object: Literal["list"] = "list"
    data: list[AuditEvent]
    entries: int
    head: str
    """Hash of the newest whole entry: note it elsewhere."""
    fault: str
    """Empty if no entry was edited, dropped, added or moved."""


class Live(BaseModel):
    """What answers now: `{"live": 3, "generation": 12}`."""

    live: int
    generation: int = Field(ge=1)


def routes(client: redis.Redis, config: Settings) -> APIRouter:
    """All routes; each but one is a plain function, which FastAPI runs in a thread, as the client blocks."""
    router = APIRouter(responses=ERRORS)
    _add_policies(router, client, config.artifacts)
    _add_changes(router, client, releases.first_stage(config.shadow))
    _add_difference(router, client, config)
    _add_releases(router, client)
    return router


def _add_policies(router: APIRouter, client: redis.Redis, artifacts: Path) -> None:
    @router.get("/v1/policies", dependencies=[LOOK])
    def list_policies() -> PolicyList:
        """All versions, oldest first, with their gate reports."""
        with _in_openai_shape():
            return PolicyList(data=registry.policies(client))

    @router.get("/v1/policies/{version}", dependencies=[LOOK])
    def get_policy(version: int) -> PolicyVersion:
        """One version."""
        with _in_openai_shape():
            return _known(client, version)

    @router.get("/v1/policies/{version}/lineage", dependencies=[LOOK])
    def get_lineage(version: int) -> Lineage:
        """Where a version comes from: its snapshot of votes, its parent, down to version 0."""
        with _in_openai_shape():
            _known(client, version)
            return Lineage(data=policies.lineage(client, artifacts, version))


def _add_difference(router: APIRouter, client: redis.Redis, config: Settings) -> None:
    @router.get("/v1/policies/{before}/diff/{after}", dependencies=[LOOK])
    async def diff_policies(before: int, after: int) -> Difference:
        """How two versions differ: people's votes, gate, recipe, snapshot, and the way from one to the other."""
        await asyncio.to_thread(_both_known, client, before, after)
        pair = (str(before), str(after))
        said = await child.ask("feedback.head_to_head", *pair, config=config, redis_url=config.redis_url)
        people = HeadToHead.model_validate_json(said)
        with _in_openai_shape():
            return await asyncio.to_thread(policies.difference, client, config.artifacts, people)


def _add_changes(router: APIRouter, client: redis.Redis, stage: int) -> None:
    @router.post("/v1/policies/{version}/promote")
    def promote_policy(version: int, body: Promotion, caller: Acts) -> Live:
        """Makes a version live by hand; the open release is stopped, whosever it is."""
        with _in_openai_shape():
            _known(client, version)
            registry.promote(client, version, actor=caller.actor, reason=body.reason)
            return _live(client)

    @router.post("/v1/policies/{version}/release")
    def release_policy(version: int, body: Because, caller: Acts) -> Release:
        """Opens the release of a candidate that waits for one."""
        with _in_openai_shape():
            _known(client, version)
            return releases.begin(client, version, stage=stage, actor=caller.actor, reason=body.reason)

    @router.post("/v1/policies/rollback")
    def roll_back(body: Because, caller: Acts) -> Live:
        """Makes the live version's parent live again, and stops the open release."""
        with _in_openai_shape():
            registry.rollback(client, actor=caller.actor, reason=body.reason)
            return _live(client)


def _add_releases(router: APIRouter, client: redis.Redis) -> None:
    @router.get("/v1/releases", dependencies=[LOOK])
    def list_releases() -> ReleaseList:
        """All releases, oldest first; at most one, the last, is open (`canary`)."""
        with _in_openai_shape():
            return ReleaseList(data=releases.releases(client))

    @router.get("/v1/releases/{release}", dependencies=[LOOK])
    def get_release(release: str) -> Release:
        """One release."""
        with _in_openai_shape():
            return _release(client, release)

    @router.get("/v1/releases/{release}/evidence", dependencies=[LOOK])
    def get_evidence(release: str) -> Evidence:
        """What people said of a release, as far as the scheduler read the log."""
        with _in_openai_shape():
            opened = _release(client, release)
            start = Evidence(release=release, position=f"{int(opened.opened * 1000)}-0")
            return evidence.load(client, release) or start

    @router.get("/v1/releases/{release}/shadow", dependencies=[LOOK])
    def get_shadow(release: str) -> Shadow:
        """What the judge said of the candidate's answers that nobody saw."""
        with _in_openai_shape():
            _release(client, release)
            return shadow.load(client, release)

    @router.post("/v1/releases/{release}/stop")
    def stop_release(release: str, body: Because, caller: Acts) -> Release:
        """Ends the open release: the incumbent answers everybody again, the candidate is retired."""
        with _in_openai_shape():
            _release(client, release)
            releases.end(client, release, state="stopped", actor=caller.actor, reason=body.reason)
            return releases.release(client, release)

    @router.get("/v1/audit", dependencies=[LOOK])
    def get_audit() -> AuditTrail:
        """The newest thousand entries of the audit trail, after the whole of it was verified."""
        with _in_openai_shape():
            found = audit.check(client)
            newest = audit.history(client)[-_NEWEST:]
            return AuditTrail(data=newest, entries=found.entries, head=found.head, fault=found.fault)


def _known(client: redis.Redis, version: int) -> PolicyVersion:
    try:
        return registry.policy(client, version)
    except UsageError:
        raise NotFound(f"There is no policy version {version}.", param="version", code="policy_not_found") from None


def _both_known(client: redis.Redis, *versions: int) -> None:
    with _in_openai_shape():
        for version in versions:
            _known(client, version)


def _release(client: redis.Redis, release: str) -> Release:
    try:
        return releases.release(client, release)
    except UsageError:
        raise NotFound("There is no such release.", param="release", code="release_not_found") from None


def _live(client: redis.Redis) -> Live:
    state = registry.state(client)
    assert state is not None  # something was just changed in it
    return Live(live=state.live, generation=state.generation)


@contextlib.contextmanager
def _in_openai_shape() -> Iterator[None]:
    """What the registry refuses, as HTTP says it."""
    try:
        yield
    except Conflict as error:
        raise AlreadyDecided(f"Not done: {error}.") from None
    except UsageError as error:
        raise InvalidRequest(str(error)) from None
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
        raise Unavailable("The registry cannot be reached right now; try again.", code="registry_unavailable") from None
