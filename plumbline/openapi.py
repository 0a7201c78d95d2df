"""The OpenAPI documents of both listeners, from the code alone: no engine, no Redis, no torch.

    python -m plumbline.openapi public > docs/openapi.json
    python -m plumbline.openapi admin > docs/openapi-admin.json

Two documents and not one, because the listeners share paths: `/v1/tasks/progress` tells operators more than raters.
Probes and metrics, which are for machines that look after this one, stand in docs/api.md only.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import redis
import redis.asyncio
from fastapi import FastAPI
from fastapi.routing import APIRoute

import feedback.app
from core.quotas import Quotas
from core.settings import Settings
from core.visitors import Visitors
from plumbline import (
    figure_endpoints,
    invitation_endpoints,
    key_endpoints,
    page_sessions,
    policy_endpoints,
    run_endpoints,
    run_log_endpoints,
)
from serving import choice, comparisons, conversation_endpoints, endpoints, sample_endpoints, stored_endpoints
from serving.chats import Chats
from serving.completions import CompletionLog
from serving.conversations import Conversations
from serving.stored import StoredCompletions
from serving.swap import Replica

Listener = Literal["public", "admin"]
T = TypeVar("T")


def applications() -> tuple[FastAPI, FastAPI]:
    """The public and the admin application, before anything is attached."""
    public = FastAPI(title="Plumbline", docs_url=None, redoc_url=None, generate_unique_id_function=_name)
    admin = FastAPI(title="Plumbline admin", openapi_url=None, generate_unique_id_function=_name)
    return public, admin


def document(listener: Listener) -> dict[str, Any]:
    """What the listener takes and gives, as OpenAPI 3.1."""
    public, admin = applications()
    chats, replica, records = _absent(Chats), _absent(Replica), _absent(CompletionLog)
    public.include_router(endpoints.router(chats, replica, started=0))
    public.include_router(stored_endpoints.router(_absent(StoredCompletions)))
    public.include_router(conversation_endpoints.router(_absent(Conversations), _absent(Quotas)))
    public.include_router(page_sessions.routes(_absent(Visitors), _absent(Quotas), _absent(redis.asyncio.Redis), b""))
    doubt = partial(choice.version_doubt, _absent(redis.asyncio.Redis))
    public.include_router(comparisons.router(chats, replica, records, doubt, release_sampling=0.0))
    # The defaults, whatever the environment says; the client behind the URL connects at its first command.
    feedback.app.attach(public, "redis://unused", Settings.model_construct(), admin=admin)
    admin.include_router(policy_endpoints.routes(_absent(redis.Redis), Settings.model_construct()))
    admin.include_router(run_endpoints.routes(_absent(redis.Redis), Settings.model_construct()))
    admin.include_router(key_endpoints.routes(_absent(redis.Redis), b""))
    admin.include_router(invitation_endpoints.routes(_absent(redis.Redis), b""))
    admin.include_router(run_log_endpoints.routes(_absent(redis.Redis), Path()))
    admin.include_router(figure_endpoints.routes(_absent(redis.Redis), Path()))
    admin.include_router(sample_endpoints.router(chats, replica))
    return (public if listener == "public" else admin).openapi()


def text(listener: Listener) -> str:
    """The document as it is committed."""
    return json.dumps(document(listener), indent=1, ensure_ascii=False) + "\n"


def _name(route: APIRoute) -> str:
    """Operation ids are the names of our functions: `give_feedback`."""
    return route.name


def _absent(kind: type[T]) -> T:
    """Stands where a route would find what it works with: the document is made of signatures, no route is called."""
    return object.__new__(kind)


def main() -> int:
    wanted = sys.argv[1:]
    for listener in get_args(Listener):
        if wanted == [listener]:
            sys.stdout.write(text(listener))
            return 0
    print(f"usage: python -m plumbline.openapi {' | '.join(get_args(Listener))}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
