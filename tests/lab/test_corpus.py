"""The generated text."""

import random

from lab.corpus import GOOD, LIBRARY_KINDS, completion, conversation, document, library_page
from lab.gold import assess, is_good
from lab.grammar import read, split_sentences
from lab.world import bare_prompts, sample_prompts


def test_one_answer_in_five_is_good() -> None:
    """The natural mixture leaves room for improvement in every kind of prompt."""
    rng = random.Random(0)
    prompts = sample_prompts(rng, 4000, held_out=None, distinct=False)
    good = [is_good(prompt, completion(rng, prompt)) for prompt in prompts]

    assert 0.18 <= sum(good) / len(good) <= 0.25


def test_every_answer_of_the_good_mixture_is_good() -> None:
    """The gold preference and the corpus agree on what a good answer is."""
    rng = random.Random(0)
    prompts = sample_prompts(rng, 3000, held_out=None)
    answers = [(prompt, completion(rng, prompt, GOOD)) for prompt in prompts]

    assert [(prompt.text, text) for prompt, text in answers if not is_good(prompt, text)] == []


def test_every_natural_answer_is_well_formed() -> None:
    """Bad answers are false, rude or long-winded, but never ungrammatical."""
    rng = random.Random(1)
    prompts = sample_prompts(rng, 3000, held_out=None)
    answers = [(prompt, completion(rng, prompt)) for prompt in prompts]

    assert [(prompt.text, text) for prompt, text in answers if assess(prompt, text).malformed] == []


def test_library_pages_are_true_statements() -> None:
    """Every sentence of a page says what it is about, and says the truth."""
    rng = random.Random(0)
    truths = {(prompt.entity, prompt.answer) for kind in LIBRARY_KINDS for prompt in bare_prompts(kind)}
    sentences = [sentence for _ in range(300) for turn in library_page(rng) for sentence in split_sentences(turn.text)]
    said = [reading for sentence in sentences for reading in read(sentence)]

    assert len(said) == len(sentences)
    assert all(reading.role == "list" or (reading.entity, reading.value) in truths for reading in said)


def test_conversations_alternate() -> None:
    """A conversation is an optional system message, then user and assistant in turn, one to four times."""
    rng = random.Random(0)
    lengths = set()
    for _ in range(500):
        roles = [turn.role for turn in conversation(rng)]
        spoken = roles[1:] if roles[0] == "system" else roles
        lengths.add(len(spoken) // 2)

        assert spoken == ["user", "assistant"] * (len(spoken) // 2)
    assert lengths == {1, 2, 3, 4}


def test_documents_are_deterministic() -> None:
    """The same seed writes the same text."""
    first, second = (random.Random(5) for _ in range(2))

    assert [document(first) for _ in range(20)] == [document(second) for _ in range(20)]
