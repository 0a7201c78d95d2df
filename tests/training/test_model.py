"""Roles on one base: adapters are saved, loaded and switched without touching each other or the base."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from core.adapters import CONFIG, WEIGHTS
from core.errors import AdapterError, UsageError
from tests.training.conftest import EOS
from training.data import Batch, Text, collate
from training.model import SharedBase, load_base
from training.recipe import LoraRecipe

LORA = LoraRecipe(rank=4, alpha=8)
TEXTS = [Text(prompt=[4, 30, EOS, 31, 5], completion=[40, 41, EOS]), Text(prompt=[4, 5], completion=[50])]


def disturb(base: SharedBase, role: str, *, seed: int = 1) -> None:
    """Gives an adapter weights that change the function."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in base.parameters(role).values():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1


def logps(base: SharedBase, role: str | None, batch: Batch | None = None) -> torch.Tensor:
    with base.acting(role), torch.no_grad():
        return base.sequence_logps(batch or collate(TEXTS))


def test_logps_equal_the_library(base: SharedBase) -> None:
    """Completion-only log-probs equal log_softmax of the model's own logits, row by row without any padding."""
    expected = []
    for text in TEXTS:
        token_ids = torch.tensor([text.prompt + text.completion])
        with torch.no_grad():
            logprobs = base.model(token_ids).logits.log_softmax(-1)[0, :-1]
        each = logprobs.gather(-1, token_ids[0, 1:, None])[:, 0]
        expected.append(each[len(text.prompt) - 1 :].sum())

    torch.testing.assert_close(logps(base, None), torch.stack(expected), atol=1e-4, rtol=0)


def test_padding_changes_no_number(base: SharedBase) -> None:
    """A hundred pads to the right, or pads to the left, of the end-of-text id leave every log-prob as it was."""
    plain = collate(TEXTS, padding_id=EOS)
    right = _padded(plain, left=0, right=100)
    left = _padded(plain, left=9, right=0)

    for padded in (right, left):
        torch.testing.assert_close(logps(base, None, padded), logps(base, None, plain), atol=2e-5, rtol=0)


def _padded(batch: Batch, *, left: int, right: int) -> Batch:
    pad = (left, right)
    return Batch(
        token_ids=torch.nn.functional.pad(batch.token_ids, pad, value=EOS),
        attention_mask=torch.nn.functional.pad(batch.attention_mask, pad),
        completion_mask=torch.nn.functional.pad(batch.completion_mask, pad),
    )


def test_the_end_of_text_token_is_trained_when_it_is_the_padding_too(base: SharedBase) -> None:
    """Gradient flows from the end-of-text position: the same completion without it has another gradient."""
    base.add_fresh("policy", LORA, seed=0)
    gradients = []
    for completion in ([40, 41, EOS], [40, 41]):
        with base.acting("policy"):
            base.sequence_logps(collate([Text(prompt=[4, 5], completion=completion)], padding_id=EOS)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in base.parameters("policy").values()]))
        for parameter in base.parameters("policy").values():
            parameter.grad = None

    assert (gradients[0] - gradients[1]).abs().max() > 1e-4


def test_a_fresh_adapter_changes_nothing_but_can_learn(base: SharedBase) -> None:
    """B is zero, so the function is the base's, exactly; A is not, so B has a gradient."""
    base.add_fresh("policy", LORA, seed=0)

    assert torch.equal(logps(base, "policy"), logps(base, None))
    with base.acting("policy"):
        base.sequence_logps(collate(TEXTS)).sum().backward()
    gradients = {name: parameter.grad.abs().max().item() for name, parameter in base.parameters("policy").items()}
    assert all(value > 0 for name, value in gradients.items() if ".lora_B." in name)


def test_every_linear_layer_but_the_head_is_adapted(base: SharedBase) -> None:
    """Seven projections in each of two layers, A and B each; neither embeddings nor LM head."""
    base.add_fresh("policy", LORA, seed=0)

    names = base.parameters("policy")

    assert len(names) == 2 * 7 * 2
    assert not [name for name in names if "head" in name or "embed" in name]


def test_a_saved_adapter_computes_the_same_again(base: SharedBase, base_directory: Path, tmp_path: Path) -> None:
    """Reloaded over a fresh base it gives the same log-probs, bit by bit, other ones than the base's (a lost
    lora_alpha would give the base's), and the stored numbers are float32."""
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy")
    base.save("policy", tmp_path / "adapter")
    expected = logps(base, "policy")

    again = load_base(base_directory, base_sha256="0" * 64, attention="eager")
    again.load("live", tmp_path / "adapter")

    assert torch.equal(logps(again, "live"), expected)
    assert (expected - logps(again, None)).abs().max() > 0.01
    assert {tensor.dtype for tensor in load_file(tmp_path / "adapter" / WEIGHTS).values()} == {torch.float32}


def test_a_saved_adapter_is_canonical(base: SharedBase, tmp_path: Path) -> None:
    """Loading and saving again gives the same bytes, and nothing in the configuration names this machine."""
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy")
    base.save("policy", tmp_path / "first")
    base.load("copy", tmp_path / "first")
    base.save("copy", tmp_path / "second")

    for name in (CONFIG, WEIGHTS):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    config = json.loads((tmp_path / "first" / CONFIG).read_text())
    assert config["base_model_name_or_path"] == "0" * 64
    assert config["lora_alpha"] == 8
    assert list(config) == sorted(config)


def test_roles_do_not_touch_each_other(base: SharedBase, tmp_path: Path) -> None:
    """Switching roles back and forth gives each the numbers that it had alone."""
    base.add_fresh("policy", LORA, seed=0)
    disturb(base, "policy", seed=1)
    alone = logps(base, "policy")
    base.add_fresh("reference", LORA, seed=0)
    disturb(base, "reference", seed=2)
    bare = logps(base, None)

    assert torch.equal(logps(base, "policy"), alone)
    assert not torch.equal(logps(base, "reference"), alone)
    assert torch.equal(logps(base, None), bare)


def test_training_from_version_zero_can_learn(base: SharedBase, tmp_path: Path) -> None:
    """The all-zero adapter has no gradient at all; started from it, A is drawn anew and the function stays."""
    base.add_zero("zero", LORA)
    base.save("zero", tmp_path)
    with base.acting("zero"):
        base.sequence_logps(collate(TEXTS)).sum().backward()
    assert not any(parameter.grad.any() for parameter in base.parameters("zero").values())

    base.load_for_training("policy", tmp_path, LORA, seed=0)
    with base.acting("policy"):
        base.sequence_logps(collate(TEXTS)).sum().backward()

    assert torch.equal(logps(base, "policy"), logps(base, None))
    assert any(parameter.grad.any() for parameter in base.parameters("policy").values())


def test_training_from_a_trained_adapter_keeps_it(base: SharedBase, tmp_path: Path) -> None:
    """Started from a later version nothing is drawn anew; another rank is refused."""
    base.add_fresh("live", LORA, seed=0)
    disturb(base, "live")
    base.save("live", tmp_path)

    base.load_for_training("policy", tmp_path, LORA, seed=5)

    assert torch.equal(logps(base, "policy"), logps(base, "live"))
    with pytest.raises(UsageError, match="rank 4 and alpha 8, the recipe asks for 8"):
        base.load_for_training("other", tmp_path, LoraRecipe(rank=8, alpha=8), seed=0)


def test_a_lost_layer_is_refused(base: SharedBase, tmp_path: Path) -> None:
    """PEFT would load an adapter without one of its tensors and serve it without a word."""
    base.add_fresh("policy", LORA, seed=0)
    base.save("policy", tmp_path)
    tensors = load_file(tmp_path / WEIGHTS)
    tensors.pop(next(iter(tensors)))
    save_file(tensors, tmp_path / WEIGHTS)

    with pytest.raises(AdapterError, match="do not fit"):
        base.load("broken", tmp_path)


def test_seeds_decide_the_start(base: SharedBase) -> None:
    """Equal seeds give equal adapters under any role name, whatever was drawn before; other seeds give others."""
    base.add_fresh("first", LORA, seed=7)
    torch.rand(3)
    base.add_fresh("second", LORA, seed=7)
    base.add_fresh("third", LORA, seed=8)

    first, second, third = (torch.cat([p.flatten() for p in base.parameters(r).values()]) for r in _ROLES)

    assert torch.equal(first, second)
    assert not torch.equal(first, third)


_ROLES = ("first", "second", "third")


def test_a_model_that_bends_its_logits_is_refused(qwen_directory: Path) -> None:
    """Log-probs from hidden states would be wrong without a word where a model scales its logits after the head."""
    model = AutoModelForCausalLM.from_pretrained(qwen_directory)

    class Scaled(type(model)):
        def forward(self, *args: object, **kwargs: object) -> object:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits / math.e
            return output

    model.__class__ = Scaled

    with pytest.raises(UsageError, match="changes its logits"):
        SharedBase(model)
