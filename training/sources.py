"""Files of votes and demonstrations → rows of token ids.

`--data` takes a snapshot directory, or a JSONL or Parquet file in TRL's formats:

    preference    {"prompt", "chosen", "rejected"}; optional "tie", "margin", "weight"
    unpaired      {"prompt", "completion", "label": true or false}; optional "weight"
    messages      {"messages": […]}, or {"prompt", "completion"}; optional "weight"
    prompts       {"prompt"}

Each text is plain, or conversational: a list of messages, `[{"role": "user", "content": "A dog is"}]`, rendered by the
base's chat template. In a preference without "prompt" the messages that both sides begin with are the prompt. The last
assistant message is the completion; what stands before it is the prompt, and is not trained on.

A snapshot's rows keep the ids that the engine sampled. Here text must be encoded, prompt and completion each for
itself: that is what happens when the prompt is served and the completion is sampled (training notes §3, trap 8).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from core.errors import UsageError
from core.records import Fold
from feedback import snapshot as snapshots
from feedback.snapshot import PairRow
from training.data import Demonstration, Pair, Text, Thumb

Format = Literal["preference", "unpaired", "messages", "prompts"]
Row = dict[str, Any]
T = TypeVar("T")
_COLUMNS: dict[Format, tuple[set[str], ...]] = {
    "preference": ({"chosen", "rejected"},),
    "unpaired": ({"prompt", "completion", "label"},),
    "messages": ({"messages"}, {"prompt", "completion"}),
    "prompts": ({"prompt"},),
}


class Encoder:
    """Text → ids, by the tokenizer and chat template that lie beside the base's weights."""

    def __init__(self, base: Path, eos_ids: list[int]) -> None:
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
        self._eos_ids = eos_ids

    def text(self, prompt: object, completion: object) -> Text:
        """Both plain or both conversational. The completion's ids end with exactly one end-of-text token.

        Raises:
            ValueError: they are of different kinds, or empty, or the template does not go on from the prompt.
        """
        if isinstance(prompt, str) and isinstance(completion, str):
            prompt_ids, rest = self._plain(prompt), completion
        elif isinstance(prompt, list) and isinstance(completion, list):
            prompt_ids, rest = self._conversation(prompt, completion)
        else:
            raise ValueError("prompt and completion must both be text, or both be lists of messages")
        return Text(prompt=prompt_ids, completion=self._ended(self._ids(rest)))

    def prompt(self, prompt: object) -> list[int]:
        """The ids that serving makes of it."""
        if isinstance(prompt, str):
            return self._plain(prompt)
        if isinstance(prompt, list) and prompt:
            return self._ids(self._render(prompt, generation=True))
        raise ValueError("prompt must be text or a list of messages")

    def _plain(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer(prompt)["input_ids"]
        while ids and ids[-1] in self._eos_ids:  # some tokenizers end every text; this one goes on
            ids.pop()
        if not ids:
            raise ValueError("the prompt is empty")
        return ids

    def _conversation(self, prompt: list[Row], completion: list[Row]) -> tuple[list[int], str]:
        if not prompt or not completion:
            raise ValueError("prompt and completion need a message each")
        if completion[-1].get("role") != "assistant" or not str(completion[-1].get("content") or "").strip():
            raise ValueError("the completion must end with a message of the assistant that says something")
        context = prompt + completion[:-1]
        before, whole = self._render(context, generation=True), self._render(context + completion[-1:])
        if not whole.startswith(before):
            raise ValueError("the chat template renders the prompt differently once there is an answer")
        return self._ids(before), whole.removeprefix(before)

    def _render(self, messages: list[Row], *, generation: bool = False) -> str:
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        except Exception as error:  # a template raises whatever its author thought of
            raise ValueError(f"the chat template refuses these messages: {error}") from None
        return str(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _ended(self, ids: list[int]) -> list[int]:
        """Up to the first end-of-text token, where sampling would have ended; with one where the text has none."""
        for index, token in enumerate(ids):
            if token in self._eos_ids:
                ids = ids[:index]
                break
        if not ids:
            raise ValueError("the completion is empty")
        return [*ids, self._eos_ids[0]]


def policy_pairs(data: Path, encoder: Encoder | None) -> list[Pair]:
    """What may train the policy: of a snapshot the rows that it names, of a file all that are no ties."""
    if encoder is None:
        return [stored(row) for row in snapshots.read(data).pairs if row.trains_policy and not row.tie]
    return [pair for pair in preferences(data, encoder) if not pair.tie]


def reward_pairs(data: Path, encoder: Encoder | None, *, folds: Sequence[Fold]) -> tuple[list[Pair], list[Pair]]:
    """What trains a reward model, and what it is tested on: the test fold of a snapshot, or of a file every tenth
    prompt by its hash."""
    if encoder is None:
        rows = snapshots.read(data).pairs
        return [stored(row) for row in rows if row.fold in folds], [stored(row) for row in rows if row.fold == "test"]
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in preferences(data, encoder):
        parts[_held_out(pair.chosen.prompt)].append(pair)
    return parts


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


def digest(path: Path) -> str:
    """Names the data: SHA-256 of the file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pair(row: Row, encoder: Encoder) -> Pair:
    prompt, chosen, rejected = row.get("prompt"), row["chosen"], row["rejected"]
    if prompt is None:
        prompt, chosen, rejected = _common_start(chosen, rejected)
    pair = Pair(
        chosen=encoder.text(prompt, chosen),
        rejected=encoder.text(prompt, rejected),
        tie=bool(row.get("tie") or False),
        weight=_weight(row),
        margin=float(row.get("margin") or 0.0),
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
    if not isinstance(row["label"], bool):
        raise ValueError(f"label must be true or false, it is {row['label']!r}")
    return Thumb(text=encoder.text(row["prompt"], row["completion"]), up=row["label"], weight=_weight(row))


def _demonstration(row: Row, encoder: Encoder) -> Demonstration:
    if "messages" in row:
        prompt, completion = row["messages"][:-1], row["messages"][-1:]
    else:
        prompt, completion = row["prompt"], row["completion"]
    return Demonstration(text=encoder.text(prompt, completion), weight=_weight(row))


def _weight(row: Row) -> float:
    weight = row.get("weight")
    weight = 1.0 if weight is None else float(weight)
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight must be a number that is not negative, it is {weight}")
    return weight


def _each(path: Path, kind: Format, convert: Callable[[Row], T]) -> list[T]:
    found = []
    conversational: bool | None = None
    for number, row in enumerate(_rows(path), start=1):
        where = f"{path}, row {number}"
        if not any(columns <= row.keys() for columns in _COLUMNS[kind]):
            wanted = " or ".join(", ".join(sorted(columns)) for columns in _COLUMNS[kind])
            raise UsageError(
                f"{where}: a {kind} row needs {wanted}; this one has {', '.join(sorted(row)) or 'nothing'}."
            )
        is_list = any(isinstance(value, list) for value in row.values())
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
                        yield _object(line, path, number)
        else:
            raise UsageError(f"--data {path}: expected a snapshot directory, a .jsonl or a .parquet file.")
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _without_nulls(rows: Iterable[Row]) -> Iterator[Row]:
    """Parquet has every column in every row."""
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
