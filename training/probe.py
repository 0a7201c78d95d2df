"""The probe of an adapter: log-probs that a replica must reproduce before the adapter meets traffic.

They are computed from the *published file*, read again in the serving dtype: what is compared later is the file, not
what training thought that it had saved. Sequences are those on which candidate and parent differ most, since there a
lost layer or a swapped adapter shows.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoTokenizer

from core.errors import UsageError
from core.records import ProbeSequence
from feedback.snapshot import Snapshot
from training.data import Text, collate, micro_batches
from training.logprobs import predicting_positions, token_logprobs
from training.model import SharedBase
from training.recipe import LoraRecipe, SamplingRecipe
from training.rollouts import sample

PROBE_TOKENS = 512
"""At least so many completion tokens (serving notes: fewer cannot tell a lost layer from rounding)."""
_LONGEST = 512
_SNAPSHOT_TEXTS = 256
_SAMPLED_TEXTS = 64
_SAMPLING = SamplingRecipe(max_new_tokens=64, batch_size=64)
_SEED = 0
_BATCH_TOKENS = 8192
_EVERYDAY = ("Hello!", "A dog is", "Tell me about yourself.", "What should I cook tonight?", "How do I fix a bicycle?")


def write_zero(base: SharedBase, directory: Path, lora: LoraRecipe) -> int:
    """Writes the adapter of version 0 and returns its rank."""
    base.add_zero("source", lora)
    base.save("source", directory)
    return lora.rank


def write_canonical(base: SharedBase, directory: Path, source: Path) -> int:
    """Writes an adapter again, float32 and without anything of the machine that trained it; returns its rank."""
    base.load("source", source)
    base.save("source", directory)
    return base.rank("source")


def everyday_texts(base: SharedBase, directory: Path) -> list[Text]:
    """What the base itself answers to everyday messages: there is no snapshot before version 0."""
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    prompts = []
    for message in _EVERYDAY:
        if tokenizer.chat_template:
            turns = [{"role": "user", "content": message}]
            prompts.append(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))
        else:
            prompts.append(tokenizer(message)["input_ids"])
    repeated = [prompts[i % len(prompts)] for i in range(_SAMPLED_TEXTS)]
    return sample(base, None, repeated, _SAMPLING, seed=_SEED)


def snapshot_texts(base: SharedBase, snapshot: Snapshot) -> list[Text]:
    """Answers of the judge and test folds, and fresh answers of the adapter to their prompts."""
    rows = [row for row in snapshot.pairs if row.fold != "optimize"]
    stored = [
        Text(prompt=list(row.prompt_token_ids), completion=list(completion))
        for row in rows
        for completion in (row.chosen_token_ids, row.rejected_token_ids)
    ]
    prompts = [list(row.prompt_token_ids) for row in snapshot.prompts if row.fold != "optimize"]
    prompts = [prompt for prompt in prompts if 0 < len(prompt) <= _LONGEST][:_SAMPLED_TEXTS]
    sampled = sample(base, "source", prompts, _SAMPLING, seed=_SEED) if prompts else []
    usable = [text for text in stored if text.prompt and text.completion and len(text) <= _LONGEST]
    step = max(1, len(usable) // _SNAPSHOT_TEXTS)
    return usable[::step] + sampled


def measure(base: SharedBase, published: Path, parent: Path | None, texts: Sequence[Text]) -> list[ProbeSequence]:
    """The probe of the published files, in the base's dtype, beside the parent's log-probs on the same tokens.

    Raises:
        UsageError: the texts hold too few tokens to tell anything.
    """
    base.load("published", published, dtype=base.dtype)
    own = completion_logprobs(base, "published", texts)
    others = None
    if parent is not None:
        base.load("parent", parent, dtype=base.dtype)
        others = completion_logprobs(base, "parent", texts)
    probe = choose(texts, own, others)
    tokens = sum(len(sequence.logprobs) for sequence in probe)
    if tokens < PROBE_TOKENS:
        raise UsageError(
            f"The probe needs {PROBE_TOKENS} completion tokens, there are only {tokens}: collect more votes."
        )
    return probe


@torch.no_grad()
def completion_logprobs(base: SharedBase, role: str | None, texts: Sequence[Text]) -> list[list[float]]:
    """Log-prob of each completion token under a role, per text."""
    found: dict[int, list[float]] = {}
    with base.acting(role):
        for group in micro_batches([len(text) for text in texts], range(len(texts)), tokens=_BATCH_TOKENS):
            batch = collate([texts[i] for i in group], device=base.device)
            where = predicting_positions(batch.completion_mask)
            values = token_logprobs(base.hidden(batch)[:, :-1][where], base.head, batch.token_ids[:, 1:][where])
            parts = values.split([len(texts[i].completion) for i in group])
            found |= {i: part.tolist() for i, part in zip(group, parts, strict=True)}
    return [found[i] for i in range(len(texts))]


def choose(
    texts: Sequence[Text], own: Sequence[list[float]], parent: Sequence[list[float]] | None
) -> list[ProbeSequence]:
    """The sequences with the greatest mean |own − parent|, until they hold `PROBE_TOKENS` completion tokens.

    Without a parent (version 0) they are taken as they come.
    """
    order = list(range(len(texts)))
    if parent is not None:
        order.sort(key=lambda i: (-_mean_difference(own[i], parent[i]), i))
    probe: list[ProbeSequence] = []
    tokens = 0
    for i in order:
        if tokens >= PROBE_TOKENS:
            break
        tokens += len(own[i])
        probe.append(
            ProbeSequence(
                token_ids=texts[i].prompt + texts[i].completion,
                start=len(texts[i].prompt),
                logprobs=own[i],
                parent_logprobs=None if parent is None else parent[i],
            )
        )
    return probe


def _mean_difference(own: Sequence[float], parent: Sequence[float]) -> float:
    return sum(abs(a - b) for a, b in zip(own, parent, strict=True)) / max(len(own), 1)
