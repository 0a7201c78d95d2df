"""The chat API's routes: `POST /v1/chat/completions` and `GET /v1/models`, as OpenAI's clients know them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from core.access import Caller, Needs
from core.http import CLIENT_CLOSED, ERRORS, until_disconnect
from core.records import ALIAS, policy_name
from serving.assignment import model_not_found
from serving.chats import Chats
from serving.event_stream import EventStream, server_sent_events
from serving.schemas import ChatBody, Model, ModelList
from serving.swap import Replica


def router(chats: Chats, replica: Replica, *, started: int) -> APIRouter:
    """The routes over one process's chats and policies; `started` is what `/v1/models` says as `created`."""
    routes = APIRouter(responses=ERRORS)

    @routes.post("/v1/chat/completions", responses={200: {"content": {"text/event-stream": {}}}})
    async def create_chat_completion(
        body: ChatBody, request: Request, caller: Annotated[Caller, Depends(Needs("chat"))]
    ) -> Response:
        """OpenAI's, with vLLM's extensions: a chat completion, or with `stream` its chunks."""
        end_user = caller.named(body.rater)  # not the key: behind it are many
        async with chats.quotas.opening(caller) as allowance:
            request.state.response_headers = allowance.headers
            chat = chats.open(body, caller=caller, assignment=replica.acquire(body.model, end_user))
            chat.allowance = allowance
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
        return EventStream(server_sent_events(first, chunks), headers=chat.headers, stall_s=chats.stall_s)

    def models() -> list[Model]:
        residents = replica.residents
        if residents is None:
            return []
        alias = Model(id=ALIAS, created=started, parent=policy_name(residents.live))
        return [alias, *(Model(id=policy_name(version), created=started) for version in sorted(residents.policies))]

    @routes.get("/v1/models", dependencies=[Depends(Needs("chat", "read"))])
    async def list_models() -> ModelList:
        """`assistant` and every version that can be pinned."""
        return ModelList(data=models())

    @routes.get("/v1/models/{model}", dependencies=[Depends(Needs("chat", "read"))])
    async def get_model(model: Annotated[str, Path(max_length=256)]) -> Model:
        """One of them."""
        for each in models():
            if each.id == model:
                return each
        raise model_not_found(model)

    return routes
