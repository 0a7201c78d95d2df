"""The chat API's routes: `POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients know them."""

import json
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from core.errors import ApiError
from core.http import CLIENT_CLOSED, ERRORS, until_disconnect
from core.records import ALIAS, policy_name
from serving.chats import Chats
from serving.schemas import ChatBody, Model, ModelList
from serving.swap import Replica


def router(chats: Chats, replica: Replica, *, started: int) -> APIRouter:
    """The routes over one process's chats and policies; `started` is what `/v1/models` says as `created`."""
    routes = APIRouter(responses=ERRORS)

    @routes.post("/v1/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
    async def create_chat_completion(body: ChatBody, request: Request) -> Response:
        """OpenAI's, with vLLM's extensions: a chat completion, or with `stream` its chunks."""
        chat = await chats.open(body, assignment=replica.acquire(body.model))
        if not chat.request.stream:
            answer = await until_disconnect(request, chats.answer(chat))
            if answer is None:
                chats.end(chat)
                return Response(status_code=CLIENT_CLOSED)
            return JSONResponse(answer, headers=chat.headers)
        # The first chunk is awaited before the status is sent: what the engine refuses late is still a proper 400.
        chunks = chats.stream(chat)
        first = await until_disconnect(request, anext(chunks))
        if first is None:
            chats.end(chat)
            return Response(status_code=CLIENT_CLOSED)
        return StreamingResponse(
            server_sent_events(first, chunks), media_type="text/event-stream", headers=chat.headers
        )

    @routes.get("/v1/models")
    async def list_models() -> ModelList:
        """`assistant` and every version that can be pinned."""
        residents = replica.residents
        if residents is None:
            return ModelList(data=[])
        alias = Model(id=ALIAS, created=started, parent=policy_name(residents.live))
        pinned = [Model(id=policy_name(version), created=started) for version in sorted(residents.policies)]
        return ModelList(data=[alias, *pinned])

    return routes


async def server_sent_events(first: str, rest: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """One event for each piece of JSON. A stream that breaks inside ends with an error event and without `[DONE]`."""
    try:
        yield f"data: {first}\n\n"
        async for chunk in rest:
            yield f"data: {chunk}\n\n"
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield f"data: {json.dumps(error.body())}\n\n"
    finally:
        await rest.aclose()
