"""The demo's tokenizer and chat template."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lab.batches import encode
from lab.corpus import Turn, document
from lab.tokenizer import SPECIAL_TOKENS, train_tokenizer

CONVERSATION = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is 3 plus 4?"},
    {"role": "assistant", "content": "It is 7."},
    {"role": "user", "content": "A dog is"},
]


def _texts() -> Iterator[str]:
    rng = random.Random(0)
    return (turn.text for _ in range(500) for turn in document(rng))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(_texts(), vocab_size=600)


def test_the_same_texts_make_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    """Merges do not depend on the order of a hash table or on threads."""
    again = train_tokenizer(_texts(), vocab_size=600)

    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


@pytest.mark.parametrize("text", ["What is the capital of Mapul?", "naïve Łódź 你好 🙂", "  two\n lines\t", "42"])
def test_any_text_round_trips(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    """Whatever a person types comes back byte for byte, and no token stands for "unknown"."""
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    """A number is its digits, so that sums have one form."""
    assert tokenizer.tokenize("12 34") == ["1", "2", "Ġ", "3", "4"]


def test_special_tokens_come_first(tokenizer: PreTrainedTokenizerFast) -> None:
    """Padding is 0, the end of a message 1, then the roles; there is no beginning-of-text token."""
    assert tokenizer.convert_tokens_to_ids(SPECIAL_TOKENS) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.bos_token) == ("<|endoftext|>", "<|end|>", None)


def test_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    """Role token, content, end; then the assistant's turn."""
    text = tokenizer.apply_chat_template(CONVERSATION, add_generation_prompt=True, tokenize=False)

    assert text == (
        "<|system|>You are a helpful assistant.<|end|><|user|>What is 3 plus 4?<|end|>"
        "<|assistant|>It is 7.<|end|><|user|>A dog is<|end|><|assistant|>"
    )


def test_training_sees_what_the_template_writes(tokenizer: PreTrainedTokenizerFast) -> None:
    """The ids of a training document are those of the chat template, so the model is used as it was taught."""
    turns = tuple(Turn(message["role"], message["content"]) for message in CONVERSATION)  # type: ignore[arg-type]
    (example,) = encode(tokenizer, [turns], prompt_weight=0.1)
    ids = tokenizer.apply_chat_template(CONVERSATION, return_dict=True)["input_ids"]

    assert example.ids == ids
    assert len(example.weights) == len(example.ids)


def test_only_what_the_assistant_says_weighs_one(tokenizer: PreTrainedTokenizerFast) -> None:
    """Role tokens and the user's words have the prompt's weight; answer and end token weigh 1."""
    (example,) = encode(tokenizer, [(Turn("user", "A"), Turn("assistant", "B"))], prompt_weight=0.1)

    assert example.weights == [0.1, 0.1, 0.1, 0.1, 1.0, 1.0]  # <|user|> A <|end|> <|assistant|> B <|end|>


def test_it_loads_as_any_tokenizer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """A saved tokenizer loads through AutoTokenizer with the same ids and the same template."""
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)

    assert loaded("The capital of 12!")["input_ids"] == tokenizer("The capital of 12!")["input_ids"]
    assert loaded.chat_template == tokenizer.chat_template
    assert (loaded.eos_token_id, loaded.pad_token_id, loaded.bos_token_id) == (1, 0, None)
