"""Text → token ids, as serving makes them.

Prompt and completion are encoded each for itself: that is what happens when the prompt is served and the completion is
sampled, and it keeps the prompt's ids the same for every completion (training notes §3, trap 8).
"""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from training.data import Text

Message = dict[str, Any]


class Encoder:
    """Text → ids, by the tokenizer and chat template that lie beside the base's weights.

    Args:
        window: most tokens that the base reads; a prompt must leave room for an answer.
    """

    def __init__(self, base: Path, eos_ids: list[int], *, window: int = 1 << 30) -> None:
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True)
        self._eos_ids = eos_ids
        self._window = window

    def text(self, prompt: object, completion: object) -> Text:
        """Both plain or both conversational. The completion's ids end with exactly one end-of-text token.

        Raises:
            ValueError: they are of different kinds, or empty, or the prompt fills the window, or the template does
                not go on from it.
        """
        if isinstance(prompt, str) and isinstance(completion, str):
            prompt_ids, rest = self._plain(prompt), completion
        elif isinstance(prompt, list) and isinstance(completion, list):
            prompt_ids, rest = self._conversation(prompt, completion)
        else:
            raise ValueError("prompt and completion must both be text, or both be lists of messages")
        return Text(prompt=self._fitting(prompt_ids), completion=self._ended(self._ids(rest)))

    def prompt(self, prompt: object) -> list[int]:
        """The ids that serving makes of it; the errors of `text`."""
        if isinstance(prompt, str):
            return self._fitting(self._plain(prompt))
        if isinstance(prompt, list) and prompt:
            return self._fitting(self._ids(self._render(prompt, generation=True)))
        raise ValueError("prompt must be text or a list of messages")

    def read(self, token_ids: list[int]) -> str:
        """What a person reads. Never to be encoded again: other ids may read the same."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=True))

    def _plain(self, prompt: str) -> list[int]:
        ids: list[int] = self._tokenizer(prompt)["input_ids"]
        while ids and ids[-1] in self._eos_ids:  # some tokenizers end every text; this one goes on
            ids.pop()
        while len(ids) > 1 and ids[0] == ids[1] == self._tokenizer.bos_token_id:  # the text names it too
            ids.pop(0)
        if not ids:
            raise ValueError("the prompt is empty")
        return ids

    def _fitting(self, prompt: list[int]) -> list[int]:
        if len(prompt) >= self._window:
            raise ValueError(f"the prompt has {len(prompt)} tokens, the base's window {self._window}")
        return prompt

    def _conversation(self, prompt: list[Message], completion: list[Message]) -> tuple[list[int], str]:
        if not prompt or not completion:
            raise ValueError("prompt and completion need a message each")
        _check_messages(prompt + completion)
        if completion[-1]["role"] != "assistant" or not completion[-1]["content"].strip():
            raise ValueError("the completion must end with a message of the assistant that says something")
        context = prompt + completion[:-1]
        before, whole = self._render(context, generation=True), self._render(context + completion[-1:])
        if not whole.startswith(before):
            raise ValueError("the chat template renders the prompt differently once there is an answer")
        return self._ids(before), whole.removeprefix(before)

    def _render(self, messages: list[Message], *, generation: bool = False) -> str:
        _check_messages(messages)
        try:
            text = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
        except Exception as error:  # a template raises whatever its author thought of
            raise ValueError(f"the chat template refuses these messages: {error}") from None
        return str(text)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _ended(self, ids: list[int]) -> list[int]:
        """Up to the first end-of-text token, where sampling would have ended; with one where the text has none."""
        for index, token in enumerate(ids):
            if token in self._eos_ids:
                ids = ids[:index]
                break
        if not ids:
            raise ValueError("the completion is empty")
        return [*ids, self._eos_ids[0]]


def _check_messages(messages: list[Message]) -> None:
    for message in messages:
        known = isinstance(message, dict) and isinstance(message.get("role"), str)
        if not known or not isinstance(message.get("content"), str):
            raise ValueError(f'a message is {{"role", "content"}} with text in both, this one is {message!r:.80}')
