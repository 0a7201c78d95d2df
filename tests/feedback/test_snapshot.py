"""Snapshots on disk: named by their rows, written once, never read when changed."""

import dataclasses
import hashlib
import random

import pyarrow.parquet as pq
import pytest

from core.errors import UsageError
from core.records import Message
from feedback import snapshot
from feedback.snapshot import PairRow, PromptRow, Snapshot, ThumbRow, cluster_of, content_id, fold_of


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


FOUR_PAIRS, TWO_THUMBS, ONE_PROMPT = [pair(index) for index in range(4)], [thumb(0), thumb(1)], [prompt(0)]


def write(parent, pairs=FOUR_PAIRS, thumbs=TWO_THUMBS, prompts=ONE_PROMPT, **given: object) -> Snapshot:
    fields = {
        "created": 1.0,
        "last_event": "9-0",
        "dropped": {"tie": 1},
        "live_version": 0,
        "base_sha256": "b",
        "tokenizer_sha256": "t",
    }
    return snapshot.write(parent, pairs=pairs, thumbs=thumbs, prompts=prompts, **(fields | given))


def test_what_is_written_is_read(tmp_path):
    """Rows come back equal, in the order of their votes; the manifest counts them."""
    written = write(tmp_path, pairs=[pair(i) for i in (2, 0, 3, 1)], thumbs=TWO_THUMBS[::-1])
    assert snapshot.read(written.directory) == written
    assert written.pairs == [pair(i) for i in range(4)]
    assert written.thumbs == TWO_THUMBS
    manifest = written.manifest
    assert (manifest.rows, manifest.policy_rows, manifest.prompts) == (4, 2, 1)
    assert (manifest.schema_version, manifest.thumbs, manifest.policy_thumbs) == (2, 2, 1)
    assert manifest.rows_by_fold == {"optimize": 2, "judge": 1, "test": 1}
    assert written.directory == tmp_path / manifest.id
    assert sorted(path.name for path in written.directory.iterdir()) == [
        "manifest.json",
        "pairs.parquet",
        "prompts.parquet",
        "thumbs.parquet",
    ]


def test_same_rows_are_the_same_snapshot(tmp_path):
    """Writing again, with another clock, changes nothing and leaves nothing behind."""
    first, second = write(tmp_path), write(tmp_path, created=2.0)
    assert second == first
    assert [path.name for path in tmp_path.iterdir()] == [first.manifest.id]


def test_id_is_over_canonical_rows():
    """The id ignores the order of rows and sees every field."""
    rows, thumbs = [pair(i) for i in range(20)], [thumb(i) for i in range(20)]
    expected = content_id(rows, thumbs, [])
    shuffled = random.Random(0)
    assert content_id(shuffled.sample(rows, 20), shuffled.sample(thumbs, 20), []) == expected
    for field in dataclasses.fields(PairRow):
        changed = dataclasses.replace(rows[0], **{field.name: "other"})
        assert content_id([changed, *rows[1:]], thumbs, []) != expected
    for field in dataclasses.fields(ThumbRow):
        other = dataclasses.replace(thumbs[0], **{field.name: "other"})
        assert content_id(rows, [other, *thumbs[1:]], []) != expected
    assert content_id([], [], []) == hashlib.sha256(b"pairs\nthumbs\nprompts\n").hexdigest()


def test_a_snapshot_of_schema_1_is_read_as_without_thumbs(tmp_path):
    """What was written before there were thumbs and AI raters keeps its name, and its raters are people."""
    written = write(tmp_path, thumbs=())
    old = content_id(FOUR_PAIRS, [], ONE_PROMPT, schema=1)
    directory = written.directory.rename(tmp_path / old)
    table = pq.read_table(directory / "pairs.parquet").drop_columns(["rater_kind"])
    pq.write_table(table, directory / "pairs.parquet")
    (directory / "thumbs.parquet").unlink()
    manifest = written.manifest.model_copy(update={"id": old, "schema_version": 1, "thumbs": 7})
    (directory / "manifest.json").write_text(manifest.model_dump_json(by_alias=True, exclude={"policy_thumbs"}))
    found = snapshot.read(directory)
    assert (found.pairs, found.thumbs, found.prompts) == (FOUR_PAIRS, [], ONE_PROMPT)
    assert (found.manifest.schema_version, found.manifest.thumbs, found.manifest.policy_thumbs) == (1, 7, 0)


def test_changed_rows_are_refused(tmp_path):
    """A snapshot whose rows were edited does not match its name."""
    written = write(tmp_path)
    table = pq.read_table(written.directory / "pairs.parquet")
    pq.write_table(table.slice(1), written.directory / "pairs.parquet")
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


def test_empty_snapshot(tmp_path):
    """No votes at all is a snapshot too."""
    assert write(tmp_path, pairs=(), thumbs=(), prompts=()).manifest.rows == 0


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
