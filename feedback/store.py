"""All Redis of feedback: the one script that stores a vote (for the API), and readers of the log (for the scheduler).

Every request has an idempotency key: the client's, or else its own fresh id for a minute, which makes a silent retry
by the Redis client look like one success.
"""

import asyncio
import contextlib
import hashlib
import itertools
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import redis
import redis.asyncio
from redis import exceptions

from core import keys
from core.errors import AlreadyDecided, ApiError, InvalidRequest, NotFinished, NotFound, Unavailable
from core.records import CompletionRecord, Feedback, Message
from core.redis import script
from feedback import events
from feedback.events import Ballot, LoggedPrompt, LoggedVote

_VOTE = Path(__file__).parent / "lua" / "vote.lua"
_RETRY_WINDOW_S = 60
_IDEMPOTENCY_S = 24 * 3600
_VOTE_TIMEOUT_S = 2.0
_CHUNK = 1000
_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError)
_AWAY_WORDS = ("OOM ", "READONLY ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "LOADING ")


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVote:
    """A vote that lies durably in the log."""

    feedback: Feedback
    new: bool
    """False: it was there before this request."""
    active: bool
    """False: a later vote of the same rater superseded it."""


async def vote(
    client: redis.asyncio.Redis, ballot: Ballot, *, idempotency_key: str | None, window_s: int
) -> StoredVote:
    """Stores a vote, or finds that it is stored already. Returns only after the durable write.

    Raises:
        NotFound, NotFinished, InvalidRequest, AlreadyDecided: the target or an earlier vote forbids it.
        Unavailable: Redis is away, full or read-only, or did not answer within two seconds.
    """
    key = hashlib.sha256(idempotency_key.encode()).hexdigest() if idempotency_key is not None else ballot.id
    life = max(_IDEMPOTENCY_S, window_s) if idempotency_key is not None else _RETRY_WINDOW_S
    target = ballot.target
    target_key = keys.completion(target.id) if target.type == "completion" else keys.comparison(target.id)
    said = asdict(ballot) | {"schema": 1, "target": target.model_dump(by_alias=True)}
    with _unavailable_when_away():
        async with asyncio.timeout(_VOTE_TIMEOUT_S):
            answer = await script(client, _VOTE)(
                keys=[target_key, keys.idempotency(key), keys.FEEDBACK, keys.FEEDBACK_COUNTS],
                args=[
                    json.dumps(said),
                    events.digest(ballot),
                    window_s,
                    life,
                    keys.completion(""),
                    keys.comparison(""),
                ],
            )
    outcome, *rest = answer
    if not rest:
        raise _refusal(outcome, ballot)
    return StoredVote(feedback=Feedback.model_validate_json(rest[0]), new=outcome == "new", active=bool(rest[1]))


def _refusal(outcome: str, ballot: Ballot) -> ApiError:
    kind, index = ballot.target.type, ballot.target.choice_index
    refusals: dict[str, ApiError] = {
        "unknown": NotFound(f"There is no such {kind}, or it is too old to be voted on.", code="target_not_found"),
        "no_choice": InvalidRequest(f"The completion has no choice {index}.", param="target.choice_index"),
        "unfinished": NotFinished(f"The {kind} is still being written; vote when it has ended."),
        "unvotable": InvalidRequest(f"The {kind} was cut off or failed.", param="target", code="target_not_votable"),
        "key_conflict": AlreadyDecided(
            "This Idempotency-Key was used for another vote; take a new one.", code="idempotency_conflict"
        ),
        "revealed": AlreadyDecided(
            "This comparison has been voted on and its policies were revealed; a second vote would not be blind.",
            code="already_revealed",
        ),
    }
    return refusals[outcome]


@contextlib.contextmanager
def _unavailable_when_away() -> Iterator[None]:
    """The one place where Redis's troubles become a 503. Anything else is our mistake and stays loud."""
    try:
        yield
    except (*_AWAY, TimeoutError) as error:
        raise Unavailable("Votes cannot be stored right now; nothing was lost, send it again.") from error
    except exceptions.ResponseError as error:  # Redis 6.2 wraps what happens inside a script
        if not any(word in str(error) for word in _AWAY_WORDS):
            raise
        raise Unavailable("Votes cannot be stored right now; nothing was lost, send it again.") from error


def count_votes(client: redis.Redis) -> int:
    """Preference votes of people ever, superseded ones included. An AI's start no round."""
    return int(cast(str | None, client.hget(keys.FEEDBACK_COUNTS, "preference")) or 0)


def deployment_salt(client: redis.Redis) -> bytes:
    """The salt of folds and of hashed raters: drawn once, the same for the deployment's life."""
    client.hsetnx(keys.DEPLOYMENT, "fold_salt", secrets.token_hex(32))
    return bytes.fromhex(cast(str, client.hget(keys.DEPLOYMENT, "fold_salt")))


def votes(client: redis.Redis) -> list[LoggedVote]:
    """The whole log, oldest first."""
    return [
        LoggedVote(entry=entry, feedback=Feedback.model_validate_json(fields["event"]))
        for entry, fields in _entries(client, keys.FEEDBACK)
    ]


def completions(client: redis.Redis, ids: Iterable[str]) -> dict[str, CompletionRecord]:
    """The records of those completions that Redis still holds."""
    found = {}
    for chunk in _batches(ids):
        pipeline = client.pipeline(transaction=False)
        for identifier in chunk:
            pipeline.hget(keys.completion(identifier), "record")
        for identifier, record in zip(chunk, pipeline.execute(), strict=True):
            if record is not None:
                found[identifier] = CompletionRecord.model_validate_json(record)
    return found


def prompts(client: redis.Redis) -> list[LoggedPrompt]:
    """The prompts of consented traffic that the stream still holds, oldest first."""
    logged = []
    for _, fields in _entries(client, keys.PROMPTS):
        entry = json.loads(fields["prompt"])
        messages = [Message.model_validate(message) for message in entry["messages"]]
        logged.append(LoggedPrompt(messages=messages, prompt_token_ids=entry["prompt_token_ids"]))
    return logged


def _entries(client: redis.Redis, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    start = "-"
    while chunk := cast(list[tuple[str, dict[str, str]]], client.xrange(stream, min=start, count=_CHUNK)):
        yield from chunk
        start = f"({chunk[-1][0]}"


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    while batch := list(itertools.islice(remaining, _CHUNK)):
        yield batch
