"""Rows of a batch without padding, and each prompt once: where the model computes what a padded batch describes.

Both sides of a vote answer the same prompt. Laid out as one row, prompt + chosen + rejected, in which each completion
sees the prompt and itself but not its sibling and counts its positions from the end of the prompt, the prompt is
computed once; short rows are laid end to end in the same way. It is exact: a token sees the same tokens at the same
distances as in a row of its own. It needs no kernel, only an attention mask and position ids of one's own, so it works
on every device (prefix sharing: Wang and Hegde 2024, "Accelerating Direct Preference Optimization with Prefix
Sharing").

Left out: packing over micro-batches (a step's memory stays bounded by its padded size) and sliding windows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PretrainedConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A batch (B, T) as packed rows (R, L), R·L < B·T."""

    source: Tensor
    """(R, L): which token stands here, as an index into the flattened batch."""
    position_ids: Tensor
    """(R, L): position within prompt + completion."""
    segments: Tensor
    """(R, L): number of the prompt or completion in its row; −1 where nothing stands."""
    parents: Tensor
    """(R, L): the segment that is seen besides one's own; of a prompt, itself."""
    place: Tensor
    """(B, T): where each token of the batch stands, as an index into the flattened rows; 0 for padding."""

    def visible(self) -> Tensor:
        """bool (R, 1, L, L): which position (last dimension) each position sees."""
        earlier = torch.ones(self.source.shape[1], self.source.shape[1], dtype=torch.bool, device=self.source.device)
        own = self.segments[:, :, None] == self.segments[:, None, :]
        parent = self.parents[:, :, None] == self.segments[:, None, :]
        return ((own | parent) & earlier.tril())[:, None]

    def to(self, device: torch.device | str) -> "Layout":
        return Layout(**{name: getattr(self, name).to(device) for name in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tree:
    """A prompt and the rows that answer it."""

    rows: list[int]
    prompt: int
    """Tokens of the prompt."""
    length: int
    """Tokens of prompt and completions."""


def pack(texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Layout | None:
    """A layout for these (prompt, completion) rows; None where padding costs nothing.

    Example: two completions of 3 and 2 tokens to one prompt of 4 make one row of 9 instead of 2 · 7.
    """
    width = max(len(prompt) + len(completion) for prompt, completion in texts)
    trees = _trees(texts, longest=2 * width)
    length = max(tree.length for tree in trees)
    bins = _fill(trees, length)
    if len(bins) * length >= len(texts) * width:
        return None
    return _lay_out(texts, bins, width=width, length=length)


def sees_everything(config: PretrainedConfig) -> bool:
    """Whether every layer attends to every earlier token: no sliding window, whose distances a packed row would bend,
    and no recurrent state, which would leak from text to text."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return kinds == {"full_attention"} and window is None


def _trees(texts: Sequence[tuple[Sequence[int], Sequence[int]]], *, longest: int) -> list[_Tree]:
    """Rows by prompt. Many completions make several trees: attention grows with the square of a row's length."""
    groups: dict[tuple[int, ...], list[_Tree]] = {}
    for row, (prompt, completion) in enumerate(texts):
        found = groups.setdefault(tuple(prompt), [])
        if found and found[-1].length + len(completion) <= longest:
            last = found.pop()
            rows, length = [*last.rows, row], last.length + len(completion)
        else:
            rows, length = [row], len(prompt) + len(completion)
        found.append(_Tree(rows=rows, prompt=len(prompt), length=length))
    return [tree for trees in groups.values() for tree in trees]


def _fill(trees: Sequence[_Tree], length: int) -> list[list[_Tree]]:
    """Trees into as few rows of this length as the first-fit-decreasing rule finds."""
    bins: list[list[_Tree]] = []
    left: list[int] = []
    for tree in sorted(trees, key=lambda tree: (-tree.length, tree.rows[0])):
        fits = next((i for i, room in enumerate(left) if room >= tree.length), None)
        if fits is None:
            bins.append([])
            left.append(length)
            fits = len(bins) - 1
        bins[fits].append(tree)
        left[fits] -= tree.length
    return bins


def _lay_out(
    texts: Sequence[tuple[Sequence[int], Sequence[int]]], bins: Sequence[Sequence[_Tree]], *, width: int, length: int
) -> Layout:
    """Numbers every token of every row; one `arange` per segment."""
    shape = (len(bins), length)
    source, position_ids = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    segments, parents = torch.full(shape, -1), torch.full(shape, -1)
    place = torch.zeros((len(texts), width), dtype=torch.long)
    for number, trees in enumerate(bins):
        start, segment = 0, 0
        for tree in trees:
            root, stem, prompt = start, segment, tree.prompt
            here = slice(start, start + prompt)
            source[number, here] = torch.arange(prompt) + tree.rows[0] * width
            position_ids[number, here] = torch.arange(prompt)
            segments[number, here] = parents[number, here] = stem
            start, segment = start + prompt, segment + 1
            for row in tree.rows:
                tokens = len(texts[row][1])
                here = slice(start, start + tokens)
                along = torch.arange(prompt, prompt + tokens)
                source[number, here] = along + row * width
                position_ids[number, here] = along
                segments[number, here], parents[number, here] = segment, stem
                place[row, :prompt] = torch.arange(root, root + prompt) + number * length
                place[row, prompt : prompt + tokens] = torch.arange(start, start + tokens) + number * length
                start, segment = start + tokens, segment + 1
    return Layout(source=source, position_ids=position_ids, segments=segments, parents=parents, place=place)
