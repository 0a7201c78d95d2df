"""A tiny random Qwen3 with a real tokenizer and chat template: everything that the engine needs, in about a second."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

SPECIAL = ["<pad>", "<user>", "<assistant>", "<end>"]
MARKERS = [f"<marker{number}>" for number in range(16)]
"""Tokens that marker adapters write; ordinary vocabulary, one id each."""

_TEXT = [
    "A dog is a loyal animal that barks at night and sleeps by the door.",
    "Name a colour of the sky, the sea and the grass in the early morning.",
    "Tell me a short story about a cat, a boat and three small stones.",
]
_TEMPLATE = (
    "{% if tools %}{{ '<user>' + tools | tojson + '<end>' }}{% endif %}"
    "{% if documents %}{{ '<user>' + documents | tojson + '<end>' }}{% endif %}"
    "{% if reasoning_effort %}{{ '<user>' + reasoning_effort + '<end>' }}{% endif %}"
    "{% if persona %}{{ '<user>' + persona + '<end>' }}{% endif %}"
    "{% for m in messages %}{{ '<' + ('assistant' if m['role'] == 'assistant' else 'user') + '>' }}"
    "{{ (m['tool_calls'] | tojson if m['tool_calls'] else '') + (m['content'] or '') }}"
    "{% if not (loop.last and continue_final_message) %}{{ '<end>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
"""Has a place for all that a request may put into a prompt."""


def write_base(directory: Path, *, layers: int = 2, seed: int = 7) -> Path:
    """Writes a float32 Qwen3 (hidden 64, tied embeddings) whose logits are spread enough to have a favourite token."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(directory)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.normal_(0, 0.1, generator=generator)
        embedding = model.get_input_embeddings().weight
        embedding.mul_(3)
        embedding[:, 0] = 1.0  # a channel that is constant for every token in every layer: marker adapters read it
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0.0
            layer.mlp.down_proj.weight[0] = 0.0
    model.save_pretrained(directory)
    return directory


def marker_token(tokenizer_directory: Path, number: int) -> int:
    """The id of one of `MARKERS`."""
    added = json.loads((tokenizer_directory / "tokenizer.json").read_text())["added_tokens"]
    return next(int(token["id"]) for token in added if token["content"] == MARKERS[number])


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=480, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    tokenizer.add_tokens(MARKERS)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>")
    fast.chat_template = _TEMPLATE
    return fast
