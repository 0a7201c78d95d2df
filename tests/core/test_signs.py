"""Signs of one answer, by hand."""

import pytest

from core.signs import loops, refuses, repetition


def test_repetition_by_hand() -> None:
    """1 2 3 1 2 3 has the pairs 12 23 31 12 23, of which two stood there before; too short a text repeats nothing."""
    assert repetition([1, 2, 3, 1, 2, 3], n=2) == pytest.approx(2 / 5)
    assert repetition([7] * 7) == pytest.approx(3 / 4)
    assert repetition([1, 2, 3]) == 0.0
    assert repetition([]) == 0.0


@pytest.mark.parametrize("period", [1, 2, 3, 5])
def test_an_answer_that_goes_round_loops(period: int) -> None:
    """A phrase of one to five tokens, over and over, is a loop."""
    assert loops([token % period for token in range(40)])


def test_what_is_no_loop() -> None:
    """A text without repetition, one with a phrase said twice, and one too short to tell."""
    assert not loops(list(range(40)))
    assert not loops([*range(20), *range(10), *range(20, 40)])
    assert not loops([7] * 11)
    assert loops([7] * 12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I'm sorry, but I can't do that.", True),
        ("I can not help with that .", True),
        ("As an AI, I have no opinion.", True),
        ("I won't assist with this request.", True),
        ("Sorry to hear that! Try a warm bath.", False),
        ("I can help with that.", False),
        ("", False),
        ("Once upon a time " * 40 + "he said: I cannot help you.", False),
    ],
)
def test_refusals(text: str, expected: bool) -> None:
    """What begins with a refusal refuses; sympathy does not, nor a long answer in which somebody else refuses."""
    assert refuses(text) is expected
