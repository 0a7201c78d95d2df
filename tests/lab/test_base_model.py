"""The demo base model on disk."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from lab.base_config import BaseModelConfig, load_config
from lab.base_model import RECORD_NAME, BaseRecord, build_base_model, ensure_base_model, recipe_digest
from lab.evaluate_base import judge, sample_completions
from lab.world import sample_prompts

TINY = load_config().model_copy(
    update={"hidden_size": 32, "layers": 1, "vocab_size": 320, "tokens": 4000, "batch_tokens": 512}
)


@dataclass
class Build:
    """A build and what was seen of it."""

    directory: Path
    calls: list[tuple[float, str]]
    torch_unchanged: bool


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A model of a few steps, built once."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    calls: list[tuple[float, str]] = []
    directory = ensure_base_model(
        tmp_path_factory.mktemp("home"), TINY, progress=lambda done, message: calls.append((done, message))
    )
    unchanged = torch.get_num_threads() == threads and torch.equal(torch.get_rng_state(), state)
    return Build(directory, calls, unchanged)


@pytest.fixture
def tiny(build: Build) -> Path:
    return build.directory


def test_same_recipe_same_bytes(tiny: Path, tmp_path: Path) -> None:
    """Two builds of one recipe agree in every byte of weights, tokenizer and config, threads notwithstanding."""
    build_base_model(tmp_path / "again", config=TINY)

    for path in tiny.iterdir():
        if path.name != "base.json":  # holds the seconds
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_the_directory_is_complete(tiny: Path) -> None:
    """One file of fp32 weights without a copy of the tied head, what transformers and vLLM need, and our record."""
    names = {path.name for path in tiny.iterdir()}
    weights = load_file(tiny / "model.safetensors")

    assert {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "base.json"} <= names
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert "lm_head.weight" not in weights
    assert [path.name for path in tiny.parent.iterdir()] == [tiny.name]


def test_the_record_says_where_the_weights_come_from(tiny: Path) -> None:
    """Digest, seed, loss and tokens stand beside the weights."""
    record = BaseRecord.model_validate_json((tiny / RECORD_NAME).read_text())

    assert record.digest == recipe_digest(TINY)
    assert record.seed == TINY.seed
    assert TINY.tokens <= record.tokens < TINY.tokens + 1000
    assert 2 < record.validation_loss < 6  # ln 320 = 5.8 is a model that has learned nothing


def test_it_loads_as_any_model(tiny: Path) -> None:
    """AutoModel and AutoTokenizer load it, with the end token as end and heads of 64."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)

    assert isinstance(model, Qwen3ForCausalLM)
    assert model.config.head_dim == 64
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == 1
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id == 0
    assert model.config.vocab_size == len(tokenizer)


def test_a_cached_model_is_reused_and_another_recipe_is_not(tiny: Path) -> None:
    """The same recipe gives the same directory without a build; a changed seed has another digest."""
    inode = (tiny / "model.safetensors").stat().st_ino

    assert ensure_base_model(tiny.parent.parent, TINY) == tiny
    assert (tiny / "model.safetensors").stat().st_ino == inode
    assert recipe_digest(TINY.model_copy(update={"seed": 1})) != recipe_digest(TINY)


def test_progress_only_grows(build: Build) -> None:
    """The callback sees shares from 0 to 1 in order, and messages."""
    shares = [done for done, _ in build.calls]

    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert shares == sorted(shares)
    assert all(message for _, message in build.calls)


def test_a_build_leaves_torch_as_it_was(build: Build) -> None:
    """Threads and random state of the caller's process come back."""
    assert build.torch_unchanged


def test_an_existing_directory_is_never_overwritten(tmp_path: Path) -> None:
    """The refusal comes before any training."""
    with pytest.raises(FileExistsError, match="choose another"):
        build_base_model(tmp_path, config=TINY)


def test_samples_are_judged(tiny: Path) -> None:
    """An untrained model is sampled, found malformed, and the same seed samples the same text."""
    model = AutoModelForCausalLM.from_pretrained(tiny)
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    prompts = sample_prompts(random.Random(0), 6, held_out=True)
    samples = sample_completions(model, tokenizer, prompts, temperature=1.0, seed=3)
    again = sample_completions(model, tokenizer, prompts, temperature=1.0, seed=3)
    report = judge(samples)

    assert samples == again
    assert [sample.prompt for sample in samples] == prompts
    assert (report.count, report.well_formed, report.good) == (6, 0.0, 0.0)


@pytest.mark.parametrize("change", [{"tokens": 0}, {"threads": 0}, {"decay": 0}, {"unknown": 1}])
def test_a_wrong_recipe_is_refused(change: dict[str, int]) -> None:
    """Impossible values and misspelt keys are errors that name the key."""
    with pytest.raises(ValidationError, match=next(iter(change))):
        BaseModelConfig.model_validate({**load_config().model_dump(), **change})
