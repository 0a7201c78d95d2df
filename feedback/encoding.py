"""Rows as a snapshot takes them: their digests, and their columns in Arrow. Pure, so any process may make them."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from core.records import Fold, RaterKind
from feedback.rows import Row, lines

_WORD, _NUMBER = pa.string(), pa.int32()
_ARROW: dict[Any, Any] = {str: _WORD, float: pa.float64(), int: _NUMBER, bool: pa.bool_(), Fold: _WORD}
_ARROW |= {RaterKind: _WORD, list[int]: pa.list_(_NUMBER), list[str]: pa.list_(_WORD)}
_ARROW |= {list[list[int]]: pa.list_(pa.list_(_NUMBER))}
_R = TypeVar("_R", bound=Row)


def schema_of(kind: type[Any]) -> Any:
    """Of a table, in Arrow."""
    return pa.schema([(field.name, _ARROW[field.type]) for field in fields(kind)])


def digests(found: Iterable[Row]) -> Iterator[bytes]:
    """What the id of a snapshot is made of."""
    return (hashlib.sha256(f"{table}\n{line}".encode()).digest() for table, line in lines(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """Rows of one table."""

    kind: type[Any]
    batch: Any
    """An Arrow record batch."""
    digests: list[bytes]
    """Of each row."""

    def kept(self, mask: Sequence[bool]) -> "Encoded":
        """Those rows alone."""
        if all(mask):
            return self
        kept = list(itertools.compress(self.digests, mask))
        return Encoded(kind=self.kind, batch=self.batch.filter(pa.array(mask, pa.bool_())), digests=kept)


def encode(found: Iterable[Row]) -> Iterator[Encoded]:
    """Rows of any table; in a table they stay in the order in which they come."""
    tables: dict[type[Any], list[Row]] = {}
    for row in found:
        tables.setdefault(type(row), []).append(row)
    for kind, held in tables.items():
        yield encoded(kind, held)


def encoded(kind: type[Any], held: Sequence[Row]) -> Encoded:
    """Rows of this table."""
    schema = schema_of(kind)
    columns = [pa.array(list(map(attrgetter(field.name), held)), field.type) for field in schema]
    return Encoded(kind=kind, batch=pa.RecordBatch.from_arrays(columns, schema=schema), digests=list(digests(held)))


def decoded(kind: type[_R], batch: Any) -> Iterator[_R]:
    """The rows again. Raises TypeError: they are of another table."""
    columns = [_values(column) for column in batch.columns]
    for values in zip(*columns, strict=True):
        yield kind(**dict(zip(batch.schema.names, values, strict=True)))


def _values(column: pa.Array) -> list[Any]:
    """`to_pylist`, ten times as fast for lists of numbers, which are most of a snapshot."""
    if pa.types.is_list(column.type):
        flat, offsets = _values(column.flatten()), _numbers(column.offsets)
        return [flat[start - offsets[0] : end - offsets[0]] for start, end in itertools.pairwise(offsets)]
    found: list[Any] = _numbers(column) if pa.types.is_integer(column.type) else column.to_pylist()
    return found


def _numbers(column: pa.Array) -> list[int]:
    """Not by `to_numpy`, which imports pandas first: two thirds of a short export's time."""
    found: list[int] = np.from_dlpack(column).tolist()
    return found
