"""From documents to batches: tokens with their weights in the loss, bucketed by length."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from lab.base_config import BaseModelConfig
from lab.corpus import Document, document
from lab.tokenizer import END, ROLE_TOKENS

DOCUMENTS_AT_A_TIME = 6_000


@dataclass(frozen=True, slots=True)
class Example:
    """A document as tokens, each with its weight in the loss."""

    ids: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of about the same length, padded on the right; B documents, T tokens."""

    ids: torch.Tensor
    """(B, T) int64, 0 on padding."""
    weights: torch.Tensor
    """(B, T) float32, zero on padding."""


def encode(tokenizer: PreTrainedTokenizerFast, documents: list[Document], prompt_weight: float) -> list[Example]:
    """Documents as the chat template writes them, each token with its loss weight."""
    end = tokenizer.convert_tokens_to_ids(END)
    heads = {role: [tokenizer.convert_tokens_to_ids(token)] for role, token in ROLE_TOKENS.items()}
    texts = [turn.text for doc in documents for turn in doc]
    encoded = iter(tokenizer.backend_tokenizer.encode_batch_fast(texts))
    examples = []
    for doc in documents:
        ids: list[int] = []
        weights: list[float] = []
        for turn in doc:
            head, body = heads.get(turn.role, []), [*next(encoded).ids, end]
            weight = 1.0 if turn.role in ("assistant", "library") else prompt_weight
            ids += head + body
            weights += [prompt_weight] * len(head) + [weight] * len(body)
        examples.append(Example(ids, weights))
    return examples


def bucket(examples: list[Example], batch_tokens: int) -> list[Batch]:
    """Sort by length and cut into batches of at most `batch_tokens` padded tokens (but at least one document)."""
    batches: list[Batch] = []
    group: list[Example] = []
    for example in sorted(examples, key=lambda example: len(example.ids)):
        if group and len(example.ids) * (len(group) + 1) > batch_tokens:
            batches.append(_collate(group))
            group = []
        group.append(example)
    return [*batches, _collate(group)] if group else batches


def _collate(examples: list[Example]) -> Batch:
    length = max(len(example.ids) for example in examples)
    gaps = [length - len(example.ids) for example in examples]
    return Batch(
        torch.tensor([example.ids + gap * [0] for example, gap in zip(examples, gaps, strict=True)]),
        torch.tensor([example.weights + gap * [0.0] for example, gap in zip(examples, gaps, strict=True)]),
    )


def endless_batches(rng: random.Random, tokenizer: PreTrainedTokenizerFast, config: BaseModelConfig) -> Iterator[Batch]:
    """Fresh documents without end, a few thousand at a time so that lengths can be bucketed."""
    while True:
        documents = [document(rng) for _ in range(DOCUMENTS_AT_A_TIME)]
        batches = bucket(encode(tokenizer, documents, config.prompt_weight), config.batch_tokens)
        rng.shuffle(batches)
        yield from batches
