"""The training loop of the demo base model: Muon and AdamW on generated documents, on CPU threads.

Left out on purpose: sequence packing (documents are short, so batches are bucketed by length instead), gradient
accumulation, checkpoints (a build takes a minute or two), torch.compile (needs a C++ compiler). Attention is `eager`:
with such short sequences its backward pass is faster than that of scaled-dot-product attention on CPU.

Parallel by shares of a batch, one Python thread each, with torch itself single-threaded. OpenMP's threads would wait
for each other several hundred times a step, and one busy neighbour then slows them down up to thirty-fold; these
threads meet once a step.
"""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from lab.base_config import BaseModelConfig
from lab.batches import Batch, bucket, encode, endless_batches
from lab.corpus import conversation, document
from lab.muon import Muon
from lab.tokenizer import END, PAD, train_tokenizer

Progress = Callable[[float, str], None]
"""Called with the share done, 0 to 1, and a short message."""

TOKENIZER_DOCUMENTS = 6_000
VALIDATION_CONVERSATIONS = 500
VALIDATION_SEED = 999
HEAD_SIZE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    model: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerFast
    validation_loss: float
    """Nats a token of what the assistant says, on conversations that training never saw."""
    tokens: int
    """Training tokens, padding included."""
    steps: int


def pretrain(config: BaseModelConfig, progress: Progress) -> Pretrained:
    """Train tokenizer and model from nothing. Deterministic: the global generators are left as they were."""
    rng = random.Random(config.seed)
    progress(0.0, "learning the tokens")
    documents = (document(rng) for _ in range(TOKENIZER_DOCUMENTS))
    tokenizer = train_tokenizer((turn.text for doc in documents for turn in doc), vocab_size=config.vocab_size)
    with _torch_state(seed=config.seed), ThreadPoolExecutor(config.threads) as pool:
        model = new_model(config, tokenizer)
        optimizers = _optimizers(model, config)
        tokens = steps = 0
        for batch in endless_batches(rng, tokenizer, config):
            share_done = tokens / config.tokens
            if share_done >= 1:
                break
            _set_learning_rates(optimizers, learning_rate_factor(share_done, config))
            loss = _train_step(model, optimizers, batch, config, pool)
            tokens, steps = tokens + batch.ids.numel(), steps + 1
            if steps % 10 == 0:
                progress(min(1.0, tokens / config.tokens), f"loss {loss.item():.2f}")
        validation_loss = evaluate_loss(model, tokenizer, config)
    return Pretrained(model=model, tokenizer=tokenizer, validation_loss=validation_loss, tokens=tokens, steps=steps)


def new_model(config: BaseModelConfig, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3 model with random weights: an architecture that vLLM serves, at a hundredth of its usual width."""
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=3 * config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=max(2, config.hidden_size // HEAD_SIZE),
            num_key_value_heads=max(1, config.hidden_size // (2 * HEAD_SIZE)),
            head_dim=HEAD_SIZE,
            max_position_embeddings=config.max_positions,
            rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
            tie_word_embeddings=True,
            initializer_range=0.03,
            bos_token_id=None,
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        )
    )
    model.set_attn_implementation("eager")
    return model


@contextmanager
def _torch_state(*, seed: int) -> Iterator[None]:
    """Seed torch and keep it to one thread, and put both back at the end: they belong to the caller's process."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def uses_bfloat16(config: BaseModelConfig) -> bool:
    """Whether forward and backward run in bfloat16: only where the CPU has units for it, else it is far slower."""
    units = torch.cpu.get_capabilities()
    return config.bfloat16 and (units.get("amx_bf16", False) or units.get("avx512_bf16", False))


def _optimizers(model: Qwen3ForCausalLM, config: BaseModelConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embeddings and norms."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=config.muon_lr, momentum=0.95, weight_decay=0.01),
        torch.optim.AdamW(others, lr=config.adamw_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def learning_rate_factor(share_done: float, config: BaseModelConfig) -> float:
    """Warm-up, flat, linear decay. Never below a hundredth, so that the first step moves."""
    rise = share_done / config.warmup if config.warmup else 1.0
    fall = (1 - share_done) / config.decay
    return max(0.01, min(1.0, rise, fall))


def _set_learning_rates(optimizers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * factor


def _train_step(
    model: Qwen3ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    config: BaseModelConfig,
    pool: ThreadPoolExecutor,
) -> torch.Tensor:
    parameters = list(model.parameters())
    total_weight = batch.weights[:, 1:].sum()

    def share_of_loss(share: Batch) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        losses, weights = _token_losses(model, share, config)
        loss = (losses * weights).sum() / total_weight
        return loss.detach(), torch.autograd.grad(loss, parameters)

    shares = [
        Batch(ids, weights)
        for ids, weights in zip(batch.ids.chunk(config.threads), batch.weights.chunk(config.threads), strict=True)
    ]
    losses, gradients = zip(*pool.map(share_of_loss, shares), strict=True)
    for parameter, parts in zip(parameters, zip(*gradients, strict=True), strict=True):
        parameter.grad = sum(parts[1:], start=parts[0])  # always in the same order, so the same bits
    # Muon normalizes its own updates; only what AdamW moves needs a bound.
    torch.nn.utils.clip_grad_norm_(optimizers[1].param_groups[0]["params"], 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return torch.stack(losses).sum()


def _token_losses(model: Qwen3ForCausalLM, batch: Batch, config: BaseModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each next token and its weight, both (B * (T - 1),). Right padding needs no attention mask."""
    with torch.autocast("cpu", torch.bfloat16, enabled=uses_bfloat16(config)):
        logits = model(input_ids=batch.ids[:, :-1], use_cache=False).logits
    losses = F.cross_entropy(logits.float().flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    return losses, batch.weights[:, 1:].flatten()


@torch.no_grad()
def evaluate_loss(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, config: BaseModelConfig) -> float:
    """Mean loss of what the assistant says in fresh conversations, in nats a token."""
    rng = random.Random(VALIDATION_SEED)
    conversations = [conversation(rng) for _ in range(VALIDATION_CONVERSATIONS)]
    total = count = 0.0
    for batch in bucket(encode(tokenizer, conversations, prompt_weight=0.0), 4 * config.batch_tokens):
        losses, weights = _token_losses(model, batch, config)
        total, count = total + (losses * weights).sum().item(), count + weights.sum().item()
    return total / count
