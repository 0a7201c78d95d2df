"""python -m training.features: votes of a snapshot → how their two answers differ, for judging who gave them.

One forward pass of the frozen base over the answers, token states summed into one vector for each; of each vote the
difference of its two, reduced to the directions in which they differ most. What is learned from these numbers, and of
whom, is for feedback/cross_fit.py. Writes OUT/differences.npz, which holds numbers and feedback ids and no text.

Ties and rankings are left out: the one prefers nothing, of the other a row does not say which sides it compares.
"""

import argparse
import heapq
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from core.adapters import base_shapes
from feedback import snapshot as snapshots
from feedback.snapshot import PairRow
from training import program

if TYPE_CHECKING:  # torch: only when the arguments are known to be right
    from training.data import Text
    from training.model import SharedBase

FILE = "differences.npz"
MOST_VOTES = 20_000
"""The newest ones are read: who votes in bad faith shows it there, and the cost is bounded."""
DIRECTIONS = 192
_UNITS, _TOKENS, _CHUNK = 128, 4096, 500
Floats = NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = program.parser("features", __doc__ or "")
    arguments.add_argument("--data", type=program.snapshot_directory, required=True, help="a snapshot")
    arguments.add_argument("--out", type=Path, required=True, help="directory to write")
    survey(program.parse(arguments, argv))


def survey(options: argparse.Namespace) -> None:
    """The whole program: read, look at, write."""
    shapes = base_shapes(options.base)
    program.check_same_base(shapes, snapshots.read_manifest(options.data).base_sha256, "The snapshot")
    program.prepare(options.recipe)
    from training.model import load_base

    recipe = options.recipe
    base = load_base(options.base, base_sha256=shapes.sha256, precision=recipe.precision, attention=recipe.attention)
    rows = newest(options.data, most=MOST_VOTES, max_length=min(recipe.max_length, base.context_length))
    if not rows:
        raise program.Skipped("no vote prefers one of two answers")
    found = differences(base, rows)
    options.out.mkdir(parents=True, exist_ok=True)
    ids = np.array([row.feedback_id for row in rows])
    np.savez(options.out / FILE, feedback_id=ids, preferred=found.astype(np.float32))
    print(json.dumps({"votes": len(rows), "directions": found.shape[1]}), flush=True)


def newest(data: Path, *, most: int, max_length: int) -> list[PairRow]:
    """The newest votes that prefer one of two answers, oldest first. Holds no more than `most` rows."""
    usable = (row for row in snapshots.rows(data, PairRow) if not (row.tie or row.ranked) and _fits(row, max_length))
    found = heapq.nlargest(most, usable, key=lambda row: (row.created_at, row.feedback_id))
    return found[::-1]


def _fits(row: PairRow, max_length: int) -> bool:
    sides = (row.chosen_token_ids, row.rejected_token_ids)
    return min(map(len, sides)) > 0 and len(row.prompt_token_ids) + max(map(len, sides)) <= max_length


def differences(base: "SharedBase", rows: Sequence[PairRow]) -> Floats:
    """(N, ≤ DIRECTIONS), chosen minus rejected. What the votes say turns signs only: the directions are found with
    the two answers in an order of their own."""
    from training.progress import track

    turned = np.array([1.0 if row.chosen_token_ids < row.rejected_token_ids else -1.0 for row in rows])
    parts: list[NDArray[np.float32]] = []
    for chunk in track(list(_chunks(rows)), "Looking at the votes"):
        values = features(base, [text for row in chunk for text in _texts(row)])
        parts.append((values[0::2] - values[1::2]).astype(np.float32))
    together = np.concatenate(parts).astype(np.float64) * turned[:, None]
    return np.asarray(reduced(together) * turned[:, None])


def _chunks(rows: Sequence[PairRow]) -> Iterator[Sequence[PairRow]]:
    for start in range(0, len(rows), _CHUNK):
        yield rows[start : start + _CHUNK]


def _texts(row: PairRow) -> list["Text"]:
    from training.data import Text

    return [
        Text(prompt=row.prompt_token_ids, completion=side) for side in (row.chosen_token_ids, row.rejected_token_ids)
    ]


def reduced(values: Floats) -> Floats:
    """(N, D) → (N, ≤ DIRECTIONS): differences of unit variance, along the directions in which they are largest."""
    values = values / values.std(0).clip(min=1e-6)
    _, directions = np.linalg.eigh(values.T @ values)
    return np.asarray(values @ directions[:, -DIRECTIONS:])


def features(base: "SharedBase", texts: Sequence["Text"]) -> Floats:
    """(N, D): of each completion the sum over its tokens of the base's states around the token, of its surprise there,
    and of a fixed random layer over both; an eighth of them, so that they stay near one."""
    import torch

    from training.data import collate, micro_batches
    from training.logprobs import predicting_positions, token_surprise

    found: dict[int, torch.Tensor] = {}
    layer: torch.Tensor | None = None
    with torch.no_grad(), base.acting(None):
        for rows in micro_batches([len(text) for text in texts], range(len(texts)), tokens=_TOKENS):
            batch = collate([texts[i] for i in rows], device=base.device)
            states, where = base.hidden(batch), predicting_positions(batch.completion_mask)
            before = states[:, :-1][where]
            surprise = token_surprise(before, base.head, batch.token_ids[:, 1:][where])
            each = torch.cat([states[:, 1:][where], before, surprise], dim=-1).float()
            if layer is None:
                generator = torch.Generator().manual_seed(0)
                layer = torch.randn(each.shape[1], _UNITS, generator=generator) / each.shape[1] ** 0.5
            each = torch.cat([each, torch.nn.functional.silu(each @ layer.to(each))], dim=-1)
            sizes = [len(texts[i].completion) for i in rows]
            found |= dict(zip(rows, (part.sum(0) / 8 for part in torch.split(each, sizes)), strict=True))
    return np.asarray(torch.stack([found[i] for i in range(len(texts))]).cpu().double().numpy())


if __name__ == "__main__":
    program.run(main)
