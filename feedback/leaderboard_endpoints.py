"""`GET /v1/leaderboard` on the admin listener.

Reading a long log takes seconds of Python, so it is a process of its own (feedback/leaderboard.py): chat, on this
event loop and under this interpreter's lock, does not wait for it. Who asks meanwhile gets the same answer.
"""

import asyncio

from fastapi import APIRouter

from core.access import LOOK
from core.http import ERRORS
from core.settings import Settings
from feedback import child
from feedback.leaderboard import Leaderboard


def routes(settings: Settings, redis_url: str) -> APIRouter:
    router = APIRouter(responses=ERRORS, dependencies=[LOOK])
    current: asyncio.Task[str] | None = None

    @router.get("/v1/leaderboard")
    async def get_leaderboard() -> Leaderboard:
        """Policy versions by people's votes: strengths at equal length with 95 % intervals, and ranks."""
        nonlocal current
        if current is None or current.done():
            current = asyncio.create_task(child.ask("feedback.leaderboard", config=settings, redis_url=redis_url))
        return Leaderboard.model_validate_json(await asyncio.shield(current))

    return router
