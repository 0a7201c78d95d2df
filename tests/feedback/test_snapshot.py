"""Snapshots on disk: named by their rows, written once, never read when changed."""

import dataclasses
import hashlib
import json
import random

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import UsageError
from core.records import Message
from feedback import snapshot
from feedback.rows import TABLES, Row, lines
from feedback.snapshot import (
    DemonstrationRow,
    PairRow,
    PromptRow,
    RankingRow,
    RatingRow,
    Snapshot,
    ThumbRow,
    Writer,
    cluster_of,
    content_id,
    fold_of,
)

COMMON = {"cluster": "c", "prompt": "[]", "prompt_token_ids": [1, 2], "weight": 0.5, "rater": "ab"}


def pair(index: int, **given: object) -> PairRow:
    fields = {
        "feedback_id": f"fb_{index}",
        "comparison_id": f"cmp_{index}",
        "created_at": 1790000000.123456 + index,
        "cluster": f"c{index}",
        "fold": ("optimize", "judge", "test")[index % 3],
        "prompt": '[{"role":"user","content":"naïve ✓"}]',
        "prompt_token_ids": [1, 2],
        "chosen_token_ids": [70, 4],
        "rejected_token_ids": [],
        "chosen_text": "a pet",
        "rejected_text": "",
        "chosen_version": 0,
        "rejected_version": 0,
        "tie": False,
        "trains_policy": index % 3 == 0,
        "weight": 1.0,
        "rater": "-",
    }
    return PairRow(**(fields | given))


def thumb(index: int, **given: object) -> ThumbRow:
    fields = {
        "feedback_id": f"fb_t{index}",
        "completion_id": f"chatcmpl-{index}",
        "created_at": 1790000000.5 + index,
        "cluster": f"c{index}",
        "fold": ("optimize", "judge", "test")[index % 3],
        "prompt": "[]",
        "prompt_token_ids": [1, 2],
        "completion_token_ids": [70, 4],
        "completion_text": "a pet",
        "version": 0,
        "up": index % 2 == 0,
        "trains_policy": index % 3 == 0,
        "weight": 1.0,
        "rater": "-",
    }
    return ThumbRow(**(fields | given))


def prompt(index: int) -> PromptRow:
    return PromptRow(cluster=f"c{index}", fold="judge", prompt="[]", prompt_token_ids=[1])


def ranking(index: int, **given: object) -> RankingRow:
    fields = COMMON | {
        "feedback_id": f"fb_r{index}",
        "comparison_id": f"cmp_r{index}",
        "created_at": 1790000000.75 + index,
        "fold": "judge",
        "completion_token_ids": [[70, 4], [71, 4], []],
        "completion_texts": ["a pet", "a fish", ""],
        "versions": [0, 1, 0],
        "ranks": [1, 2, 2],
    }
    return RankingRow(**(fields | given))


def rating(index: int, **given: object) -> RatingRow:
    fields = COMMON | {
        "feedback_id": f"fb_s{index}",
        "completion_id": f"chatcmpl-{index}",
        "created_at": 1790000000.25 + index,
        "fold": "test",
        "completion_token_ids": [70, 4],
        "completion_text": "a pet",
        "version": 0,
        "stars": 4,
    }
    return RatingRow(**(fields | given))


def demonstration(index: int, **given: object) -> DemonstrationRow:
    fields = COMMON | {
        "feedback_id": f"fb_d{index}",
        "completion_id": f"chatcmpl-{index}",
        "created_at": 1790000000.3 + index,
        "fold": "optimize",
        "text": "a pet\u2028that barks",
        "version": 0,
        "trains_policy": True,
    }
    return DemonstrationRow(**(fields | given))


FOUR_PAIRS, TWO_THUMBS, ONE_PROMPT = [pair(index) for index in range(4)], [thumb(0), thumb(1)], [prompt(0)]
OTHERS = {"rankings": [ranking(0)], "ratings": [rating(0), rating(1)], "demonstrations": [demonstration(0)]}


def facts(**given: object) -> dict[str, object]:
    fields = {
        "created": 1.0,
        "last_event": "9-0",
        "dropped": {"tie": 1},
        "live_version": 0,
        "base_sha256": "b",
        "tokenizer_sha256": "t",
    }
    return fields | given


def write(parent, pairs=FOUR_PAIRS, thumbs=TWO_THUMBS, prompts=ONE_PROMPT, **given: object) -> Snapshot:
    others = {name: given.pop(name, rows) for name, rows in OTHERS.items()}
    return snapshot.write(parent, pairs=pairs, thumbs=thumbs, prompts=prompts, **others, **facts(**given))


def test_what_is_written_is_read(tmp_path):
    """Rows come back equal, in the order of their votes; the manifest counts them."""
    prompts = [prompt(index) for index in (2, 0, 1)]
    written = write(tmp_path, pairs=[pair(i) for i in (2, 0, 3, 1)], thumbs=TWO_THUMBS[::-1], prompts=prompts)
    found = snapshot.read(written.directory)
    assert found == written
    assert found.pairs == [pair(i) for i in range(4)]
    assert found.thumbs == TWO_THUMBS
    assert (found.rankings, found.ratings, found.demonstrations) == tuple(OTHERS.values())
    assert found.prompts == [prompt(index) for index in range(3)]
    manifest = written.manifest
    assert (manifest.rows, manifest.policy_rows, manifest.prompts) == (4, 2, 3)
    assert (manifest.schema_version, manifest.thumbs, manifest.policy_thumbs) == (3, 2, 1)
    assert (manifest.rankings, manifest.ratings, manifest.demonstrations, manifest.raters) == (1, 2, 1, 1)
    assert manifest.rows_by_fold == {"optimize": 2, "judge": 1, "test": 1}
    assert written.directory == tmp_path / manifest.id
    expected = [*(f"{name}.parquet" for name in (*TABLES.values(), "votes")), "manifest.json"]
    assert sorted(path.name for path in written.directory.iterdir()) == sorted(expected)


def test_same_rows_are_the_same_snapshot(tmp_path):
    """Writing again, with another clock, changes nothing and leaves nothing behind."""
    first, second = write(tmp_path), write(tmp_path, created=2.0)
    assert second == first
    assert [path.name for path in tmp_path.iterdir()] == [first.manifest.id]


def test_chunks_make_no_difference(tmp_path):
    """Rows that come one by one, in another order and in small chunks, are the same snapshot."""
    expected = write(tmp_path / "whole").manifest
    rows: list[Row] = [*FOUR_PAIRS, *TWO_THUMBS, *ONE_PROMPT, *(row for rows in OTHERS.values() for row in rows)]
    with Writer(tmp_path / "bits", chunk=2) as writer:
        for row in random.Random(1).sample(rows, len(rows)):
            writer.add([row])
        found = writer.finish(**facts(caps={"rater_votes": 20.0}))
    assert found.manifest.id == expected.id
    assert found.manifest.caps == {"rater_votes": 20.0}
    assert sorted(found.pairs, key=lambda row: row.feedback_id) == FOUR_PAIRS


def test_what_was_not_finished_leaves_nothing(tmp_path):
    """An error while rows are made is not half a snapshot."""
    with pytest.raises(ZeroDivisionError), Writer(tmp_path) as writer:
        writer.add(FOUR_PAIRS)
        writer.add(pair(1 // 0) for _ in range(1))
    assert list(tmp_path.iterdir()) == []


EVERY_ROW: list[Row] = [pair(0), thumb(0), ranking(0), rating(0), demonstration(0), prompt(0)]


def test_id_is_over_canonical_rows():
    """The id ignores the order of rows and sees every field of every table, and a row that is there twice."""
    expected = content_id(EVERY_ROW)
    assert content_id(random.Random(0).sample(EVERY_ROW, len(EVERY_ROW))) == expected
    for index, row in enumerate(EVERY_ROW):
        others = EVERY_ROW[:index] + EVERY_ROW[index + 1 :]
        assert content_id([*EVERY_ROW, row]) != expected
        for field in dataclasses.fields(row):
            assert content_id([dataclasses.replace(row, **{field.name: "other"}), *others]) != expected


def canonical(row: Row) -> str:
    return json.dumps(dataclasses.asdict(row), sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@given(
    st.floats(1e-4, 1e15) | st.floats(-1e15, -1e-4) | st.just(0.0),  # beyond, exponents are spelled in another way
    st.text(st.characters(exclude_categories=["Cs"])),
    st.lists(st.integers(0, 2**31 - 1)),
    st.booleans(),
)
def test_a_row_is_hashed_as_canonical_json(number, text, ids, yes):
    """However it is written: the id of a snapshot may not depend on what is fast."""
    pairs = pair(0, created_at=number, chosen_text=text, chosen_token_ids=ids, tie=yes)
    rankings = dataclasses.replace(ranking(0), completion_token_ids=[ids, []], completion_texts=[text], ranks=ids)
    assert list(lines([pairs, rankings])) == [
        ("pairs", canonical(pairs)),
        ("rankings", canonical(rankings)),
    ]


def test_id_by_hand():
    """SHA-256 over the schema's name and the sorted digests of `{table}\\n{JSON}`."""
    lines = [
        b'prompts\n{"cluster":"c0","fold":"judge","prompt":"[]","prompt_token_ids":[1]}',
        b'prompts\n{"cluster":"c1","fold":"judge","prompt":"[]","prompt_token_ids":[1]}',
    ]
    digests = sorted(hashlib.sha256(line).digest() for line in lines)
    expected = hashlib.sha256(b"plumbline snapshot 3\n" + b"".join(digests)).hexdigest()
    assert content_id([prompt(0), prompt(1)]) == expected
    assert content_id([]) == hashlib.sha256(b"plumbline snapshot 3\n").hexdigest()


@pytest.mark.parametrize("table", TABLES.values())
def test_changed_rows_are_refused(tmp_path, table):
    """A snapshot of which a row of any table is missing does not match its name."""
    written = write(tmp_path)
    rows = pq.read_table(written.directory / f"{table}.parquet")
    pq.write_table(rows.slice(1), written.directory / f"{table}.parquet")
    with pytest.raises(UsageError, match="they were changed"):
        snapshot.read(written.directory)


def test_unreadable_snapshots_are_usage_errors(tmp_path):
    """Missing and truncated files are one-line errors."""
    with pytest.raises(UsageError, match="not a readable snapshot"):
        snapshot.read(tmp_path / "nothing")
    written = write(tmp_path)
    (written.directory / "pairs.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="not a readable snapshot"):
        snapshot.read(written.directory)
    (written.directory / "pairs.parquet").unlink()
    with pytest.raises(UsageError, match="not a readable snapshot"):
        snapshot.read(written.directory)


def test_empty_snapshot(tmp_path):
    """No votes at all is a snapshot too."""
    empty = dict.fromkeys(OTHERS, ())
    found = write(tmp_path, pairs=(), thumbs=(), prompts=(), **empty)
    assert (found.manifest.rows, found.last_vote) == (0, 0.0)


def test_last_vote_is_of_any_kind(tmp_path):
    """The newest row of all tables of votes; a snapshot of thumbs alone has one too."""
    empty = dict.fromkeys(OTHERS, ())
    assert write(tmp_path, pairs=FOUR_PAIRS, thumbs=(), **empty).last_vote == FOUR_PAIRS[3].created_at
    assert write(tmp_path, pairs=(), thumbs=TWO_THUMBS, **empty).last_vote == TWO_THUMBS[1].created_at
    assert write(tmp_path, pairs=FOUR_PAIRS, thumbs=[thumb(9)], **empty).last_vote == thumb(9).created_at


def test_folds_are_70_20_10_and_salted():
    """Shares within four standard deviations of 70 / 20 / 10 on 10,000 clusters; another salt, other folds."""
    clusters = [str(index) for index in range(10_000)]
    folds = [fold_of(b"salt", cluster) for cluster in clusters]
    for fold, share, deviation in (("optimize", 7000, 46), ("judge", 2000, 40), ("test", 1000, 30)):
        assert abs(folds.count(fold) - share) < 4 * deviation
    assert folds != [fold_of(b"other", cluster) for cluster in clusters]


def test_clusters_fold_case_and_space_but_keep_roles_and_turns():
    """One cluster for spellings of one prompt; who said it, and in which turn, still matters."""

    def cluster(*turns: tuple[str, str]) -> str:
        return cluster_of([Message(role=role, content=content) for role, content in turns])

    assert cluster(("user", " A  dog\nis")) == cluster(("user", "a dog is"))
    assert cluster(("user", "a dog is")) != cluster(("system", "a dog is"))
    assert cluster(("user", "a"), ("user", "b")) != cluster(("user", "a b"))
    assert cluster(("user", "a dog is")) == hashlib.sha256(b'[["user","a dog is"]]').hexdigest()
