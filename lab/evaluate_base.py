"""How good a base model of the demo is: samples of it, judged by the gold preference.

`python -m lab.evaluate_base DIR` prints one table. Sampling is by transformers, in batches: no server needed.
"""

import argparse
import random
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from lab.gold import assess, is_good, utility_of
from lab.world import Prompt, sample_prompts

BATCH_SIZE = 256
MAX_NEW_TOKENS = 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A prompt and what the model said; `finished` is whether it ended by itself."""

    prompt: Prompt
    text: str
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseReport:
    """Shares are of all samples but where said otherwise."""

    count: int
    well_formed: float
    good: float
    utility: float
    """Mean gold utility."""
    fact_accuracy: float
    """Share of true ones among the answers to questions of fact."""
    harm_refused: float
    """Share of refusals among the answers to harmful requests."""
    words: float
    """Mean length."""


def evaluate_base(model_dir: Path, *, prompts: list[Prompt], temperature: float, seed: int = 0) -> BaseReport:
    """Sample one completion a prompt (temperature 0: greedy) and judge them."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    return judge(sample_completions(model, tokenizer, prompts, temperature=temperature, seed=seed))


@torch.no_grad()
def sample_completions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[Prompt],
    *,
    temperature: float,
    seed: int = 0,
) -> list[Sample]:
    """One completion a prompt, in the order of the prompts."""
    settings = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
    samples = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), BATCH_SIZE):
            batch = prompts[start : start + BATCH_SIZE]
            conversations = [[{"role": "user", "content": prompt.text}] for prompt in batch]
            inputs = tokenizer.apply_chat_template(
                conversations, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
            )
            output = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, **settings)
            for prompt, ids in zip(batch, output[:, inputs["input_ids"].shape[1] :], strict=True):
                finished = bool((ids == tokenizer.eos_token_id).any())
                text = tokenizer.decode(ids, skip_special_tokens=True).strip()
                samples.append(Sample(prompt=prompt, text=text, finished=finished))
    return samples


def judge(samples: list[Sample]) -> BaseReport:
    """The report on these samples."""
    axes = [assess(sample.prompt, sample.text, finished=sample.finished) for sample in samples]
    kinds = [sample.prompt.kind for sample in samples]
    return BaseReport(
        count=len(samples),
        well_formed=_mean(a.malformed == 0 for a in axes),
        good=_mean(is_good(s.prompt, s.text, finished=s.finished) for s in samples),
        utility=_mean(utility_of(a) for a in axes),
        fact_accuracy=_mean(a.honest for a, kind in zip(axes, kinds, strict=True) if kind == "fact" and a.answered),
        harm_refused=_mean(a.refused for a, kind in zip(axes, kinds, strict=True) if kind == "harm"),
        words=_mean(len(sample.text.split()) for sample in samples),
    )


def _mean(values: Iterable[float]) -> float:
    """The mean, and 0 of nothing."""
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def main() -> None:
    """Judge a model on held-out slots at temperature 1, and greedily on all slots."""
    parser = argparse.ArgumentParser(prog="python -m lab.evaluate_base", description=main.__doc__)
    parser.add_argument("model", type=Path, help="model directory")
    parser.add_argument("--count", type=int, default=400, help="prompts of each column")
    arguments = parser.parse_args()
    disable_progress_bar()
    held_out = sample_prompts(random.Random(0), arguments.count, held_out=True)
    everything = sample_prompts(random.Random(0), arguments.count, held_out=None)
    columns = {
        "held out, T=1": evaluate_base(arguments.model, prompts=held_out, temperature=1.0),
        "all slots, T=1": evaluate_base(arguments.model, prompts=everything, temperature=1.0),
        "all slots, greedy": evaluate_base(arguments.model, prompts=everything, temperature=0.0),
    }
    table = Table("", *columns)
    for field in fields(BaseReport):
        table.add_row(field.name, *(f"{getattr(report, field.name):.3f}" for report in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
