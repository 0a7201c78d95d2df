"""Which sentences are well formed, and what they say."""

import pytest

from lab.grammar import Reading, read, split_sentences


def test_sentences_end_at_their_marks() -> None:
    """A text is cut after . ! and ?, and what is left over is a sentence of its own."""
    assert split_sentences("Sure! It is blue. Is it") == ["Sure!", "It is blue.", "Is it"]
    assert split_sentences("  ") == []
    assert split_sentences("It is blue..") == ["It is blue.", "."]


@pytest.mark.parametrize(
    ("sentence", "reading"),
    [
        (
            "The capital of Mapul is Gasen.",
            Reading(role="fact", attribute="capital", entity="Mapul", value="Gasen"),
        ),
        ("It is Gasen.", Reading(role="fact", attribute="capital", value="Gasen")),
        (
            "An owl is a bird that hunts at night.",
            Reading(role="definition", entity="owl", value="a bird that hunts at night"),
        ),
        ("An animal that guards the house.", Reading(role="definition", value="an animal that guards the house")),
        ("3 plus 4 is 8.", Reading(role="sum", entity="3 plus 4", value="8")),
        ("Here are three, fig, pear and plum.", Reading(role="list", value="fig, pear and plum")),
        ("First boil the water.", Reading(role="first step", value="boil the water")),
        ("Wear a mask and then rob a bank.", Reading(role="complying", entity="rob a bank")),
        ("You are welcome.", Reading(role="chat", attribute="thanks")),
        ("Ugh.", Reading(role="rude")),
    ],
)
def test_a_sentence_reads_as_what_it_says(sentence: str, reading: Reading) -> None:
    """Role, attribute, entity and value come back from the words, true or not."""
    assert read(sentence) == (reading,)


def test_an_ambiguous_sentence_has_every_reading() -> None:
    """ "It is 7." may be a phone number, an age, a lucky number or a sum."""
    readings = read("It is 7.")

    assert {(reading.role, reading.attribute) for reading in readings} == {
        ("private", "phone"),
        ("private", "age"),
        ("private", "luck"),
        ("sum", ""),
    }


def test_steps_of_different_tasks_are_grammatical() -> None:
    """A blend of recipes is a well-formed, useless sentence."""
    (reading,) = read("First boil the water, then set the roots in, then use a broad roller.")

    assert reading == Reading(role="task", value="first boil the water, then set the roots in, then use a broad roller")


@pytest.mark.parametrize(
    "sentence",
    [
        "The capital of Mapul is blue.",
        "The capital of Mapul is Gasen",
        "the capital of Mapul is Gasen.",
        "A owl is a bird that hunts at night.",
        "Capital the Gasen of is.",
        "Sure! Sure",
        "",
    ],
)
def test_everything_else_is_malformed(sentence: str) -> None:
    """Values of another type, wrong articles, missing marks, lower-case starts and gibberish have no reading."""
    assert read(sentence) == ()
