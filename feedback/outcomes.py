"""`votes.parquet` of a snapshot: what each vote that it looked at became, for whoever asks about one of them.

It is no part of the snapshot's id. The id names what is trained on, and a vote that gave no row changes nothing about
that: with it the same rows would be cut and trained on again under another name. So where a later cut finds the same
rows, the file of the first one stays, and votes that came between the two are in neither.

Sorted by id, in small row groups: one vote is found by the ids that each group begins with, and read by one of them.
"""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

FILE = "votes.parquet"
GROUP = 4096
"""Rows of a row group: about 150 kB."""
As = Literal["pair", "ranking", "thumb", "rating", "demonstration"]
"""What a vote became; the most telling of its rows."""

_WORD = pa.string()
_SCHEMA = pa.schema([("feedback_id", _WORD), ("used_as", _WORD), ("reason", _WORD), ("trains_policy", pa.bool_())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one vote: `Outcome(feedback_id="fb_9f86…", used_as="pair", reason="stale", trains_policy=False)`.

    Withdrawn and superseded votes have none, nor have comments and flags.
    """

    feedback_id: str
    used_as: As | None
    """None: it gave no row."""
    reason: str | None
    """Why it gave no row, or why its row is for the reward model only; None where no rule was against it."""
    trains_policy: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcomes:
    """One such file, of which only the footer is held."""

    path: Path
    metadata: Any
    begins: list[str]
    """The first id of each row group."""

    def of(self, feedback_id: str) -> Outcome | None:
        """None: the snapshot did not look at this vote. Raises the errors of `opened`."""
        group = bisect_right(self.begins, feedback_id) - 1
        if group < 0:
            return None
        with pq.ParquetFile(self.path, metadata=self.metadata) as file:
            table = file.read_row_group(group, use_threads=False)
        place = table["feedback_id"].index(feedback_id).as_py()
        return Outcome(**table.slice(place, 1).to_pylist()[0]) if place >= 0 else None


def write(directory: Path, outcomes: Iterable[Outcome]) -> None:
    """Once, with the snapshot's other files; who calls it sees to fsync."""
    held = list(outcomes)
    columns = {name: [getattr(outcome, name) for outcome in held] for name in _SCHEMA.names}
    table = pa.table(columns, schema=_SCHEMA).sort_by("feedback_id")
    with pq.ParquetWriter(directory / FILE, _SCHEMA) as file:
        for start in range(0, len(table), GROUP):
            file.write_table(table.slice(start, GROUP))


def opened(directory: Path) -> Outcomes:
    """The file of a snapshot.

    Raises:
        OSError, pyarrow.ArrowException: there is none, or it cannot be read.
    """
    metadata = pq.read_metadata(directory / FILE)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    begins = [group.column(0).statistics.min for group in groups if group.num_rows]
    return Outcomes(path=directory / FILE, metadata=metadata, begins=begins)
