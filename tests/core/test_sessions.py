"""Signed sessions: whose they are, how long they last, and that nobody else makes one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import sessions
from core.sessions import LIFE_S, Session

KEY = sessions.signing_key(b"a secret of thirty-two characters")
NOW = 1_790_000_000.0
SESSION = Session(rater="web-" + "0f" * 16, expires=int(NOW) + 60)
INVITED = Session(rater="ann", expires=int(NOW) + 60, invitation="5d" * 16)


def test_a_fresh_session_is_a_rater_whom_nobody_met() -> None:
    """128 random bits, for ninety days."""
    one, other = sessions.begin(now=NOW), sessions.begin(now=NOW)
    assert one.rater != other.rater and len(one.rater) == len("web-") + 32
    assert one.expires == int(NOW) + 90 * 24 * 3600


@given(
    rater=st.text(min_size=1),
    expires=st.integers(min_value=int(NOW) + 1, max_value=2**40),
    invitation=st.sampled_from(["", "5d" * 16]),
)
def test_what_was_signed_is_read(rater: str, expires: int, invitation: str) -> None:
    """Whatever the rater is called, invited or not."""
    session = Session(rater=rater, expires=expires, invitation=invitation)
    assert sessions.read(KEY, sessions.token(KEY, session), now=NOW) == session


@pytest.mark.parametrize("session", [SESSION, INVITED])
def test_nobody_else_makes_one(session: Session) -> None:
    """Every changed character, another secret's key, and a session's other signed word are refused."""
    token = sessions.token(KEY, session)
    for place in range(len(token)):
        changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert sessions.read(KEY, changed, now=NOW) is None, place
    assert sessions.read(sessions.signing_key(b"another secret"), token, now=NOW) is None
    said, _, mac = token.rpartition(".")
    for longer in (f"{said}.{'5d' * 16}.{mac}", f"{said.rpartition('.')[0]}.{mac}"):
        assert sessions.read(KEY, longer, now=NOW) is None, "an invitation is neither added nor taken away"
    for known in ("", ".", "s1", f"csrf.{SESSION.rater}.{sessions.csrf(KEY, SESSION)}", token + ".", "é.é"):
        assert sessions.read(KEY, known, now=NOW) is None, known


@pytest.mark.parametrize(("after_s", "good"), [(59, True), (60, False), (61, False)])
def test_it_ends(after_s: int, good: bool) -> None:
    """From `expires` on."""
    found = sessions.read(KEY, sessions.token(KEY, SESSION), now=NOW + after_s)
    assert (found is not None) == good


def test_it_is_renewed_when_half_is_over() -> None:
    """Not before: a cookie changes twice in its life, not with each request."""
    session = sessions.begin(now=NOW)
    assert sessions.renewed(session, now=NOW + LIFE_S / 2 - 1) is session
    later = NOW + LIFE_S / 2
    assert sessions.renewed(session, now=later) == Session(rater=session.rater, expires=int(later) + LIFE_S)


def test_an_invitation_is_not_renewed() -> None:
    """It was for so long and no longer."""
    assert sessions.renewed(INVITED, now=NOW + 59) is INVITED


def test_the_csrf_token_is_the_raters() -> None:
    """Another's is another, and so is that of another invitation; a renewal, which other tabs do not see, changes
    nothing."""
    others = [
        sessions.csrf(KEY, Session(rater="ann", expires=INVITED.expires, invitation=it)) for it in ("", "6e" * 16)
    ]
    assert sessions.csrf(KEY, INVITED) not in others
    renewed = Session(rater=SESSION.rater, expires=SESSION.expires + LIFE_S)
    assert sessions.csrf(KEY, renewed) == sessions.csrf(KEY, SESSION)
    assert sessions.csrf(KEY, sessions.begin(now=NOW)) != sessions.csrf(KEY, SESSION)
