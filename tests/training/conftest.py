"""Tiny random models on disk: Qwen3 with a tied head and without BOS, Llama with an untied head and BOS; both pad with
their end-of-text token, as many real models do. `any_base_directory` has further families: Mistral and Gemma with a
tokenizer that begins every text with BOS, Gemma with a padding token of its own, GPT-NeoX with a fused attention."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: these tests share two cores

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from core.adapters import BaseShapes, base_shapes
from feedback.snapshot import Snapshot
from tests.training.examples import REWARD, cut, pair_row, trainer_options
from training import reward
from training.encoder import Encoder
from training.model import SharedBase, load_base

VOCABULARY, BOS, PAD, EOS, USER, ASSISTANT = 97, 1, 2, 3, 4, 5
_CHAT = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} {% if m.role == 'assistant' %}<eos> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)
_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
_HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 256}


_KINDS: dict[str, dict[str, object]] = {
    "qwen3": {"tie_word_embeddings": True},
    "llama": {"tie_word_embeddings": False, "bos_token_id": BOS},
    "mistral": {"tie_word_embeddings": False, "bos_token_id": BOS, "sliding_window": 32},
    "gemma": {"tie_word_embeddings": True, "bos_token_id": BOS, "pad_token_id": PAD},
    "gemma2": {"tie_word_embeddings": True, "bos_token_id": BOS, "pad_token_id": PAD, "final_logit_softcapping": 5.0},
    "gpt_neox": {"tie_word_embeddings": False, "rotary_pct": 0.5},
}
_BEGINS = ("mistral", "gemma", "gemma2")
"""Their tokenizers put BOS before every text, and their templates write it too."""


def write_model(directory: Path, kind: str) -> Path:
    """A random causal LM with a tokenizer of whole words and a chat template."""
    torch.manual_seed(0)
    ids = {"eos_token_id": EOS, "pad_token_id": EOS, "bos_token_id": None}
    settings = {**_SIZES, **_HEADS, **ids, "initializer_range": 0.2, **_KINDS[kind]}
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(directory)
    write_tokenizer(directory, begins=kind in _BEGINS, pad="<pad>" if kind.startswith("gemma") else "<eos>")
    return directory


def write_tokenizer(directory: Path, *, begins: bool = False, pad: str = "<eos>", template: str = _CHAT) -> None:
    """Whole words; one that `begins` texts puts BOS before each, as its chat template does."""
    special = ["<unk>", "<bos>", "<pad>", "<eos>", "user", "assistant"]
    words = special + [f"w{i}" for i in range(VOCABULARY - len(special))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"eos_token": "<eos>", "pad_token": pad, "unk_token": "<unk>"}
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)]
        )
        names["bos_token"] = "<bos>"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = "{{ bos_token }} " * begins + template
    fast.save_pretrained(directory)


@pytest.fixture(scope="session", params=["qwen3", "llama"])
def base_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each test with this fixture runs on both models."""
    return write_model(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="session", params=["qwen3", "llama", "mistral", "gemma", "gpt_neox"])
def any_base_directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each test with this fixture runs on every family that is supported."""
    return write_model(tmp_path_factory.mktemp(f"any-{request.param}"), request.param)


@pytest.fixture(scope="session")
def qwen_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("qwen3-only"), "qwen3")


@pytest.fixture(scope="session")
def qwen_shapes(qwen_directory: Path) -> BaseShapes:
    return base_shapes(qwen_directory)


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    """Of the whole words."""
    write_tokenizer(tmp_path / "tokenizer")
    return Encoder(tmp_path / "tokenizer", [EOS], window=64)


@pytest.fixture
def base(base_directory: Path) -> SharedBase:
    """A fresh base without roles, float32."""
    return load_base(base_directory, base_sha256="0" * 64, attention="eager")


@pytest.fixture
def qwen(qwen_directory: Path) -> SharedBase:
    return load_base(qwen_directory, base_sha256="0" * 64, attention="eager")


@pytest.fixture(scope="session")
def small_snapshot(tmp_path_factory: pytest.TempPathFactory, qwen_shapes: BaseShapes) -> Snapshot:
    """Eighty votes of all folds."""
    return cut(tmp_path_factory.mktemp("snapshots"), [pair_row(number) for number in range(80)], qwen_shapes)


@pytest.fixture(scope="session")
def optimized_reward(tmp_path_factory: pytest.TempPathFactory, qwen_directory: Path, small_snapshot: Snapshot) -> Path:
    """A reward model of the optimize fold of those votes."""
    out = tmp_path_factory.mktemp("reward") / "model"
    given = trainer_options(qwen_directory, small_snapshot.directory, out, *REWARD)
    reward.main([*given, "--folds", "optimize"])
    return out
