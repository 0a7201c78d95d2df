"""What the API of keys takes and gives."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from core.access import DEPLOYMENT, TENANT, Limits, Scope
from core.api_keys import MAX_NAME, Standing
from core.usage import Day


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyRequest(_Body):
    """`{"name": "web shop", "tenant": "acme", "scopes": ["chat"], "limits": {"requests_per_minute": 600}}`."""

    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    tenant: Annotated[str, Field(pattern=rf"^({TENANT.pattern})?$")] = DEPLOYMENT
    """Empty: the deployment itself."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=16)]
    limits: Limits = Limits()
    expires_at: AwareDatetime | None = None


class RevokeQuery(_Body):
    """Why: `?reason=leaked`."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class KeyObject(_Body):
    """A key; of its token nothing is kept that opens anything."""

    id: str
    object: Literal["key"] = "key"
    name: str
    tenant: str
    scopes: list[Scope]
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    actor: str
    """Who made it."""


class NewKeyObject(KeyObject):
    """A key that was just made."""

    token: str
    """Shown this once."""


class KeyList(_Body):
    """All keys, oldest first; revoked ones stay."""

    object: Literal["list"] = "list"
    data: list[KeyObject]


class UsageDay(_Body):
    """What a key used on one day (UTC)."""

    day: str
    """`2026-11-21`."""
    requests: int
    prompt_tokens: int
    completion_tokens: int
    votes: int


class UsageObject(_Body):
    """What a key used, or with the id `page` all visitors of the page together: oldest day first; days without anything
    are left out, and those of more than a year ago."""

    id: str
    object: Literal["key.usage"] = "key.usage"
    days: list[UsageDay]


def key_object(it: Standing) -> KeyObject:
    return KeyObject(**_fields(it))


def new_key_object(it: Standing, token: str) -> NewKeyObject:
    return NewKeyObject(**_fields(it), token=token)


def usage_object(key_id: str, days: list[Day]) -> UsageObject:
    shown = [
        UsageDay(
            day=it.date.isoformat(),
            requests=it.requests,
            prompt_tokens=it.prompt_tokens,
            completion_tokens=it.completion_tokens,
            votes=it.votes,
        )
        for it in days
    ]
    return UsageObject(id=key_id, days=shown)


def _fields(it: Standing) -> dict[str, object]:
    same = it.key.model_dump(include={"id", "name", "tenant", "scopes", "actor"})
    return same | {
        "limits": it.key.limits,
        "created_at": _time(it.key.created),
        "expires_at": _time(it.key.expires),
        "revoked_at": _time(it.revoked),
    }


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)
