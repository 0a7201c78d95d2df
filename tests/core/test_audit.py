"""The audit trail: what was edited, dropped, moved or cut off is found."""

import hashlib

import pytest
import redis
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from core import audit, keys
from core.redis import lua

FIRST = "0" * 64


def append(client: redis.Redis, *fields: str) -> None:
    """As a script of the registry or of the API keys does."""
    text = lua(*audit.APPENDING) + "\naudit(KEYS[1], KEYS[2], ARGV)"
    client.eval(text, 2, keys.AUDIT, keys.AUDIT_HEAD, "generation", "0", *fields)


def entry(action: str, actor: str, reason: str, subject: str) -> list[str]:
    return ["action", action, "actor", actor, "reason", reason, "subject", subject]


@pytest.fixture
def client(redis_client: redis.Redis) -> redis.Redis:
    """Three entries."""
    for number in range(3):
        append(redis_client, *entry("key.created", "ann", f"é {number}", f"key_{number}"))
    return redis_client


def rewrite(client: redis.Redis, entries: list[audit.Entry]) -> None:
    """What somebody with access to Redis could do."""
    client.delete(keys.AUDIT)
    for number, (_, fields) in enumerate(entries):
        client.xadd(keys.AUDIT, fields, id=f"1-{number + 1}")


@hypothesis_settings(max_examples=60)
@given(text=st.one_of(st.binary(max_size=300), st.sampled_from([b"a" * size for size in (55, 56, 63, 64, 119, 120)])))
def test_sha256_in_lua_is_sha256(redis_server: str, text: bytes) -> None:
    """Of any bytes, as hashlib has it: around the lengths where a block is full, too."""
    with redis.Redis.from_url(redis_server) as client:
        found = client.eval(lua(audit.APPENDING[0]) + "\nreturn sha256(ARGV[1])", 0, text)
    assert found == hashlib.sha256(text).hexdigest().encode()


def test_entries_are_chained(client):
    """Each names the hash of the one before; the whole is as it was written."""
    history = audit.history(client)
    assert [event.previous for event in history] == [FIRST, *(event.sha256 for event in history[:-1])]
    assert [event.subject for event in history] == ["key_0", "key_1", "key_2"]
    found = audit.check(client)
    assert (found.entries, found.head, found.unchained, found.fault) == (3, history[-1].sha256, 0, "")


def test_an_act_elsewhere_is_told_of(client):
    """Appended like a change: with the registry's generation, nobody's version."""
    client.hset(keys.REGISTRY, "generation", 12)
    audit.append(client, "run.start", actor="api:key_1", reason="a new base")
    last = audit.history(client)[-1]
    assert (last.action, last.actor, last.reason, last.subject) == ("run.start", "api:key_1", "a new base", "")
    assert (last.generation, last.version) == (12, None)
    assert audit.check(client).entries == 4


def test_the_hash_is_over_the_fields_and_values(client):
    """Recomputed by hand for the first entry: length, colon, text of each, without the hash itself."""
    ((_, fields),) = client.xrange(keys.AUDIT, count=1)
    seconds = fields["at"]
    told = f"8:previous64:{FIRST}10:generation1:06:action11:key.created5:actor3:ann6:reason4:é 0"
    told += f"7:subject5:key_02:at{len(seconds)}:{seconds}"
    assert fields["sha256"] == hashlib.sha256(told.encode()).hexdigest()


@pytest.mark.parametrize("field", ["action", "actor", "reason", "subject", "at", "generation", "previous", "sha256"])
def test_an_edited_entry_is_found(client, field):
    """Whatever was edited in it."""
    entries = client.xrange(keys.AUDIT)
    entries[1][1][field] = "7"
    rewrite(client, entries)
    assert audit.check(client).fault.startswith("entry 1-2 was edited")


def test_an_added_field_is_found(client):
    """The hash is over all fields, whatever their names."""
    entries = client.xrange(keys.AUDIT)
    entries[1][1]["note"] = "approved"
    rewrite(client, entries)
    assert audit.check(client).fault.startswith("entry 1-2 was edited")


@pytest.mark.parametrize(
    ("order", "words"),
    [([1, 2], "entry 1-1 does not follow"), ([0, 2], "entry 1-2 does not follow"), ([1, 0, 2], "entry 1-1"),
     ([0, 2, 1], "entry 1-2"), ([0, 1, 1, 2], "entry 1-3"), ([0, 1], "3 entries were written, 2 are here"),
     ([], "3 entries were written, 0 are here")],
)  # fmt: skip
def test_dropped_moved_and_repeated_entries_are_found(client, order, words):
    """At the beginning, between others and at the end."""
    entries = client.xrange(keys.AUDIT)
    rewrite(client, [entries[place] for place in order])
    assert words in audit.check(client).fault


def test_an_end_that_nobody_noted_is_found(client):
    """Without the noted end a cut could not be seen."""
    client.delete(keys.AUDIT_HEAD)
    assert "0 entries were written, 3 are here" in audit.check(client).fault


def test_a_chain_written_anew_lacks_a_hash_that_was_noted_elsewhere(client):
    """By itself it is whole: only who kept a hash sees it."""
    noted = audit.check(client).head
    append(client, *entry("key.revoked", "ann", "r", "key_1"))
    assert audit.check(client, expected=noted).fault == ""
    client.delete(keys.AUDIT, keys.AUDIT_HEAD)
    append(client, *entry("key.created", "eve", "r", "key_9"))
    assert audit.check(client).fault == ""
    assert f"no entry has the hash {noted}" in audit.check(client, expected=noted).fault


def test_entries_of_a_version_that_did_not_chain_are_told_apart(client):
    """They are counted, not covered; after the first chained entry one without a hash is a fault."""
    entries = client.xrange(keys.AUDIT)
    old = {"generation": "1", "action": "register", "version": "0", "actor": "a", "reason": "r", "at": "1.5"}
    rewrite(client, [("", old), *entries])
    found = audit.check(client)
    assert (found.unchained, found.entries, found.fault) == (1, 3, "")
    assert audit.history(client)[0].action == "register"
    rewrite(client, [*entries, ("", old)])
    assert "entry 1-4 was edited" in audit.check(client).fault
