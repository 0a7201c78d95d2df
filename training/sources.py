"""Files of votes and demonstrations → rows of token ids.

`--data` takes a snapshot directory, or a JSONL or Parquet file in TRL's formats:

    preference    {"prompt", "chosen", "rejected"}; optional "tie", "margin", "weight"
    ranking       {"prompt", "completions": [best, …, worst]}; optional "ranks": [1, 1, 2] for ties, "weight"
    unpaired      {"prompt", "completion", "label": true or false}; optional "weight"
    rated         {"prompt", "completion", "rating": 1 to 5}; optional "weight"
    messages      {"messages": […]}, or {"prompt", "completion"}; optional "weight"
    prompts       {"prompt"}

Each text is plain, or conversational: a list of messages, `[{"role": "user", "content": "A dog is"}]`, rendered by the
base's chat template. In a preference without "prompt" the messages that both sides begin with are the prompt. The last
assistant message is the completion; what stands before it is the prompt, and is not trained on.

Rankings and ratings are for the reward model, whose files may mix the first four formats: each row is a vote.
A snapshot's rows keep the ids that the engine sampled; text, and with it what a rater wrote, is encoded
(training/encoder.py).
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from core.errors import UsageError
from feedback import snapshot as snapshots
from feedback.snapshot import DemonstrationRow, PairRow, RankingRow, RatingRow, ThumbRow
from training.data import Demonstration, Pair, Text, Thumb
from training.encoder import Encoder
from training.reward_rows import Ranking, Rating, Vote, texts_of

Format = Literal["preference", "unpaired", "messages", "prompts", "reward"]
Row = dict[str, Any]
T = TypeVar("T")
_COLUMNS: dict[Format, tuple[set[str], ...]] = {
    "preference": ({"chosen", "rejected"},),
    "unpaired": ({"prompt", "completion", "label"},),
    "messages": ({"messages"}, {"prompt", "completion"}),
    "prompts": ({"prompt"},),
    "reward": (
        {"chosen", "rejected"},
        {"prompt", "completions"},
        {"prompt", "completion", "label"},
        {"prompt", "completion", "rating"},
    ),
}
_TEXTS = ("prompt", "chosen", "rejected", "completion", "messages")
"""Columns that hold plain text or a list of messages."""


def policy_pairs(data: Path, encoder: Encoder | None) -> list[Pair]:
    """What may train the policy: of a snapshot the rows that it names, with the pairs of rankings; of a file all that
    are no ties."""
    if encoder is None:
        return [stored(row) for row in snapshots.read(data).pairs if row.trains_policy and not row.tie]
    return [pair for pair in preferences(data, encoder) if not pair.tie]


def reward_votes(data: Path, encoder: Encoder | None) -> list[Vote]:
    """What a reward model learns from and is tested on: all votes of a snapshot, with their folds; of a file, whose
    rows may be of several formats, every tenth prompt by its hash is the test fold.

    Raises:
        UsageError: the file cannot be read, or a row is no vote; names the row.
    """
    if encoder is None:
        snapshot = snapshots.read(data)
        pairs = [row for row in snapshot.pairs if not row.ranked]  # a ranking is one vote
        rows: list[PairRow | ThumbRow | RankingRow | RatingRow]
        rows = [*pairs, *snapshot.thumbs, *snapshot.rankings, *snapshot.ratings]
        return [_stored_vote(row) for row in rows]
    return _each(data, "reward", lambda row: _vote(row, encoder))


def _stored_vote(row: PairRow | ThumbRow | RankingRow | RatingRow) -> Vote:
    found: Pair | Thumb | Ranking | Rating
    match row:
        case PairRow():
            found, version = stored(row), max(row.chosen_version, row.rejected_version)
        case RankingRow():
            found, version = _stored_ranking(row), max(row.versions)
        case ThumbRow():
            found, version = _stored_thumb(row), row.version
        case RatingRow():
            found, version = _stored_rating(row), row.version
    return Vote(row=found, id=row.feedback_id, rater_kind=row.rater_kind, fold=row.fold, version=version)


def _vote(row: Row, encoder: Encoder) -> Vote:
    found = _votes_row(row, encoder)
    said = json.dumps([type(found).__name__, dataclasses.asdict(found)], sort_keys=True)
    prompt = texts_of(found)[0].prompt
    return Vote(row=found, id=hashlib.sha256(said.encode()).hexdigest(), fold="test" if _held_out(prompt) else None)


def _votes_row(row: Row, encoder: Encoder) -> Pair | Ranking | Thumb | Rating:
    if "chosen" in row:
        return _pair(row, encoder)
    if "completions" in row:
        return _ranking(row, encoder)
    if "label" in row and "rating" in row:
        raise ValueError("it has a label and a rating; one vote is one of them")
    return _thumb(row, encoder) if "label" in row else _rating(row, encoder)


def _ranking(row: Row, encoder: Encoder) -> Ranking:
    completions = row["completions"]
    if not isinstance(completions, list) or len(completions) < 2:
        raise ValueError("completions must be a list of two or more, the best one first")
    ranks = row.get("ranks", list(range(1, len(completions) + 1)))
    whole = isinstance(ranks, list) and all(isinstance(rank, int) for rank in ranks)
    if not whole or len(ranks) != len(completions) or ranks != sorted(ranks):
        raise ValueError(f"ranks must be a whole number for each completion and never fall, they are {ranks!r}")
    texts = [encoder.text(row["prompt"], completion) for completion in completions]
    for (i, one), (j, other) in combinations(enumerate(texts, start=1), 2):
        if one.completion == other.completion:
            raise ValueError(f"completions {i} and {j} are the same")
    return Ranking(texts=texts, ranks=ranks, weight=_number(row, "weight", 1.0))


def _rating(row: Row, encoder: Encoder) -> Rating:
    stars = row["rating"]
    if isinstance(stars, bool) or stars not in (1, 2, 3, 4, 5):
        raise ValueError(f"rating must be 1, 2, 3, 4 or 5, it is {stars!r}")
    text = encoder.text(row["prompt"], row["completion"])
    return Rating(text=text, stars=int(stars), weight=_number(row, "weight", 1.0))


def policy_thumbs(data: Path, encoder: Encoder | None) -> list[Thumb]:
    """What may train the policy: of a snapshot the thumbs that it names, of a file all."""
    if encoder is None:
        return [_stored_thumb(row) for row in snapshots.read(data).thumbs if row.trains_policy]
    return thumbs(data, encoder)


def policy_demonstrations(data: Path, encoder: Encoder) -> list[Demonstration]:
    """What may train the policy: of a snapshot the edited answers that it names, behind the prompt's ids as they were
    served; of a file all.

    Raises:
        UsageError: the file cannot be read, or a row is no demonstration; names the row.
    """
    if not data.is_dir():
        return demonstrations(data, encoder)
    rows = snapshots.read(data).demonstrations
    return [_stored_demonstration(row, encoder) for row in rows if row.trains_policy]


def _stored_demonstration(row: DemonstrationRow, encoder: Encoder) -> Demonstration:
    try:
        text = encoder.text(json.loads(row.prompt), [{"role": "assistant", "content": row.text}])
    except ValueError as error:
        raise UsageError(f"The correction {row.feedback_id} cannot be encoded: {error}.") from None
    served = Text(prompt=list(row.prompt_token_ids), completion=text.completion)
    return Demonstration(text=served, weight=row.weight)


def _stored_thumb(row: ThumbRow) -> Thumb:
    text = Text(prompt=list(row.prompt_token_ids), completion=list(row.completion_token_ids))
    return Thumb(text=text, up=row.up, weight=row.weight)


def _stored_rating(row: RatingRow) -> Rating:
    text = Text(prompt=list(row.prompt_token_ids), completion=list(row.completion_token_ids))
    return Rating(text=text, stars=row.stars, weight=row.weight)


def _stored_ranking(row: RankingRow) -> Ranking:
    prompt = list(row.prompt_token_ids)
    texts = [Text(prompt=prompt, completion=list(ids)) for ids in row.completion_token_ids]
    return Ranking(texts=texts, ranks=list(row.ranks), weight=row.weight)


def stored(row: PairRow) -> Pair:
    """A row of a snapshot, with the ids as they were sampled."""
    prompt = list(row.prompt_token_ids)
    return Pair(
        chosen=Text(prompt=prompt, completion=list(row.chosen_token_ids)),
        rejected=Text(prompt=prompt, completion=list(row.rejected_token_ids)),
        tie=row.tie,
        weight=row.weight,
    )


def _held_out(prompt: list[int]) -> bool:
    return hashlib.sha256(json.dumps(prompt).encode()).digest()[0] % 10 == 0


def preferences(path: Path, encoder: Encoder) -> list[Pair]:
    """Rows of a preference file.

    Raises:
        UsageError: the file cannot be read, or a row is no preference; names the row.
    """
    return _each(path, "preference", lambda row: _pair(row, encoder))


def thumbs(path: Path, encoder: Encoder) -> list[Thumb]:
    """Rows of an unpaired file; the errors of `preferences`."""
    return _each(path, "unpaired", lambda row: _thumb(row, encoder))


def demonstrations(path: Path, encoder: Encoder) -> list[Demonstration]:
    """Rows of a messages file; the errors of `preferences`."""
    return _each(path, "messages", lambda row: _demonstration(row, encoder))


def prompts(path: Path, encoder: Encoder) -> list[list[int]]:
    """Prompts of any file that has some; the errors of `preferences`."""
    return _each(path, "prompts", lambda row: encoder.prompt(row["prompt"]))


def _pair(row: Row, encoder: Encoder) -> Pair:
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is None:
        prompt, chosen, rejected = _common_start(chosen, rejected)
    pair = Pair(
        chosen=encoder.text(prompt, chosen),
        rejected=encoder.text(prompt, rejected),
        tie=_flag(row, "tie"),
        weight=_number(row, "weight", 1.0),
        margin=_number(row, "margin", 0.0),
    )
    if pair.chosen.completion == pair.rejected.completion:
        raise ValueError("chosen and rejected are the same")
    return pair


def _common_start(chosen: object, rejected: object) -> tuple[list[Row], list[Row], list[Row]]:
    if not (isinstance(chosen, list) and isinstance(rejected, list)):
        raise ValueError("plain text needs a prompt")
    count = 0
    while count < min(len(chosen), len(rejected)) and chosen[count] == rejected[count]:
        count += 1
    count = min(count, len(chosen) - 1, len(rejected) - 1)
    return chosen[:count], chosen[count:], rejected[count:]


def _thumb(row: Row, encoder: Encoder) -> Thumb:
    text = encoder.text(row["prompt"], row["completion"])
    return Thumb(text=text, up=_flag(row, "label"), weight=_number(row, "weight", 1.0))


def _demonstration(row: Row, encoder: Encoder) -> Demonstration:
    if "messages" in row:
        if not isinstance(row["messages"], list):
            raise ValueError("messages must be a list of messages")
        prompt, completion = row["messages"][:-1], row["messages"][-1:]
    else:
        prompt, completion = row["prompt"], row["completion"]
    return Demonstration(text=encoder.text(prompt, completion), weight=_number(row, "weight", 1.0))


def _flag(row: Row, name: str) -> bool:
    value = row.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, it is {value!r}")
    return value


def _number(row: Row, name: str, default: float) -> float:
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be a number that is not negative, it is {value!r}")
    return float(value)


def _each(path: Path, kind: Format, convert: Callable[[Row], T]) -> list[T]:
    found = []
    conversational: bool | None = None
    for number, row in enumerate(_rows(path), start=1):
        where = f"{path}, row {number}"
        if not any(columns <= row.keys() for columns in _COLUMNS[kind]):
            wanted = " or ".join(", ".join(sorted(columns)) for columns in _COLUMNS[kind])
            raise UsageError(f"{where}: {kind} rows need {wanted}; this one has {', '.join(sorted(row)) or 'nothing'}.")
        is_list = any(isinstance(row.get(column), list) for column in _TEXTS)
        if conversational not in (None, is_list):
            raise UsageError(f"{where}: the file mixes plain text and lists of messages; use one of them.")
        conversational = is_list
        try:
            found.append(convert(row))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{where}: {error}.") from None
    if not found:
        raise UsageError(f"{path} holds no rows.")
    return found


def _rows(path: Path) -> Iterator[Row]:
    try:
        if path.suffix == ".parquet":
            yield from _without_nulls(pq.read_table(path).to_pylist())
        elif path.suffix in (".jsonl", ".json"):
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield from _without_nulls([_object(line, path, number)])
        else:
            raise UsageError(f"--data {path}: expected a snapshot directory, a .jsonl or a .parquet file.")
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _without_nulls(rows: Iterable[Row]) -> Iterator[Row]:
    """Parquet has every column in every row; what is null is not there."""
    for row in rows:
        yield {name: value for name, value in row.items() if value is not None}


def _object(line: str, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}, row {number} is not JSON: {error}.") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}, row {number} is not a JSON object.")
    return row
