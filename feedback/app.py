"""Mounts the feedback API on an application: `attach` adds its routes, `stop` closes its connections."""

from dataclasses import dataclass

import redis.asyncio
from fastapi import FastAPI

from core.quotas import Quotas
from core.redis import connect_async
from core.settings import Settings
from feedback import (
    endpoints,
    erasure_endpoints,
    export_endpoints,
    leaderboard_endpoints,
    own_votes,
    rater_endpoints,
    task_endpoints,
)
from feedback.archive import Archive
from feedback.lineage import Lineage


@dataclass(frozen=True, kw_only=True, slots=True)
class Feedback:
    """The attached feedback API; connections are opened by the first vote, so Redis may come later."""

    client: redis.asyncio.Redis

    async def stop(self) -> None:
        await self.client.aclose()


def attach(
    app: FastAPI, redis_url: str, settings: Settings, *, admin: FastAPI | None = None, quotas: Quotas | None = None
) -> Feedback:
    """Adds the feedback API to `app`, and to `admin` what only operators may do.

    Error handlers and request ids are `core.http.install`'s, once per app.
    """
    client = connect_async(redis_url)
    archive, lineage = Archive(settings.artifacts), Lineage(client, settings.artifacts)
    quotas, window_s = quotas or Quotas(client), settings.feedback_window_s
    app.include_router(endpoints.routes(client, quotas, window_s=window_s, archive=archive, lineage=lineage))
    app.include_router(task_endpoints.rater_routes(client, window_s=settings.feedback_window_s))
    if settings.page != "off":
        app.include_router(own_votes.routes(client, archive, lineage))
    if admin is not None:
        admin.include_router(erasure_endpoints.routes(client))
        admin.include_router(export_endpoints.routes(settings, redis_url))
        admin.include_router(leaderboard_endpoints.routes(settings, redis_url))
        admin.include_router(rater_endpoints.routes(client, archive))
        admin.include_router(task_endpoints.operator_routes(client, window_s=settings.feedback_window_s))
    return Feedback(client=client)
