"""Log-probs of completions and the KL between policies, without ever holding (tokens × vocabulary) numbers for long.

Only the positions that predict completion tokens meet the LM head; they do so in chunks, with the sum over the
vocabulary in float32 whatever the dtype of the product. The head is frozen, so the backward pass needs only the
gradient of the hidden states; it computes each chunk's logits again instead of keeping them.

Off-by-one, once and for all: the log-prob of token i comes from the hidden state at i − 1. So the first completion
token is scored from the last prompt position.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ROWS = 4096
"""Rows of logits at one time. Large: one big product is what a CPU is good at; 4096 × 150k float32 is 2.5 GB."""


def predicting_positions(completion_mask: Tensor) -> Tensor:
    """Where the completion tokens are predicted, (B, T) → bool (B, T − 1); pairs with `token_ids[:, 1:]`."""
    assert not completion_mask[:, 0].any(), "a completion needs a prompt token before it"
    return completion_mask[:, 1:]


def sequence_logps(hidden: Tensor, head: Tensor, token_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Log-prob of each completion, summed over its tokens.

    Args:
        hidden: final hidden states, (B, T, D).
        head: weight of the frozen LM head, (V, D).
        token_ids: (B, T).
        completion_mask: bool (B, T); never derived from the padding id.

    Returns:
        float32, (B,). A row without completion tokens gets exactly 0 and no gradient.
    """
    where = predicting_positions(completion_mask)
    logprobs = token_logprobs(hidden[:, :-1][where], head, token_ids[:, 1:][where])
    return scatter(logprobs, where).sum(-1)


def scatter(values: Tensor, where: Tensor) -> Tensor:
    """Lays flat per-token values (N,) back into their rows: (B, T − 1), zero elsewhere."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)


def token_logprobs(hidden: Tensor, head: Tensor, targets: Tensor, *, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """log softmax(hidden · headᵀ)[target] of each row.

    Args:
        hidden: (N, D).
        head: (V, D), frozen.
        targets: (N,).

    Returns:
        float32, (N,).
    """
    assert not head.requires_grad, "the LM head is part of the frozen base"
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, head = hidden.to(dtype), head.to(dtype)
    return _TokenLogprobs.apply(hidden, head, targets, chunk_rows)


class _TokenLogprobs(torch.autograd.Function):
    """d logp / d hidden = head[target] − softmax · head."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, head: Tensor, targets: Tensor, chunk_rows: int) -> Tensor:
        logprobs, normalisers = [], []
        for rows, goals in zip(hidden.split(chunk_rows), targets.split(chunk_rows), strict=True):
            logits = (rows @ head.T).float()
            normalisers.append(logits.logsumexp(-1))
            logprobs.append(logits.gather(-1, goals[:, None])[:, 0] - normalisers[-1])
        context.save_for_backward(hidden, head, targets, torch.cat(normalisers))
        context.chunk_rows = chunk_rows
        return torch.cat(logprobs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        hidden, head, targets, normalisers = context.saved_tensors
        parts = []
        pieces = (tensor.split(context.chunk_rows) for tensor in (hidden, targets, normalisers, gradient))
        for rows, goals, normaliser, weight in zip(*pieces, strict=True):
            slope = -((rows @ head.T).float() - normaliser[:, None]).exp()
            slope[torch.arange(len(goals), device=goals.device), goals] += 1.0
            parts.append((slope * weight[:, None]).to(head.dtype) @ head)
        return torch.cat(parts), None, None, None


@torch.no_grad()
def token_surprise(hidden: Tensor, head: Tensor, targets: Tensor, *, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """How unexpected each token is to the model.

    Returns:
        float32, (N, 2): the token's log-prob, and its gap to the log-prob of the most likely token (≤ 0).
    """
    parts = []
    for rows, goals in zip(hidden.split(chunk_rows), targets.split(chunk_rows), strict=True):
        logits = F.linear(rows, head).float()
        chosen = logits.gather(-1, goals[:, None])[:, 0]
        parts.append(torch.stack([chosen - logits.logsumexp(-1), chosen - logits.amax(-1)], dim=-1))
    return torch.cat(parts)


@torch.no_grad()
def token_kl(hidden: Tensor, other: Tensor, head: Tensor, *, chunk_rows: int = CHUNK_ROWS) -> Tensor:
    """KL(p‖q) of the next-token distributions at each row, exact over the whole vocabulary.

    Summed over the tokens of a completion sampled from p it is an unbiased estimate of the KL between the policies
    over completions, with less variance than sums of sampled log-ratios. The product is float32 too: a KL is a small
    difference of large numbers.

    Args:
        hidden: states of p, (N, D).
        other: states of q at the same positions, (N, D).

    Returns:
        float32, (N,), in nats, ≥ 0 up to rounding.
    """
    parts, head = [], head.float()
    for p_rows, q_rows in zip(hidden.split(chunk_rows), other.split(chunk_rows), strict=True):
        p, q = ((rows.float() @ head.T).log_softmax(-1) for rows in (p_rows, q_rows))
        parts.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(parts)
