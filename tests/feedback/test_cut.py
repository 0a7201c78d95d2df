"""Cutting a snapshot from a real Redis."""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from core import keys, registry
from core.errors import UsageError
from core.records import Feedback, Message, RaterEvent, Target, Verdict
from feedback import outcomes
from feedback.cut import Trust, lineage
from feedback.influence import Caps
from feedback.rows import VoteRow
from feedback.snapshot import Snapshot
from tests.feedback.rounds import cut, policy, publish


def votes_of(snapshot: Snapshot) -> list[VoteRow]:
    rows = [*snapshot.pairs, *snapshot.thumbs, *snapshot.rankings, *snapshot.ratings, *snapshot.demonstrations]
    return sorted(rows, key=lambda row: row.feedback_id)


@pytest.fixture
def give(api):
    """Sends feedback through the API and returns its id."""

    def send(target: str, kind: str, value: object, **more: object) -> str:
        of = "comparison" if target.startswith("cmp_") else "completion"
        body = {"target": {"type": of, "id": target}, "kind": kind, "value": value} | more
        answer = api.post("/v1/feedback", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return send


@pytest.fixture
def vote_on(give, put_comparison):
    """A fresh comparison of two or more sides by given versions, and a vote on it."""

    def vote(name: str, versions: tuple[int, ...] = (0, 0), value: object = "a", **more: object) -> str:
        messages = {"messages": [Message(role="user", content=f"prompt {name}")]}
        put_comparison(name, versions=versions, **dict.fromkeys("abcdefghi"[: len(versions)], messages))
        return give(f"cmp_{name}", "preference" if len(versions) == 2 else "ranking", value, **more)

    return vote


@pytest.fixture
def say(redis_client):
    """Something about a rater, in the log."""

    def write(rater: str, action: str, **given: object) -> None:
        event = RaterEvent(rater=rater, action=action, actor="test", created_at=1.0, **given)
        redis_client.xadd(keys.FEEDBACK, {"rater": event.to_json()})

    return write


@pytest.fixture
def live(redis_client):
    """Version 0 serves."""
    registry.initialise(redis_client, policy(0, None), actor="test")


def test_without_a_policy_there_is_nothing_to_cut(redis_client, tmp_path):
    """Before version 0 there is no round."""
    with pytest.raises(UsageError, match="no policy yet"):
        cut(redis_client, tmp_path)


def test_cut_is_a_function_of_the_log(redis_client, tmp_path, vote_on):
    """Twice the same log gives one snapshot, on any machine the same id; one more vote gives another."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    vote_on("1")
    vote_on("2", value="tie")
    first = cut(redis_client, tmp_path / "here")
    assert cut(redis_client, tmp_path / "here") == first
    assert cut(redis_client, tmp_path / "there").manifest.id == first.manifest.id
    assert (first.manifest.rows, first.manifest.dropped, first.manifest.live_version) == (2, {"tie": 1}, 0)
    assert first.manifest.last_event == redis_client.xrevrange(keys.FEEDBACK, count=1)[0][0]
    vote_on("3")
    assert cut(redis_client, tmp_path / "here").manifest.id != first.manifest.id


def test_an_ai_raters_votes_reach_the_snapshot_as_such(redis_client, tmp_path, vote_on):
    """From the API's `rater.kind` to the row, at its own weight and share."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    for index in range(20):
        vote_on(f"person-{index}")
        vote_on(f"machine-{index}", rater={"id": "ai:judge", "kind": "ai"})
    pairs = cut(redis_client, tmp_path).pairs
    machine = [row for row in pairs if row.rater_kind == "ai"]
    people = [row for row in pairs if row.rater_kind == "human" and row.fold == "optimize"]
    assert len(machine) == int(len(people) * 3 / 7)
    assert {(row.fold, row.weight) for row in machine} == {("optimize", 0.5)}


def test_only_a_live_policy_consumes_votes(redis_client, tmp_path, vote_on):
    """Votes stay policy rows after a rejected candidate and stop being so after a promoted one."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    for name in "1234567890":
        vote_on(name)
    first = cut(redis_client, tmp_path)
    assert 0 < first.manifest.policy_rows < 10
    publish(redis_client, policy(1, 0, snapshot=first.manifest.id), verdict=Verdict.FAIL)
    assert cut(redis_client, tmp_path).manifest.policy_rows == first.manifest.policy_rows
    publish(redis_client, policy(2, 0, snapshot=first.manifest.id))
    assert cut(redis_client, tmp_path).manifest.policy_rows == 0
    registry.rollback(redis_client, actor="test", reason="worse")
    assert cut(redis_client, tmp_path).manifest.policy_rows == first.manifest.policy_rows


def test_a_live_policy_without_its_snapshot_is_an_error(redis_client, tmp_path):
    """Nothing is trained on twice by guess: the missing snapshot is named."""
    registry.initialise(redis_client, policy(0, None), actor="test")
    publish(redis_client, policy(1, 0, snapshot="gone"))
    with pytest.raises(UsageError, match="gone"):
        cut(redis_client, tmp_path)


def test_every_kind_reaches_its_table(live, redis_client, tmp_path, vote_on, give, put_completion):
    """From the API to rows: what was said, of what, by whom, and where it came from."""
    ids = {"pairs": vote_on("1", value="b"), "bad": vote_on("2", value="both_bad")}
    ids["rankings"] = vote_on("3", (0, 0, 0, 0), [["c"], ["a", "b"], ["d"]])
    for kind, value in (("thumb", -1), ("rating", 5), ("correction", "Better."), ("comment", "hm")):
        put_completion(f"chatcmpl-{kind}", messages=[Message(role="user", content=f"prompt {kind}")])
        ids[kind] = give(f"chatcmpl-{kind}", kind, value, reasons=["wrong"])
    found = cut(redis_client, tmp_path)
    (pair,) = (row for row in found.pairs if not row.ranked)
    assert (pair.feedback_id, pair.comparison_id, pair.chosen_text) == (ids["pairs"], "cmp_1", "text of chatcmpl-1-b")
    assert Counter((row.feedback_id, row.up, row.weight) for row in found.thumbs) == {
        (ids["bad"], False, 0.5): 2,
        (ids["thumb"], False, 1.0): 1,
    }
    (ranking,) = found.rankings
    assert (ranking.feedback_id, ranking.ranks) == (ids["rankings"], [1, 2, 2, 3])
    assert ranking.completion_texts == [f"text of chatcmpl-3-{side}" for side in "cabd"]
    assert [(row.feedback_id, row.stars) for row in found.ratings] == [(ids["rating"], 5)]
    assert [(row.feedback_id, row.text) for row in found.demonstrations] == [(ids["correction"], "Better.")]
    assert len({row.rater for row in votes_of(found)}) == found.manifest.raters == 1
    assert {row.cluster for row in votes_of(found)} == {row.cluster for row in found.prompts}
    assert found.manifest.caps == {"theme_share": pytest.approx(1 / 3), "ai_share": 0.3}


def test_a_comparisons_propensity_is_on_its_rows(live, redis_client, tmp_path, vote_on, put_completion, give):
    """As it was logged when the comparison was asked for; of a chat it is that of its version."""
    vote_on("1")
    record = redis_client.hget(keys.comparison("cmp_1"), "record")
    redis_client.hset(keys.comparison("cmp_1"), "record", record.replace('"propensity":1.0', '"propensity":0.125'))
    put_completion("chatcmpl-x", propensity=0.25)
    give("chatcmpl-x", "thumb", 1)
    assert [row.propensity for row in votes_of(cut(redis_client, tmp_path))] in ([0.125, 0.25], [0.25, 0.125])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"action": "consent", "train": False}, "no_consent"),
        ({"action": "quarantine", "reason": "anomaly"}, "quarantined"),
        ({"action": "erase"}, "erased"),
    ],
)
def test_what_is_said_of_a_rater_reaches_the_next_snapshot(live, redis_client, tmp_path, vote_on, say, given, reason):
    """Their own votes go, and other people's votes on what they wrote; the event is part of the log's end."""
    vote_on("1", rater={"id": "user-8"})
    vote_on("2", rater={"id": "user-9"})
    assert cut(redis_client, tmp_path).manifest.rows == 2
    say("user-9", **given)
    found = cut(redis_client, tmp_path)
    assert (found.manifest.rows, found.manifest.dropped) == (1, {reason: 1})
    assert found.manifest.last_event == redis_client.xrevrange(keys.FEEDBACK, count=1)[0][0]
    say("user-7", **given)  # whose chats they are
    assert cut(redis_client, tmp_path).manifest.dropped == {reason: 2}


def test_what_is_taken_back_leaves_the_next_snapshot(live, redis_client, tmp_path, api, vote_on):
    first, second = vote_on("1"), vote_on("2")
    before = cut(redis_client, tmp_path)
    assert api.delete(f"/v1/feedback/{first}").status_code == 200
    after = cut(redis_client, tmp_path)
    assert [[row.feedback_id for row in votes_of(it)] for it in (before, after)] == [sorted([first, second]), [second]]
    assert after.manifest.dropped == {"withdrawn": 1}


def test_prompts_of_those_who_said_no_leave_the_next_snapshot(live, redis_client, tmp_path, vote_on, say):
    """Not even for rollouts or the gate; those of others, and of nobody in particular, stay."""
    for rater in ("user-8", "user-9", None):
        prompt = {"messages": [{"role": "user", "content": f"asked by {rater}"}], "prompt_token_ids": [1]}
        redis_client.xadd(keys.PROMPTS, {"prompt": json.dumps(prompt | ({"rater": rater} if rater else {}))})
    vote_on("1", rater={"id": "user-9"})
    say("user-8", action="consent", train=False)
    say("user-7", action="erase")  # whose chat was voted on
    prompts = [json.loads(row.prompt)[0]["content"] for row in cut(redis_client, tmp_path).prompts]
    assert sorted(prompts) == ["asked by None", "asked by user-9"]
    say("user-8", action="consent", train=True)
    say("user-9", action="erase")
    prompts = [json.loads(row.prompt)[0]["content"] for row in cut(redis_client, tmp_path).prompts]
    assert sorted(prompts) == ["asked by None", "asked by user-8"]


def test_a_snapshot_knows_what_became_of_each_vote(live, redis_client, tmp_path, vote_on, say, api):
    """Standing votes of kinds that give rows; what else was said has no outcome."""
    ids = {name: vote_on(name, value=value) for name, value in (("1", "a"), ("2", "tie"), ("3", "both_bad"))}
    ids["4"], ids["5"] = vote_on("4", (0, 0, 0), [["a"], ["b", "c"]]), vote_on("5", rater={"id": "user-8"})
    withdrawn = vote_on("6")
    api.delete(f"/v1/feedback/{withdrawn}")
    say("user-8", action="quarantine", reason="anomaly")
    found = cut(redis_client, tmp_path)
    votes = outcomes.opened(found.directory)
    became = {name: votes.of(identifier) for name, identifier in ids.items()}
    assert {name: (it.used_as, it.reason) for name, it in became.items()} == {
        "1": ("pair", None),
        "2": ("pair", "tie"),
        "3": ("thumb", None),
        "4": ("ranking", None),
        "5": (None, "quarantined"),
    }
    assert votes.of(withdrawn) is None
    trained = {row.feedback_id for row in (*found.pairs, *found.thumbs) if row.trains_policy}
    assert {it.feedback_id for it in became.values() if it.trains_policy} == trained


def test_votes_between_two_equal_cuts_do_not_make_another_snapshot(live, redis_client, tmp_path, vote_on, say):
    """The id says what is trained on: a vote without a row changes nothing about that."""
    vote_on("1")
    first = cut(redis_client, tmp_path)
    say("user-8", action="quarantine", reason="anomaly")
    later = vote_on("2", rater={"id": "user-8"})
    assert cut(redis_client, tmp_path) == first
    assert outcomes.opened(first.directory).of(later) is None


def test_the_archived_part_of_the_log_is_cut_too(live, redis_client, tmp_path, vote_on, expire, move):
    """Votes and completions that Redis gave up give the same snapshot."""
    vote_on("1")
    expected = cut(redis_client, tmp_path).manifest.id
    assert move().copied == 1
    expire()
    assert move().trimmed == 1
    assert cut(redis_client, tmp_path).manifest.id == expected


def test_trust_reaches_the_rows(live, redis_client, tmp_path, vote_on):
    """Weights by rater, and votes that came too soon, as the deployment has it."""
    vote_on("1", rater={"id": "user-8"})
    found = cut(redis_client, tmp_path, trust=Trust(weights={"user-8": 0.25}))
    assert [row.weight for row in found.pairs] == [0.25]
    soon = Trust(fastest_s=1e12, caps=Caps(ai_share=0.1))
    found = cut(redis_client, tmp_path, trust=soon)
    assert (found.pairs, found.manifest.dropped, found.manifest.caps["ai_share"]) == ([], {"too_fast": 1}, 0.1)


def test_over_five_rounds_no_cluster_changes_its_fold(live, redis_client, tmp_path, vote_on, give, put_completion):
    """Round after round, with new versions live and new votes of other kinds on old prompts, in other spellings: a
    prompt that once judged never trains."""
    folds: dict[str, set[str]] = {}
    for round_ in range(5):
        for number in range(12 * round_, 12 * (round_ + 1)):
            vote_on(f"{number}", (round_, round_))
            again = put_completion(
                f"chatcmpl-{round_}-{number}",
                policy_version=round_,
                messages=[Message(role="user", content=f"PROMPT   {number % 20}")],
            )
            kind, value = [("thumb", 1), ("rating", 2), ("correction", "Better.")][number % 3]
            give(again.id, kind, value)
        found = cut(redis_client, tmp_path)
        for row in (*votes_of(found), *found.prompts):
            folds.setdefault(row.cluster, set()).add(row.fold)
        trained = {row.cluster for row in (*found.pairs, *found.thumbs, *found.demonstrations) if row.trains_policy}
        assert {fold for cluster in trained for fold in folds[cluster]} <= {"optimize"}
        publish(redis_client, policy(round_ + 1, round_, snapshot=found.manifest.id))
    assert len(folds) == 60
    assert all(len(held) == 1 for held in folds.values())
    assert Counter(fold for held in folds.values() for fold in held).keys() == {"optimize", "judge", "test"}


_CUT = """
import sys; from pathlib import Path; from redis import Redis; from feedback.cut import cut_snapshot
client = Redis.from_url(sys.argv[1], decode_responses=True)
print(cut_snapshot(client, Path(sys.argv[2]), salt=b"s", base_sha256="b", tokenizer_sha256="t").manifest.id)
"""


def test_another_process_cuts_the_same(live, redis_server, redis_client: Redis, tmp_path: Path, vote_on):
    """Whatever the seed of Python's hashes: nothing depends on the order of a set."""
    for number in range(30):
        vote_on(f"{number}", rater={"id": f"user-{number % 4}"}, value=["a", "b", "tie", "both_bad"][number % 4])
    expected = cut(redis_client, tmp_path).manifest.id
    for seed in ("1", "2"):
        command = [sys.executable, "-c", _CUT, redis_server, str(tmp_path / seed)]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_several_processes_cut_the_same(live, redis_client, tmp_path, put_completion, vote_on, expire, move, say):
    """To the byte, whatever the number of processes that share the chunks; from the archive and from Redis."""
    pipeline = redis_client.pipeline(transaction=False)
    for number in range(2500):
        completion = f"chatcmpl-{number % 60}"
        vote = Feedback(
            id=f"fb_{number}",
            target=Target(type="completion", id=completion),
            kind="rating" if number % 3 else "thumb",
            value=1,
            rater=f"user-{number % 7}",
            created_at=1.79e9 - number,
            policy_versions=[0],
            completion_ids=[completion],
            train=True,
        )
        pipeline.xadd(keys.FEEDBACK, {"event": vote.model_dump_json(by_alias=True, exclude_defaults=True)})
    pipeline.execute()
    for number in range(60):
        put_completion(f"chatcmpl-{number}", messages=[Message(role="user", content=f"prompt {number}")])
    assert move(most=1000).copied == 2500
    expire()
    vote_on("1")
    say("user-3", action="quarantine", reason="anomaly")
    found = []
    for processes in (1, 2):
        cut(redis_client, tmp_path, processes=processes)
        (directory,) = (tmp_path / "snapshots").iterdir()
        found.append({path.name: path.read_bytes() for path in directory.glob("*.parquet")} | {"id": directory.name})
        shutil.rmtree(directory)
    assert found[0] == found[1]


def test_lineage_follows_parents_not_numbers():
    """v3 was trained from v1 after v2 was rejected: v2's answers are not its ancestors'."""
    policies = {version: policy(version, parent) for version, parent in ((0, None), (1, 0), (2, 1), (3, 1))}
    assert lineage(policies, 3, 1) == {3, 1}
    assert lineage(policies, 3, 9) == {3, 1, 0}
    assert lineage(policies, 0, 1) == {0}
