"""Callers, scopes, and names that two tenants may both use."""

from typing import Annotated, get_args

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from core import http
from core.access import Caller, Needs, NeedsUnlessReceipt, Scope, stored, tenant_of
from core.errors import InvalidRequest, Unauthorized

TENANTS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
OWN = st.text(min_size=1).filter(lambda name: tenant_of(name) == "")


CALLERS = {
    "Bearer chat": Caller(key_id="key_1", scopes=frozenset({"chat"})),
    "Bearer acme": Caller(tenant="acme", key_id="key_2", scopes=frozenset({"chat", "admin"})),
}


class Known:
    """A keeper of two keys, by their whole header."""

    def caller(self, authorization: str) -> Caller:
        if authorization not in CALLERS:
            raise Unauthorized("This API key is not valid.", code="invalid_api_key")
        return CALLERS[authorization]


def client(*, keeper: object | None) -> TestClient:
    app = FastAPI()
    http.install(app, max_body_bytes=1024)
    if keeper is not None:
        app.state.keeper = keeper

    @app.get("/chat")
    async def chat(caller: Annotated[Caller, Depends(Needs("chat"))]) -> str:
        return caller.actor

    @app.get("/train", dependencies=[Depends(Needs("train", "read"))])
    async def train() -> None: ...

    @app.get("/all", dependencies=[Depends(Needs("admin", deployment=True))])
    async def everything() -> None: ...

    @app.get("/vote")
    async def vote(caller: Annotated[Caller | None, Depends(NeedsUnlessReceipt("feedback"))]) -> bool:
        return caller is None

    return TestClient(app)


def test_without_keys_everybody_is_the_deployment() -> None:
    """Also who sends a key: OpenAI's clients cannot do without one."""
    open_to_all = client(keeper=None)
    assert open_to_all.get("/chat").json() == "api:local"
    assert open_to_all.get("/all", headers={"authorization": "Bearer sk-none"}).status_code == 200
    assert Caller().scopes == frozenset(("chat", "feedback", "read", "train", "admin"))


def test_a_scope_that_is_missing_is_named() -> None:
    """In words, and as RFC 6750 says it."""
    refused = client(keeper=Known()).get("/train", headers={"authorization": "Bearer chat"})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "insufficient_scope"
    assert "train or read" in refused.json()["error"]["message"]
    assert refused.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="train read"'
    assert refused.headers["x-should-retry"] == "false"


def test_an_unknown_key_is_refused_before_its_scopes_are_asked() -> None:
    """401 in OpenAI's shape."""
    refused = client(keeper=Known()).get("/train")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_what_is_the_deployments_does_not_exist_for_tenants() -> None:
    """404, in the words for a path that no route takes."""
    keyed, headers = client(keeper=Known()), {"authorization": "Bearer acme"}
    hidden, absent = keyed.get("/all", headers=headers), keyed.get("/nothing", headers=headers)
    assert hidden.status_code == absent.status_code == 404
    assert hidden.text == absent.text.replace("/nothing", "/all")


def test_a_receipt_is_left_to_the_route() -> None:
    """It is no key; where a receipt is of no use, it is one that nobody knows."""
    keyed, headers = client(keeper=Known()), {"authorization": "Bearer v1.5d41402a.e30.mac"}
    assert keyed.get("/vote", headers=headers).json() is True
    assert keyed.get("/chat", headers=headers).status_code == 401


@given(TENANTS, st.text())
def test_a_tenants_names_come_back_as_they_were(tenant: str, name: str) -> None:
    """And say whose they are, whatever stands in them."""
    caller = Caller(tenant=tenant)
    assert caller.shown(caller.stored(name)) == name
    assert tenant_of(caller.stored(name)) == tenant


@given(st.tuples(TENANTS, st.text()), st.tuples(TENANTS, st.text()), OWN)
def test_names_of_two_tenants_never_meet(one: tuple[str, str], other: tuple[str, str], own: str) -> None:
    """Nor do theirs and the deployment's."""
    assert (stored(*one) == stored(*other)) == (one == other)
    assert stored("", own) == own != stored(*one)


def test_the_deployment_takes_no_name_of_a_tenant() -> None:
    """Else user `@acme/ann` of the deployment would be `ann` of acme; operators may name them so."""
    with pytest.raises(InvalidRequest):
        Caller().stored("@acme/ann")
    assert Caller().addressed("@acme/ann") == "@acme/ann"
    assert Caller(tenant="other").addressed("@acme/ann") == "@other/@acme/ann"
    assert Caller().stored("@Acme/ann") == "@Acme/ann"


def test_a_chat_without_a_name_is_credited_to_the_key() -> None:
    """To nobody where there are no keys."""
    keyed = Caller(tenant="acme", key_id="key_2")
    assert (keyed.rater("ann"), keyed.rater(None)) == ("@acme/ann", "@acme/key_2")
    assert (Caller().rater("ann"), Caller().rater(None)) == ("ann", None)


def test_scopes_are_a_closed_set() -> None:
    """The five of the design."""
    assert get_args(Scope) == ("chat", "feedback", "read", "train", "admin")
