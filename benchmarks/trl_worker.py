"""The other side for DPO and the reward model: TRL's trainers, in the peer's environment (benchmarks/worker.py).

They are used as they are, but for three things: rows come as token ids, their order is kept, and the adapter starts
from given numbers.
"""

import tempfile
from typing import Any

import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from benchmarks.meter import Memory, Stopwatch
from benchmarks.worker import serve
from benchmarks.workload import Outcome, PairWork, Work

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def run(text: str) -> Outcome:
    work = PairWork.model_validate_json(text)
    torch.set_num_threads(work.threads)
    model, tokenizer = _load(work)
    memory, watch, losses = Memory(), Stopwatch(), []

    class Observed(DPOTrainer if work.task == "dpo" else RewardTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

        def _precompute_ref_logps(self, *arguments: Any) -> Any:
            with watch.running():
                return super()._precompute_ref_logps(*arguments)

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            losses.append(loss)
            return loss

    memory.start()
    with tempfile.TemporaryDirectory() as out:
        trainer = Observed(
            model=model,
            args=_arguments(work, out),
            train_dataset=_dataset(work),
            processing_class=tokenizer,
            peft_config=lora(work),
        )
        _start_from(trainer.model, work)
        with watch.running():
            trainer.train()
    split = trainer.args.gradient_accumulation_steps
    means = torch.stack(losses).unflatten(0, (-1, split)).sum(-1)  # each is divided by the number of its parts already
    return Outcome(
        losses=means.tolist(),
        seconds=watch.seconds,
        processor_seconds=watch.processor,
        peak_bytes=memory.peak(),
        count=len(work.rows),
        versions={"trl": trl.__version__, "torch": torch.__version__, "transformers": transformers.__version__},
    )


def _load(work: PairWork) -> tuple[Any, Any]:
    """The model and a tokenizer that names a padding token which stands in no row."""
    named = {"dtype": torch.float32, "attn_implementation": work.options["attention"]}
    if work.task == "dpo":
        model = AutoModelForCausalLM.from_pretrained(work.model, **named)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1, **named)
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    model.config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _arguments(work: PairWork, out: str) -> Any:
    """The other side's settings, and whatever `work.options` says of memory and speed."""
    options = {name: value for name, value in work.options.items() if name != "attention"}
    parts = int(options.pop("gradient_accumulation_steps", 1))
    if work.task == "dpo":
        options["beta"] = 0.1
    else:
        options.pop("precompute_ref_log_probs", None)
    return (DPOConfig if work.task == "dpo" else RewardConfig)(
        output_dir=out,
        per_device_train_batch_size=work.batch_rows // parts,
        gradient_accumulation_steps=parts,
        num_train_epochs=1,
        max_length=None,
        learning_rate=work.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )


def _dataset(work: PairWork) -> Any:
    """Token ids under the names that each trainer's collator reads."""
    if work.task == "dpo":
        rows = [{"prompt_ids": row.prompt, "chosen_ids": row.chosen, "rejected_ids": row.rejected} for row in work.rows]
    else:
        rows = [{"chosen_ids": row.prompt + row.chosen, "rejected_ids": row.prompt + row.rejected} for row in work.rows]
    return Dataset.from_list(rows)


def lora(work: Work) -> Any:
    kind = (
        {"task_type": "SEQ_CLS", "modules_to_save": ["score"]} if work.task == "reward" else {"task_type": "CAUSAL_LM"}
    )
    return LoraConfig(r=work.rank, lora_alpha=work.alpha, lora_dropout=0.0, target_modules=TARGETS, **kind)


def _start_from(model: Any, work: PairWork) -> None:
    """The same numbers in the adapter (and the head) as ours."""
    tensors = load_file(work.start / "adapter_model.safetensors")
    if work.task == "reward":
        tensors["base_model.model.score.weight"] = load_file(work.start / "head.safetensors")["linear.weight"]
    found = set_peft_model_state_dict(model, tensors)
    assert not found.unexpected_keys, found.unexpected_keys


if __name__ == "__main__":
    serve(run)
