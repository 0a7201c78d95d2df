"""A tiny application: it asks Plumbline for answers and gives each to the browser with a receipt to vote with.

    python examples/thumbs/app.py --plumbline http://localhost:8000 --port 8080

The browser speaks to this server for answers and to Plumbline for votes; whatever key this server has, it keeps.
"""

import argparse
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import Cookie, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

PAGE = Path(__file__).parent / "page.html"
KINDS = ["thumb", "correction"]
"""What the receipts are good for."""


class Question(BaseModel):
    text: str


class Answer(BaseModel):
    """An answer, and what the browser needs to vote on it."""

    id: str
    text: str
    votes_to: str
    """Plumbline's URL for votes."""
    receipt: str


def application(plumbline: str, *, key: str = "unused") -> FastAPI:
    """The application before the service at `plumbline`, a URL that browsers can reach too."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=plumbline, headers=headers, timeout=120) as app.state.service:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def page(visitor: str | None = Cookie(None)) -> HTMLResponse:
        """The page; a new visitor gets a name of their own, by which their votes are known."""
        response = HTMLResponse(PAGE.read_text())
        if visitor is None:
            response.set_cookie("visitor", f"visitor-{secrets.token_hex(8)}", httponly=True, samesite="lax")
        return response

    @app.post("/ask")
    async def ask(question: Question, visitor: str = Cookie()) -> Answer:
        service: httpx.AsyncClient = app.state.service
        messages = [{"role": "user", "content": question.text}]
        chat = {"model": "assistant", "messages": messages, "max_tokens": 48, "safety_identifier": visitor}
        said = await post(service, "/v1/chat/completions", chat)
        target = {"type": "completion", "id": said["id"]}
        wanted = {"target": target, "rater": {"id": visitor}, "kinds": KINDS}
        receipt = await post(service, "/v1/feedback/tokens", wanted)
        return Answer(
            id=said["id"],
            text=said["choices"][0]["message"]["content"],
            votes_to=plumbline + receipt["url"],
            receipt=receipt["token"],
        )

    return app


async def post(service: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What Plumbline answers; its refusals are passed on in its own words."""
    try:
        response = await service.post(path, json=body)
    except httpx.TransportError as error:
        raise HTTPException(502, f"Plumbline at {service.base_url} does not answer.") from error
    if response.is_error:
        raise HTTPException(502, response.json()["error"]["message"])
    return dict(response.json())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--plumbline", default="http://localhost:8000", help="Its public listener.")
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    uvicorn.run(application(options.plumbline.rstrip("/")), host="localhost", port=options.port)
