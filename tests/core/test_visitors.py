"""From a request's cookie to a caller: whom the page lets in, and which requests are nobody's own."""

import asyncio
from typing import Any

import pytest
from fastapi import Request, Response

from core import sessions, visitors
from core.access import DEPLOYMENT, Caller
from core.errors import ApiError, Forbidden, Unauthorized
from core.sessions import Session
from core.visitors import LIMITS, Visitors

KEY = sessions.signing_key(b"a secret of thirty-two characters")
NOW = 1_790_000_000.0
SESSION = sessions.begin(now=NOW)
INVITED = Session(rater="ann", expires=int(NOW) + 60, invitation="5d" * 16)
TOKEN, CSRF = sessions.token(KEY, SESSION), sessions.csrf(KEY, SESSION)
HERS = f"plumbline_session={sessions.token(KEY, INVITED)}"


def door(*, everybody: bool = False, local: bool = True, now: float = NOW, invited: bool | None = None) -> Visitors:
    async def stands(session: Session) -> bool | None:
        assert session == INVITED, "nobody else's is looked up"
        return invited

    return Visitors(key=KEY, everybody=everybody, local=local, invited=stands, clock=lambda: now)


def caller(at: Visitors, request: Request) -> Caller | None:
    return asyncio.run(at.caller(request))


def request(
    method: str = "GET",
    *,
    client: str = "127.0.0.1",
    host: str = "127.0.0.1:8000",
    scheme: str = "http",
    **headers: str,
) -> Request:
    """With a good session, unless `cookie` says otherwise."""
    name = "__Host-plumbline_session" if scheme == "https" else "plumbline_session"
    said = {"host": host, "cookie": f"{name}={TOKEN}"} | headers
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in said.items()]
    scope: dict[str, Any] = {"type": "http", "method": method, "scheme": scheme, "path": "/", "query_string": b""}
    scope |= {"headers": raw, "client": (client, 1)}
    return Request(scope)


def code(error: ApiError) -> tuple[int, str | None]:
    return error.status, error.error_code


def test_a_visitor_is_one_rater_of_the_deployment() -> None:
    """Who may chat and vote, within limits of their own."""
    found = caller(door(), request())
    assert found is not None
    assert (found.tenant, found.visitor, found.scopes) == (DEPLOYMENT, SESSION.rater, {"chat", "feedback"})
    assert (found.limits, found.counted_as, found.key_id) == (LIMITS, SESSION.rater, "page")


@pytest.mark.parametrize("everybody", [False, True])
def test_who_comes_from_anywhere_is_a_stranger(everybody: bool) -> None:
    """Where everybody is let in, whatever address the request is said to come from; on this machine alone nobody is."""
    found = caller(door(everybody=everybody), request())
    assert found is not None and found.stranger is everybody


@pytest.mark.parametrize(("invited", "stranger"), [(True, False), (None, True)])
def test_who_was_invited_is_no_stranger(invited: bool | None, stranger: bool) -> None:
    """Where everybody is let in; while nobody knows whether they still are, they are one."""
    found = caller(door(everybody=True, invited=invited), request(cookie=HERS))
    assert found is not None and (found.visitor, found.stranger) == ("ann", stranger)


@pytest.mark.parametrize("everybody", [False, True])
def test_an_invitation_that_ended_ends_the_session(everybody: bool) -> None:
    """Its rater is not somebody's to be any more: what was hers is neither read nor taken back, and the next session is
    another's."""
    over = door(everybody=everybody, invited=False)
    with pytest.raises(Forbidden) as refused:
        caller(over, request(cookie=HERS))
    assert code(refused.value) == (403, "invitation_ended")
    assert asyncio.run(over.session(request(cookie=HERS))) is None
    for other in (True, None):
        assert asyncio.run(door(everybody=everybody, invited=other).session(request(cookie=HERS))) == INVITED


def test_without_a_cookie_nobody_visits() -> None:
    """Then keys decide, as ever."""
    assert caller(door(), request(cookie="other=1")) is None


@pytest.mark.parametrize("cookie", [TOKEN[:-1] + ("A" if TOKEN[-1] != "A" else "B"), "", "x" * 5000])
def test_a_bad_session_is_said_so(cookie: str) -> None:
    """It is not taken for no session at all: on an open deployment its words would be credited to nobody."""
    with pytest.raises(Unauthorized) as refused:
        caller(door(), request(cookie=f"plumbline_session={cookie}"))
    assert code(refused.value) == (401, "session_expired")


def test_an_old_session_is_over() -> None:
    with pytest.raises(Unauthorized):
        caller(door(now=NOW + sessions.LIFE_S), request())


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_changes_need_the_token(method: str) -> None:
    """The right one: another rater's and none are refused."""
    others = sessions.csrf(KEY, sessions.begin(now=NOW))
    for headers in ({}, {"x_csrf_token": others}, {"x_csrf_token": ""}, {"x_csrf_token": "é"}):
        with pytest.raises(Forbidden) as refused:
            caller(door(), request(method, **headers))
        assert code(refused.value) == (403, "csrf_failed")
    assert caller(door(), request(method, x_csrf_token=CSRF)) is not None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_only_our_own_origin_asks(method: str) -> None:
    """The cookie comes along from another port of the machine too, which is the same site: nothing is to be read or
    probed from there, even with the token."""
    for site in ("same-site", "cross-site"):
        with pytest.raises(Forbidden) as refused:
            caller(door(), request(method, sec_fetch_site=site, x_csrf_token=CSRF))
        assert code(refused.value) == (403, "csrf_failed")
    for site in ("same-origin", "none"):
        assert caller(door(), request(method, sec_fetch_site=site, x_csrf_token=CSRF)) is not None


@pytest.mark.parametrize(
    ("options", "client", "host", "admitted"),
    [
        ({}, "127.0.0.1", "127.0.0.1:8000", True),
        ({}, "::1", "localhost:8000", True),
        ({}, "127.0.0.1", "[::1]:8000", True),
        ({}, "203.0.113.7", "127.0.0.1:8000", False),
        ({}, "127.0.0.1", "chat.example", False),
        ({}, "127.0.0.1", "127.0.0.1.attacker.example:8000", False),
        ({"local": False}, "127.0.0.1", "127.0.0.1:8000", False),
        ({"local": False, "everybody": True}, "203.0.113.7", "chat.example", True),
    ],
)
def test_who_is_let_in(options: dict[str, bool], client: str, host: str, admitted: bool) -> None:
    """Unless it was said that everybody is: who is on this machine and calls it so. Behind a proxy, whose visitors or
    whose name are elsewhere, nobody."""
    asked = request(client=client, host=host)
    assert door(**options).admits(asked) == admitted
    assert (caller(door(**options), asked) is not None) == admitted


def test_https_has_a_cookie_of_its_own() -> None:
    """`__Host-`, which no neighbour's page can set; the plain one is not looked at there."""
    response = Response()
    door().hand_over(request(scheme="https"), response, SESSION)
    [cookie] = response.headers.getlist("set-cookie")
    name, _, attributes = cookie.partition(f"={TOKEN}; ")
    assert name == "__Host-plumbline_session"
    assert set(attributes.split("; ")) == {"HttpOnly", "Max-Age=7776000", "Path=/", "SameSite=strict", "Secure"}
    assert caller(door(), request(scheme="https")) is not None
    assert caller(door(), request(scheme="https", cookie=f"plumbline_session={TOKEN}")) is None


def test_on_http_the_cookie_is_not_secure() -> None:
    """Or no browser would send it back to a plain loopback address."""
    response = Response()
    door().hand_over(request(), response, SESSION)
    [cookie] = response.headers.getlist("set-cookie")
    assert cookie.startswith(f"plumbline_session={TOKEN}; ") and "Secure" not in cookie


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
    ],
)
def test_addresses_that_are_counted_together(client: str, counted: str) -> None:
    """A host has a whole /64 of IPv6 addresses to come from."""
    assert visitors.address(request(client=client)) == counted


def test_a_visitor_speaks_for_nobody_else() -> None:
    """Naming somebody is refused, naming nobody or themselves is the same; a key may name anybody."""
    visitor = Caller(visitor="web-1", key_id="page")
    assert [visitor.named(it) for it in (None, "", "web-1")] == ["web-1"] * 3
    assert visitor.rater(None) == "web-1"
    for act in (visitor.named, visitor.rater, visitor.speaks_for):
        with pytest.raises(Forbidden) as refused:
            act("ann")
        assert code(refused.value) == (403, "not_your_rater")
    key = Caller(key_id="key_1", tenant="acme")
    assert (key.named("ann"), key.named(None), key.rater(None)) == ("@acme/ann", None, "@acme/key_1")


def test_what_is_a_visitors_own() -> None:
    """What names them, in the deployment; nobody's is not theirs."""
    visitor = Caller(visitor="web-1")
    assert visitor.owns("", "web-1")
    assert not any((visitor.owns("", "ann"), visitor.owns(""), visitor.owns("acme", "web-1")))
    assert Caller().owns("", "ann") and Caller().owns("")
