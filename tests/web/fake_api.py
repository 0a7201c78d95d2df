"""The API as the chat page sees it, with scripted answers: the seam at which the page is tested.

It serves the real static files under a content security policy and speaks the real wire formats (OpenAI's stream and
error shape); what it says, when a stream goes on and which request fails is up to the test.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

import web
from tests.waiting import eventually

RATER = "web-5f4dcc3b5aa765d61d8327deb882cf99"


class FakeApi:
    """State that a test sets (what to answer) and reads (what was sent)."""

    def __init__(self) -> None:
        self.live = "assistant@v3"
        self.pieces = ["A dog ", "is a pet."]
        self.finish_reason = "stop"
        self.feedback_status = "recorded"
        self.drafts = {"a": "A dog is a pet.", "b": "A dog is a **friend**."}
        self.reveal = {"a": "assistant@v3", "b": "assistant@v2"}
        self.refusals: dict[str, tuple[int, str]] = {}
        """Path to (status, message): the request is refused until the entry is removed."""
        self.breaks_after: int | None = None
        """The stream sends this many pieces, then an error event; a comparison's one word of each side."""
        self.go_on = threading.Event()
        """Cleared, streams wait after their first piece, comparisons after the first word of each side."""
        self.go_on.set()
        self.sent: dict[str, list[dict[str, Any]]] = {}
        """Bodies received in the session's name, by path."""
        self.held: set[str] = set()
        """Requests like `PUT /page/conversations/conv_1` wait while they are in here, before anything is done."""
        self.page_is_open = True
        """False: visitors are not let in."""
        self.storage_is_away = False
        """Conversations cannot be saved."""
        self.csrf = "csrf-1"
        """The token that everything which changes something must bring."""
        self.conversations: dict[str, dict[str, Any]] = {}
        """What was saved, by id, the newest last."""
        self.fates: list[dict[str, Any]] = []
        self.train: bool | None = None
        self.tasks: list[dict[str, Any]] = []
        """Given out one after the other."""
        self.streams_cut = threading.Event()
        """Set when a caller left a stream early."""

    def app(self) -> FastAPI:
        app = FastAPI()
        app.middleware("http")(self._hold)
        app.get("/v1/models")(self._models)
        app.post("/v1/chat/completions")(self._chat)
        app.post("/v1/comparisons")(self._comparison)
        app.post("/v1/feedback")(self._feedback)
        app.delete("/v1/feedback/{feedback}")(self._take_back)
        app.post("/v1/raters/{rater}/consent")(self._consent)
        app.post("/page/session")(self._session)
        app.get("/page/conversations")(self._list)
        app.delete("/page/conversations")(self._forget)
        app.get("/page/conversations/{name}")(self._load)
        app.put("/page/conversations/{name}")(self._store)
        app.delete("/page/conversations/{name}")(self._forget)
        app.get("/page/votes")(self._votes)
        app.get("/v1/tasks/next")(self._task)
        app.get("/v1/tasks/progress")(self._progress)
        app.get("/tasks")(self._workspace)
        app.mount("/", _Page(directory=web.directory(), html=True))
        return app

    async def _hold(self, request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        while f"{request.method} {request.url.path}" in self.held:
            await asyncio.sleep(0.01)
        return await go_on(request)

    async def _note(self, request: Request) -> JSONResponse | None:
        """Keeps the body; the refusal if this path is to be refused."""
        if request.headers.get("x-csrf-token") != self.csrf:
            return _refusal(403, "The token of this page is missing or wrong.", code="csrf_failed")
        self.sent.setdefault(request.url.path, []).append(await request.json())
        if request.url.path not in self.refusals:
            return None
        status, message = self.refusals[request.url.path]
        return _refusal(status, message)

    async def _session(self) -> Response:
        if not self.page_is_open:
            return _refusal(403, "Visitors are not let in here.", code="visitors_not_admitted")
        answer = {"rater": RATER, "csrf": self.csrf, "expires_at": 1_900_000_000, "train": self.train, "limits": {}}
        response = JSONResponse(answer)
        response.set_cookie("plumbline_session", "signed", httponly=True, samesite="strict")
        return response

    async def _list(self) -> dict[str, Any]:
        kept = reversed(self.conversations.items())
        entries = [{"id": name, "title": it["title"], "updated_at": it["updated_at"]} for name, it in kept]
        return {"data": entries, "has_more": False, "last_id": None}

    async def _load(self, name: str) -> Response:
        found = self.conversations.get(name)
        return JSONResponse(found) if found else _refusal(404, "There is no such conversation.")

    async def _store(self, name: str, request: Request) -> Response:
        if refusal := await self._note(request):
            return refusal
        if self.storage_is_away:
            return _refusal(503, "Storage is away.")
        body = self.sent[request.url.path][-1]
        held = self.conversations.pop(name, None)
        if held is not None and held["revision"] != body["revision"]:
            self.conversations[name] = held
            return _refusal(409, "Somebody else wrote meanwhile.", code="conflict")
        self.conversations[name] = {
            "id": name,
            "title": body["title"],
            "turns": body["turns"],
            "revision": body["revision"] + 1,
            "created_at": 1_790_000_000,
            "updated_at": 1_790_000_000 + len(self.sent[request.url.path]),
        }
        return JSONResponse(self.conversations[name])

    async def _forget(self, request: Request, name: str | None = None) -> Response:
        if request.headers.get("x-csrf-token") != self.csrf:
            return _refusal(403, "The token of this page is missing or wrong.", code="csrf_failed")
        for each in list(self.conversations) if name is None else [name]:
            self.conversations.pop(each, None)
        return Response(status_code=204)

    async def _task(self) -> Response:
        return JSONResponse(self.tasks[0]) if self.tasks else Response(status_code=204)

    async def _progress(self) -> dict[str, Any]:
        return {"object": "task.progress", "rater": RATER, "done": 7, "skipped": 0, "left": len(self.tasks[1:])}

    async def _workspace(self) -> Response:
        return FileResponse(web.directory() / "tasks.html")

    async def _votes(self) -> dict[str, Any]:
        return {"data": self.fates, "has_more": False, "last_id": None}

    async def _take_back(self, feedback: str) -> dict[str, Any]:
        for fate in self.fates:
            if fate["feedback"] == feedback:
                fate |= {"fate": "withdrawn", "versions": []}
        return {"id": feedback, "status": "withdrawn"}

    async def _consent(self, request: Request) -> Response:
        if refusal := await self._note(request):
            return refusal
        self.train = self.sent[request.url.path][-1]["train"]
        return JSONResponse({"object": "rater.consent", "rater": RATER, "train": self.train}, status_code=201)

    async def _models(self) -> dict[str, Any]:
        live = {"id": "assistant", "object": "model", "owned_by": "plumbline", "parent": self.live}
        return {"object": "list", "data": [live, {"id": self.live, "object": "model", "owned_by": "plumbline"}]}

    async def _chat(self, request: Request) -> Response:
        if refusal := await self._note(request):
            return refusal
        headers = {"x-feedback-status": self.feedback_status}
        return StreamingResponse(self._events(), media_type="text/event-stream", headers=headers)

    async def _events(self) -> AsyncIterator[str]:
        number = len(self.sent["/v1/chat/completions"])
        head = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "model": self.live}
        try:
            for index, piece in enumerate(self.pieces):
                if index > 0:
                    await self._until_released()
                if index == self.breaks_after:
                    yield _event({"error": {"message": "The engine stopped.", "type": "server_error"}})
                    return
                yield _event({**head, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
            yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self.finish_reason}]})
            yield "data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.streams_cut.set()
            raise

    async def _comparison(self, request: Request) -> Response:
        if refusal := await self._note(request):
            return refusal
        return StreamingResponse(self._sides(), status_code=201, media_type="text/event-stream")

    async def _sides(self) -> AsyncIterator[str]:
        """A word of each side at a time."""
        yield _event({"id": "cmp_1", "object": "comparison", "created": 0, "sides": list(self.drafts)})
        rest = {side: re.findall(r"\s*\S+\s*$|\s*\S+", text) for side, text in self.drafts.items()}
        while rest:
            for side, words in list(rest.items()):
                if words:
                    yield _event({"side": side, "delta": words.pop(0)})
                else:
                    del rest[side]
                    yield _event({"side": side, "finish_reason": "stop"})
            await self._until_released()
            if self.breaks_after is not None:
                yield _event({"error": {"message": "The engine stopped.", "type": "server_error"}})
                return
        yield "data: [DONE]\n\n"

    async def _feedback(self, request: Request) -> Response:
        if refusal := await self._note(request):
            return refusal
        body: dict[str, Any] = {"id": "fb_1", "object": "feedback", "status": "active"}
        if self.reveal and self.sent["/v1/feedback"][-1]["kind"] == "preference":
            body |= {"reveal": self.reveal}
        return JSONResponse(body, status_code=201)

    async def _until_released(self) -> None:
        while not self.go_on.is_set():
            await asyncio.sleep(0.01)

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serves on a free port of this machine; yields the address, e.g. `http://127.0.0.1:40123`."""
        server = uvicorn.Server(uvicorn.Config(self.app(), port=0, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run)
        thread.start()
        eventually(lambda: server.started, every_s=0.01)
        try:
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        finally:
            self.go_on.set()
            self.held.clear()
            server.should_exit = True
            thread.join()


class _Page(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["content-security-policy"] = "default-src 'self'"
        return response


def _refusal(status: int, message: str, code: str | None = None) -> JSONResponse:
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status_code=status)


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"
