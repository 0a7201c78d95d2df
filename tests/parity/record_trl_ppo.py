"""Records one update of TRL 1.12.0's PPO, the last version that has it, into trl_ppo.json.

    PYTHONPATH=DIR python tests/parity/record_trl_ppo.py    # DIR: pip install --no-deps --target DIR trl==1.12.0 …

Run by hand in an environment of its own (benchmarks/peers.py has the packages that TRL needs); the tests read the file
and need no TRL. TRL computes all of it in one long method, so its numbers are read where it calls `masked_whiten` and
`masked_mean`: from the caller's frame. Two epochs over one minibatch, SGD: in the first the ratio is 1, in the second
clipping acts. The models are tiny and random; what is compared is arithmetic on the recorded tensors.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.training.conftest import EOS, write_model

ROLLOUT = ["logprobs", "ref_logprobs", "values", "scores", "padding_mask", "padding_mask_p1", "rewards"]
ROLLOUT += ["contain_eos_token", "sequence_lengths", "responses"]
UPDATE = ["micro_batch_inds", "new_logprobs", "vpred", "ratio", "pg_loss", "vf_loss", "vf_clipfrac", "loss"]
UPDATE += ["mb_advantage", "mb_return"]
SETTINGS = {
    "kl_coef": 0.2,
    "gamma": 0.98,
    "lam": 0.9,
    "cliprange": 0.02,
    "cliprange_value": 0.05,
    "vf_coef": 0.1,
    "missing_eos_penalty": 1.0,
}
record: dict[str, Any] = {"trl": trl.__version__, "torch": torch.__version__, "settings": SETTINGS, "updates": []}


def main() -> None:
    ppo_trainer.masked_whiten = _observed(ppo_trainer.masked_whiten, _rollout)
    ppo_trainer.masked_mean = _observed(ppo_trainer.masked_mean, _update)
    with tempfile.TemporaryDirectory() as directory:
        _trainer(Path(directory)).train()
    path = Path(__file__).with_name("trl_ppo.json")
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")


def _observed(function: Any, look: Any) -> Any:
    def called(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        look(sys._getframe(1), result)
        return result

    return called


def _rollout(frame: FrameType, whitened: torch.Tensor) -> None:
    """At the whitening of the advantages; `whitened` is not yet masked."""
    record["rollout"] = {name: frame.f_locals[name].tolist() for name in ROLLOUT}
    record["rollout"] |= {name: frame.f_locals[name].tolist() for name in ("advantages", "returns")}
    record["rollout"]["whitened"] = whitened.tolist()


def _update(frame: FrameType, clipped: torch.Tensor) -> None:
    """At the last mean of a micro-batch: the share of clipped ratios."""
    names = frame.f_locals
    if "loss" not in names:
        return
    found = {name: names[name].tolist() for name in UPDATE}
    record["updates"].append(found | {"pg_clipfrac": clipped.item()})


def _trainer(directory: Path) -> PPOTrainer:
    write_model(directory, "qwen3")
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    tokenizer.pad_token = "w90"
    named = {"dtype": torch.float32, "attn_implementation": "eager"}
    policy, reference = (AutoModelForCausalLM.from_pretrained(directory, **named) for _ in range(2))
    for model in (policy, reference):  # end-of-text is likely after some tokens: answers of unequal length
        weight = model.get_input_embeddings().weight.data
        weight[EOS] = 3 * weight[7]
    for parameter in policy.parameters():  # a policy that has left its reference: a KL that is not zero
        parameter.data += 0.02 * torch.randn(parameter.shape)
    value, reward = (
        AutoModelForSequenceClassification.from_pretrained(directory, num_labels=1, **named) for _ in range(2)
    )
    for model in (policy, reference, value, reward):
        model.config.pad_token_id = tokenizer.pad_token_id
    prompts = [[4, 30 + number, 40, 50 + number, 5] for number in range(8)]
    config = PPOConfig(
        output_dir=str(directory / "out"),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=1,
        num_mini_batches=1,
        num_ppo_epochs=2,
        total_episodes=8,
        local_rollout_forward_batch_size=8,
        response_length=12,
        stop_token="eos",
        temperature=1.0,
        num_sample_generations=0,
        whiten_rewards=False,
        learning_rate=0.05,
        optim="sgd",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        seed=0,
        **SETTINGS,
    )
    return PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=reference,
        reward_model=reward,
        value_model=value,
        train_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts]),
        eval_dataset=Dataset.from_list([{"input_ids": ids} for ids in prompts]),
    )


if __name__ == "__main__":
    main()
