"""Sessions of the page: a signed token that makes whoever holds it one rater, for a while. Pure.

Stateless: nothing is stored of a session, so it works while Redis is away, and no flood of visitors fills a store. What
that costs: a session cannot be revoked before it ends, but by another `PLUMBLINE_SECRET`; a rater can be quarantined
and erased. Not so where the rater was invited: the session names the invitation and ends with it
(feedback/invitations.py).

A token is `s1.<rater, base64url>.<end, unix seconds>.<HMAC-SHA256, base64url>`; `s2.<rater>.<end>.<invitation>.<HMAC>`
of who was invited. The key is derived from the deployment's secret for one purpose, this or another. The CSRF token is
derived from the rater and the invitation: a renewal does not change it, so that the other tabs of a browser go on.
"""

import base64
import hmac
import secrets
from dataclasses import dataclass

LIFE_S = 90 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """`Session(rater="web-9f86d081884c7d659a2feaa0c55ad015", expires=1797000000)`."""

    rater: str
    expires: int
    """Unix seconds; clock of the replica that signed it."""
    invitation: str = ""
    """Its id, letters and digits; empty for an anonymous rater."""


def signing_key(secret: bytes) -> bytes:
    """What a deployment signs its sessions with."""
    return hmac.digest(secret, b"plumbline page sessions", "sha256")


def begin(*, now: float) -> Session:
    """A session of a rater whom nobody has met: 128 random bits."""
    return Session(rater=f"web-{secrets.token_hex(16)}", expires=int(now) + LIFE_S)


def renewed(session: Session, *, now: float) -> Session:
    """The session itself until half its life is over, then one of the same rater with a whole life before it. An
    invitation has one end."""
    if session.invitation or session.expires - now > LIFE_S / 2:
        return session
    return Session(rater=session.rater, expires=int(now) + LIFE_S)


def token(key: bytes, session: Session) -> str:
    said = f"{_encoded(session.rater.encode())}.{session.expires}"
    said = f"s2.{said}.{session.invitation}" if session.invitation else f"s1.{said}"
    return f"{said}.{_mac(key, said)}"


def read(key: bytes, token: str, *, now: float) -> Session | None:
    """The session that a token stands for; None if it is forged or over."""
    said, _, mac = token.rpartition(".")
    if not said.startswith(("s1.", "s2.")) or not hmac.compare_digest(mac.encode(), _mac(key, said).encode()):
        return None  # a CSRF token is signed as well, and is none
    _, rater, expires, *invitation = said.split(".")  # signed by us, so well-formed
    session = Session(rater=_decoded(rater).decode(), expires=int(expires), invitation="".join(invitation))
    return session if now < session.expires else None


def csrf(key: bytes, session: Session) -> str:
    """What only a page of our own origin can know of the session."""
    return _mac(key, f"csrf.{session.rater}" + (f".{session.invitation}" if session.invitation else ""))


def _mac(key: bytes, said: str) -> str:
    return _encoded(hmac.digest(key, said.encode(), "sha256"))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
