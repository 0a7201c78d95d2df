"""Who visits the page without an API key: from the session's cookie to a `Caller`, and what stands in others' way.

- The cookie is HttpOnly and SameSite=Strict: scripts do not see it, and requests that other sites cause come without
  it. On https it is `__Host-…` and Secure: no neighbour under the same domain can plant a session of its own in
  somebody's browser.
- SameSite knows sites, not origins: another port of this machine, or a neighbouring subdomain, is the same site. So
  what the browser says of the origin (`Sec-Fetch-Site`) must be ours or nobody's, for reading as well: nothing can be
  probed from there. Whatever changes something brings the CSRF token too, for browsers that say nothing.
- Where nobody said that the page is open, it is open to browsers on this machine alone: the listener, the visitor's
  address as trusted proxies tell it, and the name by which it was called, are loopback. So neither a proxy in front of
  a loopback listener opens it to the world, nor a foreign name that was made to point here.

A visitor may chat and vote as one rater of the deployment, and has limits of their own. Another session costs nothing,
so where the page is open to everybody a visitor is a stranger (`Caller.stranger`), unless the operator invited them.
"""

import hmac
import ipaddress
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request, Response

from core import sessions
from core.access import Caller, Limits
from core.errors import Forbidden, Unauthorized
from core.exposure import is_loopback
from core.sessions import Session
from core.usage import PAGE

COOKIE = "plumbline_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
CSRF_HEADER = "x-csrf-token"
LIMITS = Limits(requests_per_minute=30, concurrency=4, votes_per_minute=60)
"""Of each session."""
WRITES_PER_MINUTE = 60
"""Of conversations, of each session."""
SESSIONS_PER_MINUTE = 10
"""New ones, of each address."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Visitors:
    """The `core.access.Sessions` of the public listener."""

    key: bytes
    """`sessions.signing_key` of the deployment's secret."""
    everybody: bool
    local: bool
    """Whoever is on this machine, if not everybody."""
    invited: Callable[[Session], Awaitable[bool | None]]
    """Whether the invitation that a session names stands; None while nobody knows."""
    clock: Callable[[], float] = time.time

    def admits(self, request: Request) -> bool:
        """Whether this visitor may have a session."""
        client, name = request.client.host if request.client else "", request.url.hostname or ""
        return self.everybody or (self.local and is_loopback(client) and is_loopback(name))

    async def session(self, request: Request) -> Session | None:
        """The session that the request's cookie stands for; None if it brings none that is good."""
        session = self._signed(request)
        return None if session is None or await self._invited(session) is False else session

    async def caller(self, request: Request) -> Caller | None:
        """Who asks. While nobody knows whether an invitation stands, its session is a stranger's.

        Raises:
            Unauthorized: `session_expired`, there is a cookie and it is not good any more.
            Forbidden: `csrf_failed`, `invitation_ended`.
        """
        if _cookie(request) not in request.cookies or not self.admits(request):
            return None
        session = self._signed(request)
        if session is None:
            raise Unauthorized("This session is over: POST /page/session begins another.", code="session_expired")
        check_origin(request)
        if request.method not in _SAFE:
            self._check_token(request, session)
        invited = await self._invited(session)
        if invited is False:
            said = "Your invitation has ended. Load the page again to go on without it."
            raise Forbidden(said, code="invitation_ended")
        return Caller(
            key_id=PAGE,
            scopes=frozenset({"chat", "feedback"}),
            limits=LIMITS,
            visitor=session.rater,
            stranger=self.everybody and not invited,
        )

    def _signed(self, request: Request) -> Session | None:
        cookie = request.cookies.get(_cookie(request))
        return None if cookie is None else sessions.read(self.key, cookie, now=self.clock())

    async def _invited(self, session: Session) -> bool | None:
        """As `invited`; None of an anonymous rater, too."""
        return await self.invited(session) if session.invitation else None

    def hand_over(self, request: Request, response: Response, session: Session) -> None:
        """Has the browser keep the session."""
        response.set_cookie(
            _cookie(request),
            sessions.token(self.key, session),
            max_age=max(0, session.expires - int(self.clock())),
            path="/",
            secure=_is_https(request),
            httponly=True,
            samesite="strict",
        )

    def _check_token(self, request: Request, session: Session) -> None:
        sent = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(sent.encode(), sessions.csrf(self.key, session).encode()):
            raise _csrf_failed(f"send the session's token as {CSRF_HEADER}")


def check_origin(request: Request) -> None:
    """Raises Forbidden: the browser says that a page of another origin, if of the same site, is asking."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise _csrf_failed("only the page itself may ask with a session")


def address(request: Request) -> str:
    """Whose new sessions are counted together: an IPv4 address, or the /64 network that an IPv6 host is given."""
    host = request.client.host if request.client else ""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is None:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else found)


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"


def _cookie(request: Request) -> str:
    return SECURE_COOKIE if _is_https(request) else COOKIE


def _csrf_failed(what: str) -> Forbidden:
    return Forbidden(f"The request was refused because another site may have made it: {what}.", code="csrf_failed")
