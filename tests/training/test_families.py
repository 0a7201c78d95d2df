"""Every supported family of models, with and without BOS, tied and untied, fused attention, pad = eos or not."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.errors import UsageError
from tests.training.conftest import write_model
from training import dpo, kto, reward, sft
from training.data import Text, collate
from training.model import load_base


def write_votes(path: Path) -> Path:
    """40 conversational rows, whose chosen answers begin with w1 and rejected ones with w2."""
    rows = []
    for number in range(40):
        prompt = [{"role": "user", "content": f"w{10 + number % 7} w{20 + number % 11}"}]
        sides = [[{"role": "assistant", "content": f"{word} w{30 + number}"}] for word in ("w1", "w2")]
        rows.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_dpo_and_reward_train_any_family(any_base_directory: Path, tmp_path: Path) -> None:
    """Two steps each, as programs, on a file: the first DPO loss is ln 2, the second is lower on what is learned."""
    options = ["--base", str(any_base_directory), "--data", str(write_votes(tmp_path / "votes.jsonl"))]
    options += ["--set", "lora.rank=2", "--set", "precision=float32", "--set", "batch_rows=20"]
    options += ["--set", "sampling.max_new_tokens=4", "--set", "reward.reference_samples=32"]
    dpo.main([*options, "--out", str(tmp_path / "dpo"), "--set", "learning_rate=0.01"])
    reward.main([*options, "--out", str(tmp_path / "reward"), "--set", "min_reward_pairs=20"])
    steps = [json.loads(line) for line in (tmp_path / "dpo/metrics.jsonl").read_text().splitlines()]

    assert len(steps) == 2
    assert steps[0]["preference_loss"] == pytest.approx(0.693147, abs=1e-5)
    assert steps[1]["preference_loss"] < steps[0]["preference_loss"]
    assert (tmp_path / "reward/reward.json").exists()


def write_thumbs(path: Path) -> Path:
    """40 plain rows: w1 is liked, w2 is not."""
    rows = [
        {
            "prompt": f"w{10 + number % 7}",
            "completion": f"{('w1', 'w2')[number % 2]} w{30 + number}",
            "label": not number % 2,
        }
        for number in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_demonstrations(path: Path) -> Path:
    """40 conversations of two turns, of which the last answer is the demonstration."""
    rows = []
    for number in range(40):
        first = [{"role": "user", "content": f"w{10 + number % 7}"}, {"role": "assistant", "content": "w40"}]
        then = [{"role": "user", "content": f"w{number}"}, {"role": "assistant", "content": f"w1 w{30 + number}"}]
        rows.append({"messages": first + then})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_kto_and_sft_train_any_family(any_base_directory: Path, tmp_path: Path) -> None:
    """Two steps each, as programs, on files: the first KTO loss is ½ and both losses fall."""
    options = ["--base", str(any_base_directory), "--set", "lora.rank=2", "--set", "precision=float32"]
    options += ["--set", "batch_rows=20", "--set", "learning_rate=0.01", "--set", "kl_samples=0"]
    kto.main([*options, "--data", str(write_thumbs(tmp_path / "t.jsonl")), "--out", str(tmp_path / "kto")])
    sft.main([*options, "--data", str(write_demonstrations(tmp_path / "d.jsonl")), "--out", str(tmp_path / "sft")])
    losses = {
        name: [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("kto", "sft")
    }

    assert losses["kto"][0] == pytest.approx(0.5, abs=1e-5)
    assert losses["kto"][1] < losses["kto"][0]
    assert losses["sft"][1] < losses["sft"][0]
    assert (tmp_path / "sft" / "adapter_model.safetensors").exists()


def test_our_log_probs_are_the_models(any_base_directory: Path) -> None:
    """Hidden states times LM head, packed or not, against the family's own forward pass and a plain log-softmax."""
    base = load_base(any_base_directory, base_sha256="0" * 64)
    texts = [Text(prompt=[4, 30, 5], completion=[40, 41, 3]), Text(prompt=[4, 31, 32, 5], completion=[50, 3])]
    model = AutoModelForCausalLM.from_pretrained(any_base_directory)
    expected = []
    with torch.no_grad():
        for text in texts:
            ids = torch.tensor(text.prompt + text.completion)
            logprobs = model(ids[None]).logits[0].log_softmax(-1)
            where = torch.arange(len(text.prompt), len(ids))
            expected.append(logprobs[where - 1, ids[where]].sum().item())
        assert base.sequence_logps(collate(texts)).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_family_that_caps_its_logits_is_refused(tmp_path: Path) -> None:
    """Gemma 2 squashes logits after the LM head, so ours would be others: a clear refusal, no wrong number."""
    with pytest.raises(UsageError, match="Gemma2ForCausalLM changes its logits"):
        load_base(write_model(tmp_path, "gemma2"), base_sha256="0" * 64)
