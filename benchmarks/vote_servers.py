"""The two servers that benchmarks/feedback.py compares, each one uvicorn process run as `plumbline serve` runs its own.

    python -m benchmarks.vote_servers feedback unix:///path/redis.sock FD

`feedback` is the feedback API as it is, without the chat engine beside it. `plain` is the least that FastAPI can do: a
checked body, one Redis command, an answer. Both use the same Redis client; FD is the listening socket.
"""

import socket
import sys
from typing import Any

import uvicorn
import uvloop
from fastapi import FastAPI
from pydantic import BaseModel

import feedback.app
from core import http
from core.redis import connect_async
from core.settings import Settings


class Vote(BaseModel):
    target: dict[str, Any]
    kind: str
    value: int
    rater: dict[str, Any]


def feedback_api(redis_url: str) -> FastAPI:
    app, settings = FastAPI(), Settings()
    http.install(app, max_body_bytes=settings.max_body_bytes)
    feedback.app.attach(app, redis_url, settings)
    return app


def plain_api(redis_url: str) -> FastAPI:
    app, client = FastAPI(), connect_async(redis_url)

    @app.post("/v1/feedback", status_code=201)
    async def give_feedback(vote: Vote) -> dict[str, str]:
        return {"id": await client.xadd("votes", {"vote": vote.model_dump_json()})}

    return app


def main(kind: str, redis_url: str, listening: int) -> None:
    app = {"feedback": feedback_api, "plain": plain_api}[kind](redis_url)
    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, server_header=False)
    uvloop.run(uvicorn.Server(config).serve(sockets=[socket.socket(fileno=listening)]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
