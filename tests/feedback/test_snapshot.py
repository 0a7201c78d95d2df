"""Snapshots on disk: named by their rows, written once, never read when changed."""

import dataclasses
import hashlib
import random

import pyarrow.parquet as pq
import pytest

from core.errors import UsageError
from core.records import Message
from feedback import snapshot
from feedback.snapshot import PairRow, PromptRow, Snapshot, cluster_of, content_id, fold_of


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


def prompt(index: int) -> PromptRow:
    return PromptRow(cluster=f"c{index}", fold="judge", prompt="[]", prompt_token_ids=[1])


FOUR_PAIRS, ONE_PROMPT = [pair(index) for index in range(4)], [prompt(0)]


def write(parent, pairs=FOUR_PAIRS, prompts=ONE_PROMPT, **given: object) -> Snapshot:
    fields = {
        "created": 1.0,
        "last_event": "9-0",
        "dropped": {"tie": 1},
        "thumbs": 2,
        "live_version": 0,
        "base_sha256": "b",
        "tokenizer_sha256": "t",
    }
    return snapshot.write(parent, pairs=pairs, prompts=prompts, **(fields | given))


def test_what_is_written_is_read(tmp_path):
    """Rows come back equal, in the order of their votes; the manifest counts them."""
    written = write(tmp_path, pairs=[pair(i) for i in (2, 0, 3, 1)])
    assert snapshot.read(written.directory) == written
    assert written.pairs == [pair(i) for i in range(4)]
    manifest = written.manifest
    assert (manifest.rows, manifest.policy_rows, manifest.prompts) == (4, 2, 1)
    assert manifest.rows_by_fold == {"optimize": 2, "judge": 1, "test": 1}
    assert written.directory == tmp_path / manifest.id
    assert sorted(path.name for path in written.directory.iterdir()) == [
        "manifest.json",
        "pairs.parquet",
        "prompts.parquet",
    ]


def test_same_rows_are_the_same_snapshot(tmp_path):
    """Writing again, with another clock, changes nothing and leaves nothing behind."""
    first, second = write(tmp_path), write(tmp_path, created=2.0)
    assert second == first
    assert [path.name for path in tmp_path.iterdir()] == [first.manifest.id]


def test_id_is_over_canonical_rows():
    """The id ignores the order of rows and sees every field."""
    rows = [pair(i) for i in range(20)]
    shuffled = random.Random(0).sample(rows, 20)
    assert content_id(shuffled, []) == content_id(rows, [])
    for field in dataclasses.fields(PairRow):
        changed = dataclasses.replace(rows[0], **{field.name: "other"})
        assert content_id([changed, *rows[1:]], []) != content_id(rows, [])
    assert content_id([], []) == hashlib.sha256(b"pairs\nprompts\n").hexdigest()


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
    assert write(tmp_path, pairs=(), prompts=()).manifest.rows == 0


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
