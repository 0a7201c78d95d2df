"""The rows that votes would give, made while their completions are at hand, and kept on disk until it is known which
of the votes stay: what is large is read once, however long the log is.
"""

import dataclasses
import fcntl
import os
import pickle
import tempfile
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from feedback import encoding, examples
from feedback.eligibility import Circumstances, UsableVote
from feedback.encoding import Encoded
from feedback.essence import ComparisonEssence, Sampled
from feedback.examples import Place, Selection
from feedback.rows import PromptRow, VoteRow

_PROMPT = encoding.schema_of(PromptRow)
_TRAINS = "trains_policy"
Comparisons = Callable[[Iterable[str]], Mapping[str, ComparisonEssence]]
"""Gives the records of these ids that still exist."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draft:
    """Rows of one table, and what is needed to tell which of their prompts get a row of their own."""

    rows: Encoded
    spellings: list[bytes]
    """Of each row: see `UsableVote.spelling`."""
    prompts: list[bytes]
    """Of each row: the digest of its prompt's row."""


class Drafts:
    """Rows of chunk after chunk, in a file without a name that is gone with this. Processes that make them write them
    there: what is large passes through no pipe.

    Example:
        with Drafts(directory, comparisons, by=by) as drafts:
            drafts.keep(drafts.make(votes, records))
            for encoded in drafts.settled(selection, clusters=set()):
                writer.put(encoded)
    """

    def __init__(self, directory: Path, comparisons: Comparisons, *, by: Circumstances) -> None:
        self._comparisons, self._by = comparisons, by
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - closed by __exit__
        self._places: list[Place] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._file.close()

    def make(self, votes: Sequence[UsableVote], records: Mapping[str, Sampled]) -> Place:
        """Of votes whose completions are among the records; where they lie, for `keep`. The process that opened the
        file may do this, and those that it forked."""
        asked = self._comparisons({it.feedback.target.id for it in votes if it.feedback.target.type == "comparison"})
        tables: dict[type[Any], list[tuple[VoteRow, bytes, bytes]]] = {}
        for vote in votes:
            comparison = asked.get(vote.feedback.target.id)
            propensity = comparison.propensity if comparison else None
            found = examples.rows(vote, records, by=self._by, propensity=propensity)
            (prompt,) = encoding.digests([examples.prompt_row(found[0])])
            for row in found:
                tables.setdefault(type(row), []).append((row, vote.spelling, prompt))
        drafts = [_draft(kind, *zip(*held, strict=True)) for kind, held in tables.items()]
        return self._append(pickle.dumps(drafts, protocol=5))

    def _append(self, made: bytes) -> Place:
        """One process at a time."""
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            start = self._file.seek(0, os.SEEK_END)
            self._file.write(made)
            self._file.flush()
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return start, len(made)

    def keep(self, made: Place) -> None:
        self._places.append(made)

    def settled(self, selection: Selection, clusters: set[str]) -> Iterator[Encoded]:
        """What the selection leaves of the rows, in the order in which they were kept; and the prompts of clusters that
        are not in `clusters`, which grows."""
        for start, length in self._places:
            self._file.seek(start)
            for draft in pickle.loads(self._file.read(length)):
                ids = draft.rows.batch.column("feedback_id").to_pylist()
                kept = [identifier not in selection.excluded for identifier in ids]
                yield _withheld(draft.rows, [identifier in selection.withheld for identifier in ids]).kept(kept)
                yield _prompts(draft, kept, selection.spellings, clusters)


def _draft(kind: type[Any], found: Sequence[VoteRow], spellings: Sequence[bytes], prompts: Sequence[bytes]) -> _Draft:
    return _Draft(rows=encoding.encoded(kind, found), spellings=list(spellings), prompts=list(prompts))


def _withheld(rows: Encoded, withheld: Sequence[bool]) -> Encoded:
    """The same rows, of which these do not train the policy."""
    if _TRAINS not in rows.batch.schema.names or not any(withheld):
        return rows
    trains = rows.batch.column(_TRAINS)
    changed = pc.and_(trains, pa.array(withheld))
    batch = rows.batch.set_column(rows.batch.schema.get_field_index(_TRAINS), _TRAINS, pc.and_not(trains, changed))
    anew = encoding.digests(encoding.decoded(rows.kind, batch.filter(changed)))
    mixed = [next(anew) if it else digest for it, digest in zip(changed.to_pylist(), rows.digests, strict=True)]
    return dataclasses.replace(rows, batch=batch, digests=mixed)


def _prompts(draft: _Draft, kept: Sequence[bool], spellings: Mapping[str, bytes], seen: set[str]) -> Encoded:
    """Of each new cluster the prompt that stands for it."""
    chosen = []
    clusters = draft.rows.batch.column("cluster").to_pylist()
    for cluster, spelling, stays in zip(clusters, draft.spellings, kept, strict=True):
        chosen.append(stays and cluster not in seen and spelling == spellings.get(cluster))
        if chosen[-1]:
            seen.add(cluster)
    prompts = Encoded(kind=PromptRow, batch=draft.rows.batch.select(_PROMPT.names), digests=draft.prompts)
    return prompts.kept(chosen)
