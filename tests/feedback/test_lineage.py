"""What became of a vote, asked through the API over real snapshots and a real registry."""

import pytest

from core import keys, registry
from core.records import Message, RaterEvent, Verdict
from feedback import lineage, outcomes, snapshot
from feedback.cut import Trust
from feedback.influence import Caps
from feedback.outcomes import Outcome
from feedback.rows import fold_of
from tests.feedback.rounds import cut, policy, publish
from tests.feedback.wire import PREFERENCE

WAITING = "waiting for the next round"


@pytest.fixture
def live(redis_client):
    """Version 0 serves."""
    registry.initialise(redis_client, policy(0, None), actor="test")


@pytest.fixture
def vote_on(give, put_comparison):
    """A preference for the first of two answers to a prompt of its own, which trains policies unless `fold` says so."""

    def vote(name: str, fold: str = "optimize", **said: object) -> str:
        texts = (f"prompt {name} {number}" for number in range(1000))
        messages = next(
            asked
            for text in texts
            if fold_of(b"s", snapshot.cluster_of(asked := [Message(role="user", content=text)])) == fold
        )
        put_comparison(name, versions=(0, 0), a={"messages": messages}, b={"messages": messages})
        return give(**PREFERENCE | {"target": {"type": "comparison", "id": f"cmp_{name}"}} | said)

    return vote


@pytest.fixture
def told(api):
    """Outcome in words, and where it was used: version (None while there is none), as what, why not."""

    def ask(identifier: str) -> tuple[str, list[tuple[object, ...]]]:
        body = api.get(f"/v1/feedback/{identifier}").json()
        return body["outcome"], [(it["policy_version"], it["as"], it["excluded"]) for it in body["used_in"]]

    return ask


def test_a_vote_from_the_cut_to_the_policy(live, redis_client, tmp_path, api, vote_on, told):
    """It waits, is in a snapshot, trains a candidate that is rejected, then one that is released; then others judge
    with it; taking it back does not undo that, and the next snapshot does not hold it."""
    identifier, judged = vote_on("1"), vote_on("2", "judge")
    assert told(identifier) == (WAITING, [])
    first = cut(redis_client, tmp_path)
    assert told(identifier) == (WAITING, [(None, "pair", None)])
    publish(redis_client, policy(1, 0, snapshot=first.manifest.id), verdict=Verdict.FAIL)
    assert told(identifier) == (
        f"{WAITING}; assistant@v1 learned from it and was not released",
        [("assistant@v1", "pair", None)],
    )
    publish(redis_client, policy(2, 0, snapshot=first.manifest.id))
    both = [("assistant@v1", "pair", None), ("assistant@v2", "pair", None)]
    assert told(identifier) == ("used in assistant@v2", both)
    assert told(judged) == ("used in assistant@v2, to judge answers only", both)
    vote_on("3")
    second = cut(redis_client, tmp_path)
    publish(redis_client, policy(3, 2, snapshot=second.manifest.id))
    later = [("assistant@v3", "pair", None), *both]
    assert told(identifier) == ("used in assistant@v2", later)
    api.delete(f"/v1/feedback/{identifier}")
    third = cut(redis_client, tmp_path)
    assert told(identifier) == ("used in assistant@v2; taken back since", later)
    names = [it["snapshot"] for it in api.get(f"/v1/feedback/{judged}").json()["used_in"]]
    assert names == [it.manifest.id for it in (third, second, first, first)]


def test_who_is_set_aside_is_not_told(live, redis_client, tmp_path, vote_on, told):
    """Quarantined, untrusted, or one vote too many: the same words; a reason that may be known is told."""
    mine, untrusted, soon = (vote_on(name, rater={"id": name}) for name in ("mine", "untrusted", "soon"))
    crowd = [vote_on(f"c{number}", rater={"id": "many"}) for number in range(6)]
    event = RaterEvent(rater="mine", action="quarantine", reason="anomaly: p = 0.0004", actor="test", created_at=1.0)
    redis_client.xadd(keys.FEEDBACK, {"rater": event.to_json()})
    for number in range(10):
        vote_on(f"else-{number}", rater={"id": f"else-{number}"})
    cut(redis_client, tmp_path, trust=Trust(weights={"untrusted": 0.0}, caps=Caps(rater_floor=1, from_raters=1)))
    not_used = ("not used", [(None, None, "not_used")])
    assert [told(it) for it in (mine, untrusted, crowd[0])] == [not_used] * 3
    assert told(soon) == (WAITING, [(None, "pair", None)])
    assert told(crowd[-1])[0] == WAITING
    cut(redis_client, tmp_path, trust=Trust(fastest_s=1e12))
    assert told(soon)[0] == "not used: it came sooner than the answer can be read"


def test_receipts_agree_with_the_manifest(live, redis_client, tmp_path, api, vote_on, give, put_completion, told):
    """Of every vote: those with a row are rows of the snapshot, the others are what it dropped, reason by reason."""
    kinds = (("thumb", 1), ("rating", 2), ("correction", "Better."), ("thumb", -1))
    ids = [vote_on(f"{number}", ("optimize", "judge")[number % 2], value="tie") for number in range(6)]
    for number in range(24):
        put_completion(f"chatcmpl-{number}", train=number % 5 > 0, policy_version=number % 3)
        kind, value = kinds[number % 4]
        target = {"type": "completion", "id": f"chatcmpl-{number}"}
        ids.append(give(target=target, kind=kind, value=value, rater={"id": f"user-{number % 7}"}))
    found = cut(redis_client, tmp_path)
    bodies = [api.get(f"/v1/feedback/{identifier}").json() for identifier in ids]
    used = {it["id"]: it["used_in"][0]["as"] for it in bodies if it["used_in"][0]["as"]}
    tables = {
        "pair": found.pairs,
        "thumb": found.thumbs,
        "rating": found.ratings,
        "demonstration": found.demonstrations,
    }
    assert used == {row.feedback_id: name for name, rows in tables.items() for row in rows}
    reasons: dict[str, int] = {}
    for body in bodies:
        if reason := body["used_in"][0]["excluded"]:
            counted = reason if body["kind"] == "preference" else f"{body['kind']}_{reason}"
            reasons[counted] = reasons.get(counted, 0) + 1
    assert reasons == found.manifest.dropped
    assert {"tie", "thumb_no_consent", "thumb_stale"} <= reasons.keys()


def test_an_archived_vote_is_known_still(live, redis_client, tmp_path, vote_on, told, expire, move):
    identifier = vote_on("1")
    publish(redis_client, policy(1, 0, snapshot=cut(redis_client, tmp_path).manifest.id))
    expire()
    assert move().trimmed == 1
    assert told(identifier) == ("used in assistant@v1", [("assistant@v1", "pair", None)])


def test_comments_and_flags_are_looked_for_nowhere(live, redis_client, tmp_path, give, put_completion, told):
    put_completion("chatcmpl-1")
    identifier = give(kind="comment", value="Odd.")
    cut(redis_client, tmp_path)
    assert told(identifier) == ("not used: a comment is for people to read", [])


def test_without_artifacts_nothing_is_said_and_nothing_fails(live, redis_server, redis_client, tmp_path, api, vote_on):
    """Null, not an empty list: this process does not know."""
    identifier = vote_on("1")
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    try:
        answer = api.get(f"/v1/feedback/{identifier}")
        assert (answer.status_code, answer.json()["used_in"], answer.json()["outcome"]) == (200, None, None)
    finally:
        tmp_path.with_name("elsewhere").rename(tmp_path)
    assert api.get(f"/v1/feedback/{identifier}").json()["outcome"] == WAITING


def test_a_damaged_file_is_as_if_it_could_not_be_read(live, redis_client, tmp_path, api, vote_on):
    identifier = vote_on("1")
    (cut(redis_client, tmp_path).directory / outcomes.FILE).write_bytes(b"PAR1")
    body = api.get(f"/v1/feedback/{identifier}").json()
    assert (body["used_in"], body["outcome"]) == (None, None)


def test_a_file_that_was_replaced_is_read_again(live, redis_client, tmp_path, vote_on, told):
    """As an erasure does, which takes people out; a snapshot without the file says nothing of anybody."""
    mine, other = vote_on("1"), vote_on("2")
    directory = cut(redis_client, tmp_path).directory
    votes = outcomes.opened(directory)
    assert [len(told(it)[1]) for it in (mine, other)] == [1, 1]
    (tmp_path / "new").mkdir()
    outcomes.write(tmp_path / "new", [votes.of(other)])
    (tmp_path / "new" / outcomes.FILE).replace(directory / outcomes.FILE)
    assert [len(told(it)[1]) for it in (mine, other)] == [0, 1]
    (directory / outcomes.FILE).unlink()
    assert [told(it) for it in (mine, other)] == [(WAITING, [])] * 2


def test_the_first_and_the_last_snapshots_are_looked_at(redis_client, tmp_path, api, give, put_completion):
    """Of many that were cut since the vote; those that were cut before it are none of them."""
    put_completion("chatcmpl-1")
    identifier = give()
    milliseconds = int(redis_client.xrange(keys.FEEDBACK)[0][0].partition("-")[0])
    outcome = Outcome(feedback_id=identifier, used_as="thumb", reason=None, trains_policy=True)
    names = []
    for number in range(-2, lineage.FIRST + lineage.LAST + 3):
        row = snapshot.PromptRow(cluster=f"{number}", fold="judge", prompt="[]", prompt_token_ids=[])
        facts = {"dropped": {}, "live_version": 0, "base_sha256": "b", "tokenizer_sha256": "t", "votes": [outcome]}
        with snapshot.Writer(tmp_path / "snapshots") as writer:
            writer.add([row])
            last = f"{milliseconds + number}-0"
            names.append(writer.finish(created=1000.0 + number, last_event=last, **facts).manifest.id)
    shown = [it["snapshot"] for it in api.get(f"/v1/feedback/{identifier}").json()["used_in"]]
    since = names[2:]
    assert shown == (since[: lineage.FIRST] + since[-lineage.LAST :])[::-1]
