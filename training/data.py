"""Rows of token ids → padded batches, and which rows make up a step.

The ids are those that the engine sampled and that were stored with the completion: they are never decoded and encoded
again. Which tokens belong to the completion, and which exist at all, is carried in masks; nothing is ever concluded
from the padding id, so padding with the end-of-text token is as good as any other (training notes §3, traps 1 and 2).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from training.devices import devices
from training.packing import Layout, pack


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One prompt with one completion: `Text(prompt=[1, 65, 301], completion=[7, 9, 4])`; 4 is end-of-text."""

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One vote. With `tie` neither completion is better than the other."""

    chosen: Text
    rejected: Text
    tie: bool
    weight: float
    margin: float = 0.0
    """By how much the chosen one is at least better, in units of the reward (Touvron et al. 2023, eq. 2)."""

    def __len__(self) -> int:
        """Of the longer side: what a padded row of the pair takes."""
        return max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, kw_only=True, slots=True)
class Thumb:
    """A completion that somebody liked (`up`) or did not."""

    text: Text
    up: bool
    weight: float

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """A completion to imitate."""

    text: Text
    weight: float

    def __len__(self) -> int:
        return len(self.text)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Right-padded rows on a device."""

    token_ids: Tensor
    """(B, T)."""
    attention_mask: Tensor
    """bool (B, T): the token exists."""
    completion_mask: Tensor
    """bool (B, T): it belongs to the completion; the sampled end-of-text token does."""
    layout: Layout | None = None
    """Where the same tokens take less room than here; None computes them as they stand."""

    @property
    def position_ids(self) -> Tensor:
        """(B, T), counted over existing tokens, so that padding on any side changes nothing."""
        return (self.attention_mask.cumsum(-1) - 1).clamp(min=0)


def collate(texts: Sequence[Text], *, padding_id: int = 0, device: torch.device | str = "cpu") -> Batch:
    """Pads to the longest. `padding_id` may be any id of the vocabulary."""
    width = max(len(text) for text in texts)
    token_ids = torch.full((len(texts), width), padding_id, dtype=torch.long)
    attention_mask = torch.zeros((len(texts), width), dtype=torch.bool)
    completion_mask = torch.zeros((len(texts), width), dtype=torch.bool)
    for row, text in enumerate(texts):
        token_ids[row, : len(text)] = torch.tensor(text.prompt + text.completion)
        attention_mask[row, : len(text)] = True
        completion_mask[row, len(text.prompt) : len(text)] = True
    layout = pack([(text.prompt, text.completion) for text in texts])
    return Batch(
        token_ids=token_ids.to(device),
        attention_mask=attention_mask.to(device),
        completion_mask=completion_mask.to(device),
        layout=layout.to(device) if layout is not None else None,
    )


def both_sides(pairs: Sequence[Pair]) -> list[Text]:
    """All chosen completions, then all rejected ones: `chunk(2)` takes a batch of them apart again."""
    return [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]


def micro_batches(lengths: Sequence[int], indices: Iterable[int], *, tokens: int | None) -> list[list[int]]:
    """Groups rows of like length so that rows × longest ≤ `tokens`; a single longer row stands alone. None leaves the
    number to the device.

    On several devices there are at least as many groups as devices, where there are as many rows.

    Example: `micro_batches([5, 2, 5, 1], [0, 1, 2, 3], tokens=10)` is `[[3, 1], [0, 2]]`.
    """
    tokens = tokens or (16384 if torch.cuda.is_available() else 4096)
    groups: list[list[int]] = []
    for index in sorted(indices, key=lambda i: (lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[index] <= tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return split(groups, parts=devices().count)


def split(groups: Sequence[list[int]], *, parts: int) -> list[list[int]]:
    """Halves the largest group until there are `parts`: `split([[1, 2, 3], [4]], parts=3)` is `[[1], [4], [2, 3]]`."""
    found = list(groups)
    while len(found) < parts and any(len(group) > 1 for group in found):
        largest = max(range(len(found)), key=lambda i: len(found[i]))
        middle = len(found[largest]) // 2
        found[largest], rest = found[largest][:middle], found[largest][middle:]
        found.append(rest)
    return found


def optimizer_steps(rows: int, *, batch: int, epochs: int, seed: int) -> list[list[int]]:
    """The rows of each optimizer step, shuffled anew in each epoch; the last step of an epoch may be smaller."""
    rng = random.Random(seed)
    steps = []
    for _ in range(epochs):
        order = rng.sample(range(rows), rows)
        steps += [order[start : start + batch] for start in range(0, rows, batch)]
    return steps


def nothing_to_learn(pairs: Sequence[Pair], *, minimum: int) -> str | None:
    """Why no preference can be learned from these pairs, or None if one can."""
    decided = [pair for pair in pairs if not pair.tie]
    if len(decided) < minimum:
        return f"{len(decided)} usable votes prefer one answer; the recipe asks for {minimum}"
    for name in ("chosen", "rejected"):
        if len({tuple(getattr(pair, name).completion) for pair in decided}) == 1:
            return f"every vote has the same {name} answer: such one-sided votes teach no preference"
    return None


def usable(pairs: Iterable[Pair], *, max_length: int) -> tuple[list[Pair], dict[str, int]]:
    """Drops pairs with a side that is empty or too long: cutting it would train on an answer that nobody gave.

    Returns:
        The others, and how many were dropped, by reason.
    """
    kept, dropped = [], {"empty": 0, "overlong": 0, "identical": 0}
    for pair in pairs:
        if not (pair.chosen.completion and pair.rejected.completion and pair.chosen.prompt):
            dropped["empty"] += 1
        elif len(pair) > max_length:
            dropped["overlong"] += 1
        elif pair.chosen.completion == pair.rejected.completion:
            dropped["identical"] += 1
        else:
            kept.append(pair)
    return kept, {reason: count for reason, count in dropped.items() if count}


Row = TypeVar("Row", Thumb, Demonstration)


def usable_texts(rows: Iterable[Row], *, max_length: int) -> tuple[list[Row], dict[str, int]]:
    """`usable` for rows of one text: drops those that are empty or too long.

    Returns:
        The others, and how many were dropped, by reason.
    """
    kept, dropped = [], {"empty": 0, "overlong": 0}
    for row in rows:
        if not (row.text.prompt and row.text.completion):
            dropped["empty"] += 1
        elif len(row) > max_length:
            dropped["overlong"] += 1
        else:
            kept.append(row)
    return kept, {reason: count for reason, count in dropped.items() if count}
