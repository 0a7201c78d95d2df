"""The other side for PPO: TRL 1.12.0's trainer, the last there is, in an environment of its own (benchmarks/worker.py).

It is used as it is. What it computes that ours does not, it cannot be told to leave out: a value model of its own, and
the entropy of whole distributions in each update. `critic = "head"` freezes the value model but for its head, as ours
learns a small network on the frozen base; with `"full"` all of it is trained, as its documentation does it.
"""

import tempfile
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer

from benchmarks.meter import Memory, Stopwatch
from benchmarks.trl_worker import lora
from benchmarks.worker import serve
from benchmarks.workload import SEED, Outcome, PpoWork


def run(text: str) -> Outcome:
    work = PpoWork.model_validate_json(text)
    torch.set_num_threads(work.threads)
    memory, watch, logged = Memory(), Stopwatch(), []

    class Observed(PPOTrainer):
        def log(self, metrics: dict[str, float], *arguments: Any) -> None:
            logged.append(metrics)
            super().log(metrics, *arguments)

    with tempfile.TemporaryDirectory() as out:
        trainer = _trainer(Observed, work, out)
        memory.start()
        with watch.running():
            trainer.train()
    return Outcome(
        scores=[metrics["objective/scores"] for metrics in logged],
        ended=[metrics["val/num_eos_tokens"] / work.rollouts for metrics in logged],
        kl=[metrics["objective/kl"] for metrics in logged],
        seconds=watch.seconds,
        processor_seconds=watch.processor,
        peak_bytes=memory.peak(),
        count=len(work.prompts),
        versions={"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
    )


def _trainer(kind: type[PPOTrainer], work: PpoWork, out: str) -> PPOTrainer:
    named: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": work.options["attention"]}
    policy = AutoModelForCausalLM.from_pretrained(work.model, **named)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1, **named) for _ in range(2)
    )
    head = load_file(work.start / "head.safetensors")["linear.weight"]
    with torch.no_grad():
        reward.score.weight.copy_(head)  # the adapter that ours has besides is zero
        value.score.weight.zero_()
    if work.options["critic"] == "head":
        value.base_model.requires_grad_(False)
    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    rows = Dataset.from_list([{"input_ids": prompt} for prompt in work.prompts])
    return kind(
        args=_arguments(work, out),
        processing_class=tokenizer,
        model=policy,
        ref_model=None,
        reward_model=reward,
        value_model=value,
        train_dataset=rows,
        eval_dataset=rows,
        peft_config=lora(work),
    )


def _arguments(work: PpoWork, out: str) -> PPOConfig:
    options = {name: value for name, value in work.options.items() if name not in ("attention", "critic")}
    return PPOConfig(
        output_dir=out,
        per_device_train_batch_size=work.rollouts,  # so that each minibatch is a step: see its two inner loops
        gradient_accumulation_steps=1,
        num_mini_batches=work.rollouts // work.batch_rows,
        num_ppo_epochs=work.epochs,
        total_episodes=len(work.prompts),
        response_length=work.response_length,
        stop_token=None if work.endless else "eos",
        temperature=1.0,
        missing_eos_penalty=None,
        kl_coef=0.05,
        gamma=1.0,
        lam=0.95,
        learning_rate=work.learning_rate,
        lr_scheduler_type="constant",
        num_sample_generations=0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=SEED,
        **options,
    )


if __name__ == "__main__":
    serve(run)
