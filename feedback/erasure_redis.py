"""Removes a person's data from Redis, and then from its append-only file.

Entries are not deleted from a stream but the stream is written anew: XDEL and XTRIM only mark an entry while others
share its node, and its bytes stay in memory, in dumps and, through the RDB preamble, in the rewritten append-only file.
So it is done even if no entry is theirs any more. It needs the stream's memory once more while it lasts.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import redis

from core import keys
from core.errors import UsageError
from core.records import Message
from core.redis import script
from feedback import log, task_store
from feedback.erasure_plan import Traces
from feedback.rows import cluster_of

_LUA = Path(__file__).parent / "lua"
_OLD = ":erased"
_REWRITE_S = 120.0
"""How long one attempt waits for the append-only file."""
_LOOK_S = 0.1


def erase(client: redis.Redis, traces: Traces) -> dict[str, int]:
    """How much of what was removed. Twice is once."""
    voted = _names(traces.voted)
    counts = {
        "conversations": _unlink(client, _names(traces.targets)),
        "feedback": rewrite(client, keys.FEEDBACK, lambda fields: _in_log(traces, fields)),
        "prompts": rewrite(client, keys.PROMPTS, lambda fields: _is_prompt(traces, fields)),
        "idempotency_keys": _forget_idempotency(client, traces.votes),
        "tasks": task_store.forget(client, traces.rater),
        "kept_conversations": _forget_conversations(client, traces.rater),
    }
    for names in log.batches(voted):
        _forget_votes(client, names, traces)
    for ids in log.batches(traces.votes):
        pipeline = client.pipeline(transaction=False)
        for identifier in ids:
            pipeline.hdel(keys.FEEDBACK_INDEX + hashlib.sha1(identifier.encode()).hexdigest()[:3], identifier)
        pipeline.execute()
    client.unlink(keys.rater(traces.rater), keys.task_rater(traces.rater), keys.visitor_votes(traces.rater))
    client.srem(keys.QUARANTINED, traces.rater)
    client.hdel(keys.TRUST_RATERS, traces.rater)
    client.hdel(keys.INVITATIONS, traces.rater)
    return counts


def rewrite(client: redis.Redis, stream: str, is_erased: Callable[[dict[str, str]], bool]) -> int:
    """Writes a stream anew without some entries; positions stay. Returns how many are gone.

    Raises:
        redis.RedisError: there is no memory for it, or Redis is away; then the stream is as it was.
    """
    copy, last, copied, erased = keys.rewriting(stream), "0-0", 0, 0
    try:
        client.unlink(copy)
        while chunk := _entries(client, stream, last):
            kept = [entry for entry in chunk if not is_erased(entry[1])]
            pipeline = client.pipeline(transaction=False)
            for identifier, fields in kept:
                pipeline.xadd(copy, cast(dict[Any, Any], fields), id=identifier)
            pipeline.execute()
            copied, erased, last = copied + len(kept), erased + len(chunk) - len(kept), chunk[-1][0]
            if len(chunk) < log.CHUNK:  # the script does the few that came since
                break
        replace = script(client, _LUA / "erase_stream.lua")
        replace(keys=[stream, copy, stream + _OLD], args=[last, copied])
    finally:
        client.unlink(copy)
    return erased


def _entries(client: redis.Redis, stream: str, after: str) -> list[tuple[str, dict[str, str]]]:
    found = client.xrange(stream, min=f"({after}", count=log.CHUNK)
    return cast(list[tuple[str, dict[str, str]]], found)


def _in_log(traces: Traces, fields: dict[str, str]) -> bool:
    return traces.in_entry(fields.get("event"), fields.get("rater"))


def _is_prompt(traces: Traces, fields: dict[str, str]) -> bool:
    """Theirs; or nobody's in particular, and they said the same."""
    said = json.loads(fields["prompt"])
    rater, cluster = said.get("rater"), cluster_of([Message.model_validate(message) for message in said["messages"]])
    return rater == traces.rater or (rater is None and cluster in traces.clusters)


def _names(targets: Iterable[str]) -> list[str]:
    return [keys.comparison(it) if it.startswith("cmp_") else keys.completion(it) for it in sorted(targets)]


def _unlink(client: redis.Redis, names: Iterable[str]) -> int:
    return sum(int(client.unlink(*batch)) for batch in log.batches(names))


def _forget_conversations(client: redis.Redis, rater: str) -> int:
    """What the page keeps for the rater: found by name, also those that the list does not hold any more."""
    of_theirs = re.compile(re.escape(keys.conversation_prefix(rater)) + "[^:]+", re.DOTALL)
    names = client.scan_iter(match=keys.conversation("*", "*"), count=log.CHUNK)
    client.unlink(keys.conversations(rater))
    return _unlink(client, (name for name in names if of_theirs.fullmatch(name)))


def _forget_votes(client: redis.Redis, names: Iterable[str], traces: Traces) -> None:
    """Who voted on a conversation stands in the names of its hash's fields."""
    for name in names:
        theirs = [field for field in cast(list[str], client.hkeys(name)) if traces.is_vote_field(field)]
        if theirs:
            client.hdel(name, *theirs)


def _forget_idempotency(client: redis.Redis, votes: set[str]) -> int:
    """They hold a digest of what was said."""
    gone = 0
    for names in log.batches(client.scan_iter(match=keys.idempotency("*"), count=log.CHUNK)):
        pipeline = client.pipeline(transaction=False)
        for name in names:
            pipeline.hget(name, "id")
        gone += _unlink(client, [name for name, of in zip(names, pipeline.execute(), strict=True) if of in votes])
    return gone


# --- the append-only file -----------------------------------------------------------------------------------------


def rewrite_aof(client: redis.Redis) -> None:
    """Has Redis write its append-only file anew, and waits until that is done.

    Raises:
        UsageError: Redis could not, or has not yet; to be tried again.
    """
    if not _persistence(client)["aof_enabled"]:
        return
    deadline = time.monotonic() + _REWRITE_S
    _wait_until_idle(client, deadline)
    client.bgrewriteaof()
    _wait_until_idle(client, deadline)
    if _persistence(client)["aof_last_bgrewrite_status"] != "ok":
        raise UsageError("Redis could not rewrite its append-only file: look at its log, and for room on its disk.")


def _wait_until_idle(client: redis.Redis, deadline: float) -> None:
    while True:
        found = _persistence(client)
        if not (found["aof_rewrite_in_progress"] or found["aof_rewrite_scheduled"]):
            return
        if time.monotonic() > deadline:
            raise UsageError(f"Redis was not done rewriting its append-only file within {_REWRITE_S:.0f} s.")
        time.sleep(_LOOK_S)


def _persistence(client: redis.Redis) -> dict[str, Any]:
    return client.info("persistence")
