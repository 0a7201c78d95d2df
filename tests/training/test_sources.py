"""Files in TRL's formats and snapshots → rows; what is wrong with a file is said with the number of the row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import UsageError
from tests.training.conftest import EOS
from training import sources
from training.data import Pair, Text, Thumb
from training.encoder import Encoder
from training.reward_rows import Ranking, Rating, parts

USER, FIRST, SECOND = (
    {"role": role, "content": text} for role, text in (("user", "w1"), ("assistant", "w2"), ("assistant", "w3"))
)
W1, W2, W3 = 7, 8, 9
PLAIN = {"prompt": "w1", "chosen": "w2", "rejected": "w3"}
CHAT = {"prompt": [USER], "chosen": [FIRST], "rejected": [SECOND]}


def write(directory: Path, *rows: object, form: str = "jsonl") -> Path:
    path = directory / f"rows.{form}"
    if form == "parquet":
        names = {name: None for row in rows for name in row}
        pq.write_table(pa.Table.from_pylist([names | row for row in rows]), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (PLAIN, [W1]),
        (CHAT, [4, W1, 5]),
        ({"chosen": [USER, FIRST], "rejected": [USER, SECOND]}, [4, W1, 5]),
        ({"prompt": None, "chosen": [USER, FIRST], "rejected": [USER, SECOND]}, [4, W1, 5]),
    ],
    ids=["plain", "conversational", "implicit prompt", "null prompt"],
)
def test_preferences(tmp_path: Path, encoder: Encoder, row: dict[str, object], prompt: list[int], form: str) -> None:
    """Each of TRL's forms gives the same pair; the prompt is what both sides begin with."""
    (pair,) = sources.preferences(write(tmp_path, row, form=form), encoder)

    assert pair.chosen == Text(prompt=prompt, completion=[W2, EOS])
    assert pair.rejected == Text(prompt=prompt, completion=[W3, EOS])
    assert (pair.tie, pair.weight, pair.margin) == (False, 1.0, 0.0)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_ties_weights_and_margins(tmp_path: Path, encoder: Encoder, form: str) -> None:
    """They are optional in each row; a zero is a value; ties train no policy."""
    rows = [PLAIN | {"tie": True}, PLAIN | {"weight": 0.0}, PLAIN | {"margin": 0.5, "weight": 2}]
    path = write(tmp_path, *rows, form=form)
    found = sources.preferences(path, encoder)

    assert [(pair.tie, pair.weight, pair.margin) for pair in found] == [(True, 1, 0), (False, 0, 0), (False, 2, 0.5)]
    assert sources.policy_pairs(path, encoder) == found[1:]


def test_columns_that_are_not_ours_are_ignored(tmp_path: Path, encoder: Encoder) -> None:
    """A list among them does not make a row conversational."""
    assert sources.preferences(write(tmp_path, PLAIN, PLAIN | {"tags": ["a"], "id": 7}), encoder)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(("prompt", "completion", "ids"), [("w1", "w2", [W1]), ([USER], [FIRST], [4, W1, 5])])
def test_unpaired(
    tmp_path: Path, encoder: Encoder, prompt: object, completion: object, ids: list[int], form: str
) -> None:
    """Both labels survive: a false one is a thumb down, not a missing one (trap 32)."""
    rows = [{"prompt": prompt, "completion": completion, "label": label} for label in (True, False)]
    path = write(tmp_path, *rows, form=form)
    found = sources.policy_thumbs(path, encoder)

    assert [thumb.up for thumb in found] == [True, False]
    assert {tuple(thumb.text.prompt) for thumb in found} == {tuple(ids)}
    assert [vote.row for vote in sources.reward_votes(path, encoder)] == found


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [USER, FIRST, USER, SECOND]}, [4, W1, 5, W2, EOS, 4, W1, 5]),
        ({"prompt": "w1", "completion": "w3"}, [W1]),
        ({"prompt": [USER], "completion": [SECOND]}, [4, W1, 5]),
    ],
)
def test_demonstrations(tmp_path: Path, encoder: Encoder, row: dict[str, object], prompt: list[int], form: str) -> None:
    """The last answer is imitated; what stands before it is the prompt."""
    (demonstration,) = sources.demonstrations(write(tmp_path, row, form=form), encoder)

    assert demonstration.text == Text(prompt=prompt, completion=[W3, EOS])


def test_prompts_of_any_file(tmp_path: Path, encoder: Encoder) -> None:
    assert sources.prompts(write(tmp_path, PLAIN, {"prompt": "w2 w3"}), encoder) == [[W1], [W2, W3]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "w1", "chosen": "w2"}, "need chosen, rejected; this one has chosen, prompt"),
        ({}, "this one has nothing"),
        (PLAIN | {"rejected": ""}, "the completion is empty"),
        (PLAIN | {"rejected": "w2"}, "chosen and rejected are the same"),
        (PLAIN | {"rejected": "w2 <eos>"}, "chosen and rejected are the same"),
        (PLAIN | {"prompt": "w1 " * 64}, "the prompt has 64 tokens, the base's window 64"),
        (CHAT, "mixes plain text and lists of messages"),
        ({"chosen": "w1 w2", "rejected": "w1 w3"}, "plain text needs a prompt"),
        (PLAIN | {"chosen": 7}, "both be text"),
        (PLAIN | {"weight": -1}, "weight must be a number that is not negative, it is -1"),
        (PLAIN | {"weight": "much"}, "weight must be a number"),
        (PLAIN | {"weight": float("nan")}, "weight must be a number"),
        (PLAIN | {"margin": float("inf")}, "margin must be a number"),
        (PLAIN | {"tie": "no"}, "tie must be true or false, it is 'no'"),
        ([1], "is not a JSON object"),
    ],
)
def test_a_bad_preference_is_named(tmp_path: Path, encoder: Encoder, row: object, message: str) -> None:
    """The error says which row and what is wrong with it; the good row before it does not hide it."""
    with pytest.raises(UsageError, match="row 2") as caught:
        sources.preferences(write(tmp_path, PLAIN, row), encoder)
    assert message in str(caught.value)


@pytest.mark.parametrize("label", [1, "yes", None])
def test_a_label_is_true_or_false(tmp_path: Path, encoder: Encoder, label: object) -> None:
    with pytest.raises(UsageError, match=r"row 1: (label must be true or false|unpaired rows need)"):
        sources.thumbs(write(tmp_path, {"prompt": "w1", "completion": "w2", "label": label}), encoder)


@pytest.mark.parametrize("row", [{"messages": [USER]}, {"messages": []}, {"messages": "w1 w2"}, {"messages": ["w1"]}])
def test_bad_messages_are_named(tmp_path: Path, encoder: Encoder, row: object) -> None:
    with pytest.raises(UsageError, match="row 1: "):
        sources.demonstrations(write(tmp_path, row), encoder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b'{"prompt": "w1"\n', "row 1 is not JSON"),
        ("rows.jsonl", b"\xff\xfe", "cannot be read"),
        ("rows.jsonl", b"\n \n", "holds no rows"),
        ("rows.parquet", b"PAR1", "cannot be read"),
        ("rows.csv", b"prompt,chosen,rejected", "expected a snapshot directory, a .jsonl or a .parquet file"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, encoder: Encoder, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=message):
        sources.preferences(tmp_path / name, encoder)


RANKING = {"prompt": "w1", "completions": ["w2", "w3", "w4"]}
RATED = {"prompt": "w1", "completion": "w2", "rating": 4}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_reward_models_file_mixes_votes(tmp_path: Path, encoder: Encoder, form: str) -> None:
    """Each row is one vote, and its columns say of which kind; the same row has the same id in every file."""
    thumb = {"prompt": "w1", "completion": "w2", "label": False}
    rows = [PLAIN, RANKING | {"ranks": [1, 2, 2], "weight": 3}, thumb, RATED]
    found = sources.reward_votes(write(tmp_path, *rows, form=form), encoder)
    texts = [Text(prompt=[W1], completion=[token, EOS]) for token in (W2, W3, 10)]
    (again,) = sources.reward_votes(write(tmp_path, RATED, form="jsonl"), encoder)

    assert [vote.row for vote in found] == [
        Pair(chosen=texts[0], rejected=texts[1], tie=False, weight=1.0),
        Ranking(texts=texts, ranks=[1, 2, 2], weight=3.0),
        Thumb(text=texts[0], up=False, weight=1.0),
        Rating(text=texts[0], stars=4, weight=1.0),
    ]
    assert len({vote.id for vote in found}) == 4
    assert again.id == found[3].id


def test_conversations_are_ranked_too(tmp_path: Path, encoder: Encoder) -> None:
    """Without ranks no two completions are as good as each other."""
    path = write(tmp_path, {"prompt": [USER], "completions": [[SECOND], [FIRST]]})
    (vote,) = sources.reward_votes(path, encoder)

    assert [text.completion for text in vote.row.texts] == [[W3, EOS], [W2, EOS]]
    assert vote.row.ranks == [1, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "w1"}, "reward rows need chosen, rejected or completions, prompt or completion, label, prompt or"),
        (RANKING | {"completions": ["w2"]}, "completions must be a list of two or more"),
        (RANKING | {"completions": "w2 w3"}, "completions must be a list of two or more"),
        (RANKING | {"completions": ["w2", "w3", "w2"]}, "completions 1 and 3 are the same"),
        (RANKING | {"ranks": [1, 2]}, "ranks must be a whole number for each completion and never fall"),
        (RANKING | {"ranks": [2, 1, 3]}, "ranks must be a whole number for each completion and never fall"),
        (RANKING | {"ranks": [1, 1.5, 2]}, "ranks must be a whole number"),
        (RATED | {"rating": 0}, "rating must be 1, 2, 3, 4 or 5, it is 0"),
        (RATED | {"rating": True}, "rating must be 1, 2, 3, 4 or 5, it is True"),
        (RATED | {"rating": 4.5}, "rating must be 1, 2, 3, 4 or 5, it is 4.5"),
        (RATED | {"label": True}, "it has a label and a rating"),
    ],
)
def test_a_bad_vote_is_named(tmp_path: Path, encoder: Encoder, row: object, message: str) -> None:
    with pytest.raises(UsageError, match="row 2") as caught:
        sources.reward_votes(write(tmp_path, PLAIN, row), encoder)
    assert message in str(caught.value)


@pytest.mark.parametrize("row", [RANKING, RATED])
def test_only_reward_models_take_rankings_and_ratings(tmp_path: Path, encoder: Encoder, row: object) -> None:
    path = write(tmp_path, row)
    for read in (sources.preferences, sources.thumbs):
        with pytest.raises(UsageError, match=r"row 1: (preference|unpaired) rows need"):
            read(path, encoder)


def test_a_files_test_rows_are_a_function_of_the_prompt(tmp_path: Path, encoder: Encoder) -> None:
    """About a tenth, the same whatever the order, and never one prompt on both sides."""
    rows = [PLAIN | {"prompt": f"w{i % 80} w{i % 7}"} for i in range(560)]
    trained, tested = parts(sources.reward_votes(write(tmp_path, *rows), encoder), ["optimize"])
    again = parts(sources.reward_votes(write(tmp_path, *rows[::-1]), encoder), ["judge"])

    assert 0.02 < len(tested) / 560 < 0.25
    assert not {tuple(it.row.chosen.prompt) for it in trained} & {tuple(it.row.chosen.prompt) for it in tested}
    assert again[1] == tested[::-1]
