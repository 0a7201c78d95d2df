"""Receipts: short-lived signed tokens by which a browser votes without an API key. Pure: the clock is the caller's.

A token is `v1.<key id>.<payload>.<mac>`. The payload is a `Receipt` as base64url JSON, the mac HMAC-SHA256 (RFC 2104)
over everything before it. Nothing of a token is decoded before its mac was found right, and the mac is compared as
text, so that one receipt has exactly one token.

Why not JWT by PyJWT: it would do one call of `hmac` and the base64. Key by id, expiry on the caller's clock (it reads
its own) and scope would stand here all the same, with a check of the algorithm, which a JWT's sender names.
Left out: a list of used tokens: a replayed vote is the same vote.
"""

import base64
import hmac
import json
import secrets
from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from core.errors import Forbidden, Unauthorized
from core.records import Kind, Target

MAX_LIFE_S = 86_400
_VERSION = "v1"


class Receipt(BaseModel):
    """What a token allows: `Receipt(type="completion", id="chatcmpl-41ab…", rater="user-7", kinds=("thumb",),
    expires=1790003600)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["completion", "comparison"]
    id: str
    """Of the completion or comparison."""
    rater: str
    """As stored (core/access.py)."""
    key: str = ""
    """Of the API key that it was asked for with, whose tenant and limits it has; empty if there were no keys."""
    kinds: Annotated[tuple[Kind, ...], Field(min_length=1)]
    expires: int
    """Unix seconds on the API's clock; from then on the token is refused."""


class Key(BaseModel):
    """One signing key: `Key(id="5d41402a", secret="9f86…", created=1790000000.0)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Public: it stands in each token."""
    secret: str
    """32 random bytes in hex."""
    created: float

    @classmethod
    def new(cls, *, now: float) -> Self:
        return cls(id=secrets.token_hex(4), secret=secrets.token_hex(32), created=now)


class KeyRing(BaseModel):
    """The keys of a deployment, newest first: the newest signs, all verify, one that is not here is retired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: Annotated[tuple[Key, ...], Field(min_length=1)]

    @classmethod
    def new(cls, *, now: float) -> Self:
        return cls(keys=(Key.new(now=now),))

    def rotated(self, *, now: float) -> Self:
        """With a fresh key, and without those whose last token has expired."""
        superseded = zip(self.keys[1:], self.keys, strict=False)
        kept = [key for key, successor in superseded if now - successor.created <= MAX_LIFE_S]
        return type(self)(keys=(Key.new(now=now), self.keys[0], *kept))

    def without(self, key_id: str, *, now: float) -> Self:
        """With this key retired at once, and every token that it signed; there is always a key to sign with."""
        kept = tuple(key for key in self.keys if key.id != key_id)
        return type(self)(keys=kept or (Key.new(now=now),))


def issue(
    ring: KeyRing,
    *,
    target: Target,
    rater: str,
    kinds: Sequence[Kind],
    expires_in: int,
    now: float,
    key_id: str = "",
) -> tuple[str, Receipt]:
    """A token for one rater's feedback of these kinds on one target, and what it says.

    Raises:
        ValueError: `expires_in` (seconds) is not in 1 to `MAX_LIFE_S`, or no kind is named.
    """
    if not 1 <= expires_in <= MAX_LIFE_S:
        raise ValueError(f"a receipt lives for 1 to {MAX_LIFE_S} seconds, not {expires_in}")
    until = int(now) + expires_in
    receipt = Receipt(type=target.type, id=target.id, rater=rater, key=key_id, kinds=tuple(kinds), expires=until)
    key = ring.keys[0]
    signed = f"{_VERSION}.{key.id}.{_base64url(receipt.model_dump_json(exclude_defaults=True).encode())}"
    return f"{signed}.{_mac(key, signed)}", receipt


def verify(ring: KeyRing, token: str, *, now: float) -> Receipt:
    """What a token allows, if we signed it and it has not expired.

    Raises:
        Unauthorized: `token_expired`, or `token_invalid` for everything else.
    """
    signed, _, mac = (token if token.isascii() else "").rpartition(".")
    version, _, rest = signed.partition(".")
    key_id, _, payload = rest.partition(".")
    key = next((key for key in ring.keys if key.id == key_id), None)
    if key is None or version != _VERSION or not hmac.compare_digest(_mac(key, signed).encode(), mac.encode()):
        raise Unauthorized("This receipt is not valid; ask for a new one.", code="token_invalid")
    receipt = Receipt.model_validate(json.loads(base64.urlsafe_b64decode(payload + "==")))
    if now >= receipt.expires:
        raise Unauthorized("This receipt has expired; ask for a new one.", code="token_expired")
    return receipt


def check_scope(receipt: Receipt, *, target: Target, kind: Kind, rater: str | None) -> None:
    """Whether the receipt is for this feedback; `rater` is the one that the body names, if it does.

    Raises:
        Forbidden: `token_scope`.
    """
    if (target.type, target.id) != (receipt.type, receipt.id):
        raise Forbidden("This receipt is for another completion or comparison.", param="target")
    if kind not in receipt.kinds:
        raise Forbidden(f"This receipt is for {', '.join(receipt.kinds)} only.", param="kind")
    if rater is not None and rater != receipt.rater:
        raise Forbidden("This receipt is for another rater.", param="rater")


def _mac(key: Key, signed: str) -> str:
    return _base64url(hmac.digest(bytes.fromhex(key.secret), signed.encode(), "sha256"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
