"""Who calls, and what they may do: the seam between API keys and the routes.

A route says what it needs and gets the caller:

    async def create_chat_completion(body: ChatBody, caller: Annotated[Caller, Depends(Needs("chat"))]) -> ...

Where no keys are needed (core/key_table.py) everybody is the deployment itself.

Tenants share policies and nothing else. Two rules keep them apart:
- An id that we mint is random; its record says whose it is, and `Caller.owns` is asked before it is shown. What is
  another tenant's is 404, in the words for what does not exist.
- A name that a client chooses (a rater, a vote's own id, an idempotency key) is kept as `@tenant/name`, by `stored`
  and by nothing else, so that the names of two tenants never meet. The deployment's own names are kept as they are.

A visitor of the page has no key but a session (core/visitors.py): a caller who is one rater of the deployment and can
be nobody else. `Caller.speaks_for` refuses other names, and `Caller.owns` knows only what is theirs.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fastapi import Depends, Request
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, ConfigDict, Field

from core.errors import Forbidden, InsufficientScope, InvalidRequest, NotFound, Unauthorized

Scope = Literal["chat", "feedback", "read", "train", "admin"]
SCOPES: tuple[Scope, ...] = ("chat", "feedback", "read", "train", "admin")
DEPLOYMENT = ""
"""The tenant of whoever runs this deployment."""
TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_STORED = re.compile(rf"@({TENANT.pattern})/(.*)", re.DOTALL)
RECEIPT = "v1."
"""How a receipt begins (feedback/receipts.py); no API key does."""


class Limits(BaseModel):
    """What one key may use, over all replicas; None is no limit. `Limits(requests_per_minute=60, concurrency=4)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(None, ge=1)
    """Of chats and comparisons."""
    tokens_per_minute: int | None = Field(None, ge=1)
    """Prompt and completion together."""
    tokens_per_day: int | None = Field(None, ge=1)
    """A day is UTC's."""
    concurrency: int | None = Field(None, ge=1)
    """Chats and comparisons under way at a time."""
    votes_per_minute: int | None = Field(None, ge=1)
    """Of each rater."""


UNLIMITED = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """`Caller(tenant="acme", key_id="key_9f86d081884c", scopes=frozenset({"chat"}))`."""

    tenant: str = DEPLOYMENT
    key_id: str = ""
    """Empty where no keys are needed."""
    scopes: frozenset[Scope] = frozenset(SCOPES)
    limits: Limits = UNLIMITED
    visitor: str = ""
    """The one rater whom the caller speaks for: a session's. Empty for who may speak for anybody."""
    stranger: bool = False
    """A visitor of a page that is open to everybody whom nobody invited, who may come under any number of names: is not
    shown what other people asked, as a rater's task, and no release is decided by them."""

    @property
    def actor(self) -> str:
        """As the audit names them."""
        return f"api:{self.key_id or 'local'}"

    @property
    def counted_as(self) -> str:
        """What limits are counted by: each visitor's own, else the key's; empty where there are none."""
        return self.visitor or self.key_id

    def owns(self, tenant: str, rater: str | None = None) -> bool:
        """Whether this rater's record of this tenant may be shown to the caller."""
        return self.tenant == tenant and self.visitor in ("", rater)

    def stored(self, name: str) -> str:
        """The caller's own name for somebody or something, as it is kept.

        Raises:
            InvalidRequest: it looks like a name of another tenant.
        """
        return stored(self.tenant, name)

    def addressed(self, name: str) -> str:
        """As `stored`, for operators: the deployment's may name anybody's, as `@acme/user-7`."""
        return name if self.tenant == DEPLOYMENT else stored(self.tenant, name)

    def shown(self, name: str) -> str:
        """What `stored` made of a name, undone."""
        return name.removeprefix(f"@{self.tenant}/") if self.tenant else name

    def speaks_for(self, rater: str) -> str:
        """A rater whom the caller names, as stored.

        Raises:
            Forbidden: `not_your_rater`, a visitor names somebody else.
            InvalidRequest: as `stored`.
        """
        if self.visitor and rater != self.visitor:
            raise Forbidden(f"This session is {self.visitor}'s and speaks for nobody else.", code="not_your_rater")
        return rater if self.visitor else self.stored(rater)

    def named(self, rater: str | None) -> str | None:
        """As `speaks_for`, where somebody may be named; a visitor who names nobody is meant themselves."""
        return self.speaks_for(rater or self.visitor) if rater or self.visitor else None

    def rater(self, named: str | None) -> str | None:
        """Whom a chat is credited to: whom it names, else the key; nobody where there are no keys."""
        return self.named(named) or (self.stored(self.key_id) if self.key_id else None)


def stored(tenant: str, name: str) -> str:
    """`stored("acme", "user-7") == "@acme/user-7"`, `stored("", "user-7") == "user-7"`.

    Raises:
        InvalidRequest: a name of the deployment that another tenant's would be kept as.
    """
    if tenant != DEPLOYMENT:
        return f"@{tenant}/{name}"
    if tenant_of(name) != DEPLOYMENT:
        raise InvalidRequest("A name cannot begin like '@tenant/'.")
    return name


def tenant_of(name: str) -> str:
    """Whose a stored name is: `tenant_of("@acme/user-7") == "acme"`."""
    found = _STORED.fullmatch(name)
    return found[1] if found else DEPLOYMENT


class Keeper(Protocol):
    """Knows the keys (core/key_table.py); stands as `state.keeper` on both applications."""

    def caller(self, authorization: str) -> Caller:
        """Who sends this `Authorization` header, empty if there is none.

        Raises:
            Unauthorized: `invalid_api_key`.
            Unavailable: it is not known yet which keys there are.
        """

    def issuer(self, key_id: str) -> Caller:
        """With whose key a receipt was asked for; it is good as long as the key is.

        Raises:
            Unauthorized: the key has expired or was revoked.
        """


class Sessions(Protocol):
    """Knows the page's visitors (core/visitors.py); stands as `state.visitors` on an application that lets them in."""

    async def caller(self, request: Request) -> Caller | None:
        """Whose session the request comes with; None without one.

        Raises:
            Unauthorized: `session_expired`.
            Forbidden: `csrf_failed`, `invitation_ended`.
        """


def issuer(request: Request, key_id: str) -> Caller:
    """As `Keeper.issuer`, where there is one."""
    keeper: Keeper | None = getattr(request.app.state, "keeper", None)
    return Caller() if keeper is None else keeper.issuer(key_id)


class Needs(SecurityBase):
    """The dependency of a route: any of these scopes suffices.

    Args:
        deployment: the route is about the whole deployment, so that no tenant's key sees it.
    """

    def __init__(self, *any_of: Scope, deployment: bool = False) -> None:
        self.model = HTTPBearer(description="An API key, `plumbline keys create`.")
        self.scheme_name = "apiKey"
        self._any_of = any_of
        self._deployment = deployment

    async def __call__(self, request: Request) -> Caller:
        """Raises:
        Unauthorized, Unavailable, Forbidden: as `Keeper.caller` and `Sessions.caller`.
        InsufficientScope: the key has none of the scopes.
        NotFound: the route is not for tenants.
        """
        found = await visitor(request) or _keys_caller(request)
        if self._deployment and found.tenant != DEPLOYMENT:
            raise NotFound(f"There is no {request.method} {request.url.path[:200]}.")
        if found.scopes.isdisjoint(self._any_of):
            raise InsufficientScope(self._any_of)
        return found


class NeedsSession(SecurityBase):
    """The dependency of a route that only the page's visitors have a use for."""

    def __init__(self) -> None:
        about = "A session of the page, `POST /page/session`; every change brings its token as `x-csrf-token`, too."
        self.model = APIKey.model_validate({"in": APIKeyIn.cookie, "name": "plumbline_session", "description": about})
        self.scheme_name = "pageSession"

    async def __call__(self, request: Request) -> Caller:
        """Raises:
        Unauthorized: `session_required`, or as `Sessions.caller`.
        Forbidden: as `Sessions.caller`.
        """
        found = await visitor(request)
        if found is None:
            raise Unauthorized("This is for sessions of the page: POST /page/session first.", code="session_required")
        return found


async def visitor(request: Request) -> Caller | None:
    """Whose session a request comes with, where sessions are; a request that brings a key is the key's."""
    sessions: Sessions | None = getattr(request.app.state, "visitors", None)
    return None if sessions is None or "authorization" in request.headers else await sessions.caller(request)


def _keys_caller(request: Request) -> Caller:
    keeper: Keeper | None = getattr(request.app.state, "keeper", None)
    return Caller() if keeper is None else keeper.caller(request.headers.get("authorization", ""))


class NeedsUnlessReceipt(Needs):
    """As `Needs`; None if the request brings a receipt, which the route itself must then check."""

    async def __call__(self, request: Request) -> Caller | None:  # type: ignore[override]
        if request.headers.get("authorization", "").startswith(f"Bearer {RECEIPT}"):
            return None
        return await super().__call__(request)


LOOK: Any = Depends(Needs("read", "admin", deployment=True))
"""What a route needs by which operators look at the deployment: `dependencies=[LOOK]`."""
LOOK_AT_TRAINING: Any = Depends(Needs("read", "train", "admin", deployment=True))
"""The same for what training starts from and what came of it."""
ACT: Any = Depends(Needs("admin", deployment=True))
"""What a route needs by which they change it: `caller: Annotated[Caller, ACT]`, whose `actor` the audit names."""
TRAIN: Any = Depends(Needs("train", "admin", deployment=True))
"""What it needs to begin, repeat or stop a round."""
