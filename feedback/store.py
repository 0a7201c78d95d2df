"""What feedback writes to Redis (for the API), and readers of the whole log (for the scheduler).

A vote is one script, which decides and stores at once. Its id is an idempotency key in itself: minted here, it makes a
silent retry by the Redis client look like one success; chosen by the client, it makes the client's retry one as well.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import redis
import redis.asyncio

from core import keys
from core.access import tenant_of
from core.errors import AlreadyDecided, ApiError, InvalidRequest, NotFinished, NotFound, PreconditionFailed
from core.records import Feedback, Message, RaterEvent
from feedback import essence, events, lookup, scripts
from feedback import log as one_log
from feedback.archive import Archive
from feedback.essence import ComparisonEssence, CompletionEssence
from feedback.events import Ballot, LoggedPrompt, LoggedRater, LoggedVote
from feedback.scripts import Call, View

IDEMPOTENCY_S = 24 * 3600
"""How long an idempotency key is remembered, at least."""
_CHUNK = 1000
_TOGETHER = 100
"""Votes of a batch that share a round trip: Redis serves nobody else meanwhile."""
_RACES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredVote:
    """A vote that lies durably in the log."""

    view: View
    new: bool
    """False: it was there before this request."""


# --- writing ------------------------------------------------------------------------------------------------------


async def vote(
    client: redis.asyncio.Redis, ballot: Ballot, *, idempotency_key: str | None, window_s: int
) -> StoredVote:
    """Stores a vote, or finds that it is stored already. Returns only after the durable write.

    Raises:
        NotFound, NotFinished, InvalidRequest, AlreadyDecided: the target or an earlier vote forbids it.
        Unavailable: Redis is away, full or read-only, or did not answer within two seconds.
    """
    return _stored(await scripts.run(client, _vote_call(ballot, idempotency_key, window_s)), ballot)


async def vote_all(
    client: redis.asyncio.Redis, ballots: Sequence[Ballot], *, window_s: int
) -> list[StoredVote | ApiError]:
    """Stores votes in order, each on its own account: one that is refused harms no other."""
    outcomes: list[StoredVote | ApiError] = []
    for start in range(0, len(ballots), _TOGETHER):
        chunk = ballots[start : start + _TOGETHER]
        try:
            answers = await scripts.run_all(client, [_vote_call(ballot, None, window_s) for ballot in chunk])
        except ApiError as away:
            return outcomes + [away] * (len(ballots) - start)
        outcomes += [_outcome(answer, ballot) for answer, ballot in zip(answers, chunk, strict=True)]
    return outcomes


def _outcome(answer: list[Any] | Exception, ballot: Ballot) -> StoredVote | ApiError:
    try:
        if isinstance(answer, Exception):
            with scripts.unavailable_when_away():
                raise answer
        return _stored(answer, ballot)
    except ApiError as refused:
        return refused


def _vote_call(ballot: Ballot, idempotency_key: str | None, window_s: int) -> Call:
    target = ballot.target
    target_key = keys.completion(target.id) if target.type == "completion" else keys.comparison(target.id)
    used = [f"key:{idempotency_key}"] if idempotency_key is not None else []
    used += [f"id:{ballot.id}"] if ballot.own_id else []
    return Call(
        name="vote",
        keys=[
            target_key,
            keys.FEEDBACK_COUNTS,
            *(keys.idempotency(hashlib.sha256(it.encode()).hexdigest()) for it in used),
        ],
        args=[
            json.dumps(_said(ballot), ensure_ascii=False, separators=(",", ":")),
            events.digest(ballot) if used else "",
            int(ballot.own_id),
            secrets.token_hex(8),
            window_s,
            max(IDEMPOTENCY_S, window_s),
            keys.completion(""),
            tenant_of(ballot.id),
            *_own(ballot),
        ],
    )


def _own(ballot: Ballot) -> list[str]:
    """Of a visitor's vote: whose own the target must be, and where the visitor's votes are listed."""
    return [ballot.rater, keys.visitor_votes(ballot.rater)] if ballot.on_own and ballot.rater else []


def _said(ballot: Ballot) -> dict[str, Any]:
    """The event's fields as far as the client can say them; what is at its default is left out."""
    optional = {
        "reasons": list(ballot.reasons),
        "comment": ballot.comment,
        "metadata": dict(ballot.metadata),
        "rater": ballot.rater,
        "rater_kind": ballot.rater_kind if ballot.rater_kind != "human" else None,
        "source": ballot.source if ballot.source != "api" else None,
        "occurred_at": ballot.occurred_at,
    }
    said = {
        "schema": Feedback.model_fields["schema_version"].default,
        "id": ballot.id,
        "target": ballot.target.model_dump(exclude_defaults=True),
        "kind": ballot.kind,
        "value": ballot.value,
    }
    return said | {name: value for name, value in optional.items() if value not in (None, [], {})}


def _stored(answer: list[Any], ballot: Ballot) -> StoredVote:
    outcome, detail = answer[0], answer[1] if len(answer) > 1 else None
    if outcome not in ("new", "replay"):
        raise _refusal(outcome, ballot, sides=detail)
    return StoredVote(view=scripts.view(cast(list[Any], detail)), new=outcome == "new")


def _refusal(outcome: str, ballot: Ballot, *, sides: Any) -> ApiError:
    target, index = ballot.target.type, ballot.target.choice_index
    takes = "preference" if sides == 2 else "ranking"
    refusals: dict[str, ApiError] = {
        "unknown": NotFound(
            f"There is no such {target}, or it is too old to be voted on.", param="target", code="target_not_found"
        ),
        "no_choice": InvalidRequest(f"The completion has no choice {index}.", param="target.choice_index"),
        "unfinished": NotFinished(f"The {target} is still being written; vote when it has ended."),
        "unvotable": InvalidRequest(f"The {target} was cut off or failed.", param="target", code="target_not_votable"),
        "wrong_kind": InvalidRequest(f"A comparison of {sides} takes a {takes}, not a {ballot.kind}.", param="kind"),
        "wrong_sides": InvalidRequest(f"The ranking must place all {sides} sides, each once.", param="value"),
        "unchanged": _unchanged(),
        "archived": lookup.archived(),
        "key_conflict": AlreadyDecided(
            "This Idempotency-Key or id was used for another vote; take a new one.", code="idempotency_conflict"
        ),
        "revealed": AlreadyDecided(
            "This comparison has been voted on and its policies were revealed; a second vote would not be blind.",
            code="already_revealed",
        ),
    }
    return refusals[outcome]


def _unchanged() -> InvalidRequest:
    return InvalidRequest("The correction is the answer itself: nothing was corrected.", param="value")


async def revise(
    client: redis.asyncio.Redis,
    feedback_id: str,
    change: Callable[[View], Feedback | None],
    *,
    revisions: frozenset[int] | None,
    archive: Archive | None = None,
) -> View:
    """Appends the revision that `change` makes of the vote as it is; None makes none. Returns the vote afterwards.

    What happens to the vote between look and write is seen by the script; then this looks again.

    Raises:
        NotFound: there is no such feedback.
        Gone: it lies in the archive, and none is given.
        PreconditionFailed: the vote's revision is none of `revisions`.
        Unavailable: as in `vote`.
    """
    call = keys.call(secrets.token_hex(16))
    for _ in range(_RACES):
        now = (await lookup.find(client, feedback_id, archive=archive)).view
        new = change(now)  # first: it also says whose the vote is
        if revisions is not None and now.feedback.revision not in revisions:
            current = now.feedback.revision
            message = f'The feedback is at revision {current}: look again, then send `If-Match: "{current}"`.'
            raise PreconditionFailed(message, param="header.if-match")
        if new is None:
            return now
        outcome, *rest = await scripts.run(client, _revise_call(call, now, new))
        if outcome == "unchanged":
            raise _unchanged()
        if outcome == "done":
            return scripts.view(rest[0])
    raise NotFinished("Too many are changing this feedback at once; try again.", code="busy")


def _revise_call(call: str, now: View, new: Feedback) -> Call:
    corrects = new.kind == "correction" and not new.withdrawn
    args: list[str | int] = [new.id, now.where, _json(new), scripts.RETRY_WINDOW_S, now.first]
    return Call(
        name="revise",
        keys=[call, keys.completion(new.target.id)] if corrects else [call],
        args=[*args, new.target.choice_index] if corrects else args,
    )


def _json(feedback: Feedback) -> str:
    """As `_said`: without what is at its default; the time is the script's."""
    fields = feedback.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"created_at"})
    said = {"schema": feedback.schema_version} | fields
    return json.dumps(said, ensure_ascii=False, separators=(",", ":"))


# --- reading the whole log ----------------------------------------------------------------------------------------


def read_log(client: redis.Redis, archive: Archive | None = None) -> Iterator[LoggedVote | LoggedRater]:
    """The whole log, oldest first, from the archive and from Redis: every revision of every vote, and what happened to
    raters. Holds a thousand events at a time.

    Raises:
        UsageError: Redis gave up entries that `archive` does not hold, or a part of it is damaged.
    """
    for entry in one_log.entries(client, archive):
        if entry.event is not None:
            yield LoggedVote(entry=entry.position, feedback=Feedback.model_validate_json(entry.event))
        elif entry.rater is not None:
            yield LoggedRater(entry=entry.position, event=RaterEvent.model_validate_json(entry.rater))


def log(client: redis.Redis, archive: Archive | None = None) -> tuple[list[LoggedVote], list[LoggedRater]]:
    """`read_log` at once, of each vote its essence: about 1 kB a vote. The same errors."""
    votes, raters = [], []
    for entry in one_log.entries(client, archive):
        if entry.event is not None:
            votes.append(LoggedVote(entry=entry.position, feedback=essence.feedback(entry.event)))
        elif entry.rater is not None:
            raters.append(LoggedRater(entry=entry.position, event=RaterEvent.model_validate_json(entry.rater)))
    return votes, raters


def count_votes(client: redis.Redis) -> int:
    """Preferences and rankings of people ever, superseded ones included. An AI's start no round."""
    counts = cast(list[str | None], client.hmget(keys.FEEDBACK_COUNTS, list(events.DECIDING)))
    return sum(int(count or 0) for count in counts)


def deployment_salt(client: redis.Redis) -> bytes:
    """The salt of folds and of hashed raters: drawn once, the same for the deployment's life."""
    client.hsetnx(keys.DEPLOYMENT, "fold_salt", secrets.token_hex(32))
    return bytes.fromhex(cast(str, client.hget(keys.DEPLOYMENT, "fold_salt")))


async def deployment_salt_async(client: redis.asyncio.Redis) -> bytes:
    """`deployment_salt`, for the API."""
    await client.hsetnx(keys.DEPLOYMENT, "fold_salt", secrets.token_hex(32))
    return bytes.fromhex(cast(str, await client.hget(keys.DEPLOYMENT, "fold_salt")))


def completions(
    client: redis.Redis, ids: Iterable[str], archive: Archive | None = None
) -> dict[str, CompletionEssence]:
    """Of the records of those completions that the archive or Redis still holds."""
    found = one_log.records(client, "completions", ids, archive)
    return {identifier: essence.completion(record) for identifier, record in found}


def comparisons(
    client: redis.Redis, ids: Iterable[str], archive: Archive | None = None
) -> dict[str, ComparisonEssence]:
    """Of the records of those comparisons that the archive or Redis still holds."""
    found = one_log.records(client, "comparisons", ids, archive)
    return {identifier: essence.comparison(record) for identifier, record in found}


def prompts(client: redis.Redis) -> list[LoggedPrompt]:
    """The prompts of consented traffic that the stream still holds, oldest first."""
    logged = []
    for _, fields in _entries(client, keys.PROMPTS):
        entry = json.loads(fields["prompt"])
        messages = [Message.model_validate(message) for message in entry["messages"]]
        ids, rater = entry["prompt_token_ids"], entry.get("rater")
        logged.append(LoggedPrompt(messages=messages, prompt_token_ids=ids, rater=rater))
    return logged


def _entries(client: redis.Redis, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    start = "-"
    while chunk := cast(list[tuple[str, dict[str, str]]], client.xrange(stream, min=start, count=_CHUNK)):
        yield from chunk
        start = f"({chunk[-1][0]}"
