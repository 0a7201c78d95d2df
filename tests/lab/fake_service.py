"""A stand-in for the service at the seam that the demo's people use: the public HTTP API, on a real port.

It answers with whatever the test's `answer(prompt, version)` says, keeps every body that it was sent, and can break its
streams in the ways a real one could.
"""

import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

Break = Literal["", "cut", "no_finish", "error_event", "refuse", "two_versions"]
Json = dict[str, Any]


class FakeService:
    def __init__(self, answer: Callable[[str, int], str]) -> None:
        self.answer = answer
        self.live = 0
        self.resident = [0]
        self.broken: Break = ""
        self.unavailable = 0
        """So many of the next votes get 503 with Retry-After."""
        self.refusing = False
        """Every vote gets 404."""
        self.impostor: int | None = None
        """Version that answers whatever was asked for."""
        self.chats: list[Json] = []
        self.drawn: dict[str, Json] = {}
        """Comparison id → its request."""
        self.votes: list[Json] = []
        self.on_preference: Callable[[], None] = lambda: None

    # -- endpoints -----------------------------------------------------------------------------------------------------

    def app(self) -> FastAPI:
        app = FastAPI()
        app.post("/v1/chat/completions")(self.chat)
        app.post("/v1/comparisons", status_code=201)(self.compare)
        app.post("/v1/feedback", status_code=201)(self.feedback)
        app.get("/v1/models")(self.models)
        return app

    async def models(self) -> Json:
        names = ["assistant", *(f"assistant@v{version}" for version in self.resident)]
        return {"object": "list", "data": [{"id": n, "object": "model", "created": 0, "owned_by": "x"} for n in names]}

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.chats.append(body)
        if self.broken == "refuse":
            error = {"message": "no", "type": "server_error", "param": None, "code": None}
            return JSONResponse({"error": error}, status_code=500)
        version = self._version(body["model"])
        text = self.answer(body["messages"][-1]["content"], version)
        answer_id = f"chatcmpl-{len(self.chats)}"
        if body.get("stream"):
            return StreamingResponse(
                self._stream(answer_id, version, text),
                media_type="text/event-stream",
                headers={"x-feedback-status": "recorded"},
            )
        completion = {
            "id": answer_id,
            "object": "chat.completion",
            "created": 0,
            "model": f"assistant@v{version}",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": len(text.split()), "total_tokens": 1},
        }
        return JSONResponse(completion)

    async def _stream(self, answer_id: str, version: int, text: str) -> AsyncIterator[str]:
        def chunk(delta: Json | None = None, *, finish: str | None = None, model: int = version) -> str:
            choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2} if delta is None else None
            fields = {"id": answer_id, "object": "chat.completion.chunk", "created": 0, "model": f"assistant@v{model}"}
            return f"data: {json.dumps(fields | {'choices': choices, 'usage': usage})}\n\n"

        yield chunk({"role": "assistant", "content": ""})
        half = len(text) // 2
        yield chunk({"content": text[:half]})
        match self.broken:
            case "cut":
                raise RuntimeError("the fake cuts this stream")
            case "error_event":
                yield 'data: {"error": {"message": "engine died", "type": "server_error"}}\n\n'
                return
            case "no_finish":
                yield "data: [DONE]\n\n"
                return
            case "two_versions":
                yield chunk({"content": text[half:]}, model=version + 1)
            case _:
                yield chunk({"content": text[half:]})
        yield chunk({}, finish="stop")
        yield chunk()
        yield "data: [DONE]\n\n"

    async def compare(self, request: Request) -> Json:
        body = await request.json()
        comparison_id = f"cmp_{len(self.drawn)}"
        self.drawn[comparison_id] = body
        prompt = body["messages"][-1]["content"]
        sides = [
            {"side": side, "content": self.answer(prompt, self.live), "finish_reason": "stop"} for side in ("a", "b")
        ]
        return {"id": comparison_id, "object": "comparison", "created": 0, "sides": sides}

    async def feedback(self, request: Request) -> Response:
        if self.unavailable > 0:
            self.unavailable -= 1
            error = {"message": "away", "type": "server_error", "param": None, "code": "storage_unavailable"}
            return JSONResponse({"error": error}, status_code=503, headers={"x-should-retry": "true"})
        body = await request.json()
        if self.refusing:
            error = {"message": "no such target", "type": "invalid_request_error", "param": "target.id", "code": None}
            return JSONResponse({"error": error}, status_code=404)
        self.votes.append(body)
        if body["kind"] == "preference":
            self.on_preference()
        return JSONResponse({"id": f"fb_{len(self.votes)}", "status": "active"}, status_code=201)

    def _version(self, model: str) -> int:
        if self.impostor is not None:
            return self.impostor
        return self.live if model == "assistant" else int(model.removeprefix("assistant@v"))

    # -- running it ----------------------------------------------------------------------------------------------------

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Its base URL, while it runs in a thread."""
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(self.app(), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"  # connections wait in the backlog until it is up
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            listener.close()
