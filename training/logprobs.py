"""Log-probs of completions and the KL between policies, without ever holding (tokens × vocabulary) numbers for long.

Only the positions that predict completion tokens meet the LM head; they do so in chunks, with the sum over the
vocabulary in float32 whatever the dtype of the product. The head is frozen, so only the gradient of the hidden states
is needed, and it is taken in the forward pass: two products in all, where recomputing logits would make three.

Off-by-one, once and for all: the log-prob of token i comes from the hidden state at i − 1. So the first completion
token is scored from the last prompt position.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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
    """Lays flat per-token values (N,) back into their rows: where it is true in (B, T), zero elsewhere."""
    return torch.zeros(where.shape, dtype=values.dtype, device=values.device).masked_scatter(where, values)


def token_logprobs(hidden: Tensor, head: Tensor, targets: Tensor, *, chunk_rows: int | None = None) -> Tensor:
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
    return _TokenLogprobs.apply(hidden, head, targets, chunk_rows or rows_at_once(head))


def rows_at_once(head: Tensor) -> int:
    """Rows of logits in one chunk: enough for a product to run at full speed, few enough to stay near the caches.

    On a CPU 2²³ numbers (32 MB) were as fast as anything larger, at a tenth of the memory; a GPU wants larger products.
    """
    numbers = 1 << 28 if head.is_cuda else 1 << 23
    return max(64, numbers // len(head))


class _TokenLogprobs(torch.autograd.Function):
    """d logp / d hidden = head[target] − softmax · head: it differs from row to row only by a factor that the backward
    pass brings, so it is taken while the chunk's logits are there and they are never computed again."""

    @staticmethod
    def forward(context: Any, hidden: Tensor, head: Tensor, targets: Tensor, chunk_rows: int) -> Tensor:
        logprobs = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        slopes = torch.empty_like(hidden) if context.needs_input_grad[0] else None
        for start in range(0, len(hidden), chunk_rows):
            here = slice(start, start + chunk_rows)
            logits = (hidden[here] @ head.T).float()
            chosen = logits.gather(-1, targets[here, None])
            top = logits.amax(-1, keepdim=True)
            weights = logits.sub_(top).exp_()
            total = weights.sum(-1, keepdim=True)
            logprobs[here] = (chosen - top - total.log())[:, 0]
            if slopes is not None:
                slopes[here] = head[targets[here]] - (weights.to(head.dtype) @ head) / total
        context.save_for_backward(slopes)
        return logprobs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes,) = context.saved_tensors
        return gradient[:, None].to(slopes.dtype) * slopes, None, None, None


@torch.no_grad()
def token_surprise(hidden: Tensor, head: Tensor, targets: Tensor, *, chunk_rows: int | None = None) -> Tensor:
    """How unexpected each token is to the model.

    Returns:
        float32, (N, 2): the token's log-prob, and its gap to the log-prob of the most likely token (≤ 0).
    """
    parts, chunk_rows = [], chunk_rows or rows_at_once(head)
    for rows, goals in zip(hidden.split(chunk_rows), targets.split(chunk_rows), strict=True):
        logits = F.linear(rows, head).float()
        chosen = logits.gather(-1, goals[:, None])[:, 0]
        parts.append(torch.stack([chosen - logits.logsumexp(-1), chosen - logits.amax(-1)], dim=-1))
    return torch.cat(parts)


@torch.no_grad()
def token_kl(hidden: Tensor, other: Tensor, head: Tensor, *, chunk_rows: int | None = None) -> Tensor:
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
    parts, head, chunk_rows = [], head.float(), chunk_rows or rows_at_once(head)
    for p_rows, q_rows in zip(hidden.split(chunk_rows), other.split(chunk_rows), strict=True):
        p, q = ((rows.float() @ head.T).log_softmax(-1) for rows in (p_rows, q_rows))
        parts.append((p.exp() * (p - q)).sum(-1))
    return torch.cat(parts)
