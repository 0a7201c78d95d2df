"""A snapshot's rows in the formats that others read, as JSON lines; `python -m feedback.export` is what the API runs.

    trl-preference   pairs            {"prompt": [message], "chosen": [message], "rejected": [message], …}
    trl-kto          thumbs           {"prompt": [message], "completion": [message], "label": true, …}
    trl-sft          demonstrations   {"messages": [message, …], …}
    openai-dpo       pairs            {"input": {"messages", "tools", "parallel_tool_calls"}, "preferred_output", …}
    raw              all tables       {"table": "pairs", "row": "{…}"}
    events           the log          {"entry": "1790000003200-0", "type": "feedback", "event": "{…}"}

The formats for TRL carry `weight`, `fold` and `feedback_id` beside TRL's own columns. OpenAI's has exactly the fields
that its fine-tuning API names. A raw line holds a row as it enters the snapshot's id (feedback/snapshot.py): the id is
the SHA-256 of `plumbline snapshot 3\\n` and the sorted SHA-256 digests of `{table}\\n{row}`. `events` is the log that
the snapshot was cut from, as far as it was looked at: every revision of every vote (core/records.py Feedback) and what
happened to raters (RaterEvent), with the ids of raters and whatever they consented to. What has columns of several
types is a text of JSON in both, because readers of JSON lines want one type a column.
"""

import argparse
import contextlib
import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, get_args

import redis

from core.errors import UsageError
from core.records import Feedback, Fold, RaterEvent
from feedback import child, snapshot
from feedback import log as one_log
from feedback.archive import Archive, Entry
from feedback.events import after
from feedback.rows import TABLES, DemonstrationRow, PairRow, ThumbRow, VoteRow, lines

Format = Literal["trl-preference", "trl-kto", "trl-sft", "openai-dpo", "raw", "events"]
FORMATS: tuple[Format, ...] = get_args(Format)
FOLDS: tuple[Fold, ...] = get_args(Fold)
Line = dict[str, Any]
_LOOK_AGAIN = 1000
"""Lines between two looks whether somebody in the snapshot was erased meanwhile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written, and rows that could not be, by reason: `Exported(rows=361, skipped={"tie": 31})`."""

    rows: int
    skipped: dict[str, int]


def export(
    directory: Path, form: Format, out: Path | None, *, folds: Collection[Fold] = FOLDS, log: Iterable[Entry] = ()
) -> Exported:
    """Writes the rows of these folds to a file, which is there only when it is whole, or (None) to standard output.

    Args: `log`: of `events`, which know no folds: feedback/log.py `entries`.

    Raises:
        UsageError: it is no snapshot, it was changed, somebody in it was erased, or the file cannot be written.
    """
    skipped: Counter[str] = Counter()
    count = 0
    found = _events(directory, log) if form == "events" else _rows(directory, form, folds, skipped)
    with _opened(out) as stream:
        for line in found:
            stream.write(json.dumps(line) + "\n")  # ASCII: some readers end a line at U+2028 too
            count += 1
            if count % _LOOK_AGAIN == 0:
                snapshot.check_not_erased(directory)
    return Exported(rows=count, skipped=dict(sorted(skipped.items())))


def _rows(directory: Path, form: Format, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    snapshot.check(directory)
    yield from _FORMATS[form](directory, folds, skipped)


def _events(directory: Path, log: Iterable[Entry]) -> Iterator[Line]:
    last = snapshot.check_not_erased(directory).last_event
    for entry in log:
        if after(entry.position, last):
            return
        if entry.event is not None:
            said = Feedback.model_validate_json(entry.event).to_json()
            yield {"entry": entry.position, "type": "feedback", "event": said}
        elif entry.rater is not None:
            happened = RaterEvent.model_validate_json(entry.rater).to_json()
            yield {"entry": entry.position, "type": "rater", "event": happened}


def _trl_preference(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    for row in _pairs(directory, folds, skipped):
        chosen, rejected = _answer(row.chosen_text), _answer(row.rejected_text)
        yield {"prompt": json.loads(row.prompt), "chosen": chosen, "rejected": rejected} | _origin(row)


def _openai_dpo(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    for row in _pairs(directory, folds, skipped):
        asked = {"messages": json.loads(row.prompt), "tools": [], "parallel_tool_calls": True}
        yield {
            "input": asked,
            "preferred_output": _answer(row.chosen_text),
            "non_preferred_output": _answer(row.rejected_text),
        }


def _pairs(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[PairRow]:
    """Pairs that say which text is better: none of these formats knows a tie."""
    for row in snapshot.rows(directory, PairRow):
        if row.fold not in folds:
            continue
        chosen, rejected = row.chosen_text.strip(), row.rejected_text.strip()
        if row.tie:
            skipped["tie"] += 1
        elif not (chosen and rejected):
            skipped["empty"] += 1
        elif chosen == rejected:
            skipped["identical"] += 1
        else:
            yield row


def _trl_kto(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    for row in snapshot.rows(directory, ThumbRow):
        if row.fold in folds and not row.completion_text.strip():
            skipped["empty"] += 1
        elif row.fold in folds:
            completion = _answer(row.completion_text)
            yield {"prompt": json.loads(row.prompt), "completion": completion, "label": row.up} | _origin(row)


def _trl_sft(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    for row in snapshot.rows(directory, DemonstrationRow):
        if row.fold in folds:
            yield {"messages": json.loads(row.prompt) + _answer(row.text)} | _origin(row)


def _raw(directory: Path, folds: Collection[Fold], skipped: Counter[str]) -> Iterator[Line]:
    for kind in TABLES:
        wanted = (row for row in snapshot.rows(directory, kind) if row.fold in folds)
        yield from ({"table": table, "row": line} for table, line in lines(wanted))


_FORMATS: dict[Format, Callable[[Path, Collection[Fold], Counter[str]], Iterator[Line]]] = {
    "trl-preference": _trl_preference,
    "trl-kto": _trl_kto,
    "trl-sft": _trl_sft,
    "openai-dpo": _openai_dpo,
    "raw": _raw,
}


def _answer(text: str) -> list[Line]:
    return [{"role": "assistant", "content": text}]


def _origin(row: VoteRow) -> Line:
    return {"weight": row.weight, "fold": row.fold, "feedback_id": row.feedback_id}


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            yield stream
        temporary.replace(out)
    except OSError as error:
        raise UsageError(f"--out {out} cannot be written: {error}.") from None
    finally:
        temporary.unlink(missing_ok=True)


def main() -> int:
    """One export to standard output; where things are, the settings say.

    Returns: the exit status, which tells why nothing more came.
    """
    parser = argparse.ArgumentParser(prog="python -m feedback.export", description="By hand: `plumbline export`.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("--fold", choices=FOLDS)
    given = parser.parse_args()
    folds = [given.fold] if given.fold else FOLDS

    def write(client: redis.Redis, archive: Archive) -> None:
        export(given.directory, given.format, None, folds=folds, log=one_log.entries(client, archive))

    return child.run(write)


if __name__ == "__main__":
    sys.exit(main())
