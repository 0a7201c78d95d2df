"""The common pace of a comparison's sides: what is shown when, on a clock of the tests' own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.lockstep import PATIENCE_S, TAIL_WORDS_PER_S, TICK_S, Lane, Lockstep

Arrivals = list[tuple[float, str]]
"""When a side writes what; its last entry ends it."""


def _play(sides: list[Arrivals], *, until: float = 1000.0) -> list[tuple[float, list[str]]]:
    """Every tick at which anything was shown, with what each side gained; until all is shown."""
    lanes = [Lane(changed=0.0) for _ in sides]
    lockstep, waiting, shown, tick = Lockstep(lanes, now=0.0), [list(side) for side in sides], [], 0
    while not all(lane.over for lane in lanes):
        tick += 1
        now = tick * TICK_S
        assert now < until
        for lane, arrivals in zip(lanes, waiting, strict=True):
            while arrivals and arrivals[0][0] <= now:
                at, text = arrivals.pop(0)
                lane.write(text, now=at)
                if not arrivals:
                    lane.end()
        gained = lockstep.advance(now)
        if any(gained):
            shown.append((now, gained))
    return shown


def _steady(words: int, *, words_per_s: float, start: float = 0.0) -> Arrivals:
    return [(start + (number + 1) / words_per_s, " word") for number in range(words)]


def _counts(shown: list[tuple[float, list[str]]]) -> list[tuple[float, list[int]]]:
    return [(now, [text.count("word") for text in gained]) for now, gained in shown]


TEXTS = st.lists(st.sampled_from(["a", "dog", " ", "\n\n", "  ", "consequently", "。", "東京都は大きな街です", "-"]))


@given(TEXTS, st.data())
def test_where_words_end_depends_on_the_text_alone(pieces: list[str], data: st.DataObject) -> None:
    """However a text is cut on its way in, the words are the same, and together they are the text."""
    text = "".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8).map(sorted))
    whole, cut = Lane(changed=0.0), Lane(changed=0.0)
    whole.write(text, now=0.0)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        cut.write(text[start:end], now=0.0)
    whole.end()
    cut.end()
    assert whole.words == cut.words
    assert "".join(cut.words) == text
    assert all(len(word) <= 15 for word in cut.words)


def test_words_are_short_and_keep_their_space() -> None:
    """Eight characters at most, with the white space before them."""
    lane = Lane(changed=0.0)
    lane.write("A dog is  extraordinary, 東京都は大きな街です", now=0.0)
    assert lane.words == ["A", " dog", " is", "  extraord", "inary,", " 東京都は大きな街"]
    lane.end()
    assert lane.words[-1] == "です"


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 0.5), st.sampled_from(["word ", "word word ", "wo", "rd "])), min_size=1),
        min_size=2,
        max_size=9,
    )
)
def test_all_that_are_not_over_have_shown_the_same_number_of_words(sides: list[list[tuple[float, str]]]) -> None:
    """Whenever the words come (each side is silent for less than the patience), and nothing is lost."""
    timed = []
    for side in sides:
        clock, arrivals = 0.0, []
        for pause, text in side:
            clock += pause
            arrivals.append((clock, text))
        timed.append(arrivals)
    totals = []
    for side in sides:
        lane = Lane(changed=0.0)
        lane.write("".join(text for _, text in side), now=0.0)
        lane.end()
        totals.append(len(lane.words))
    lanes = [Lane(changed=0.0) for _ in sides]
    texts = [""] * len(sides)
    for _, gained in _play(timed):
        texts = [text + more for text, more in zip(texts, gained, strict=True)]
        for lane, more in zip(lanes, gained, strict=True):
            lane.write(more, now=0.0)
        front = max(_words(text) for text in texts)
        assert [_words(text) for text in texts] == [min(front, total) for total in totals]
    assert texts == ["".join(text for _, text in side) for side in sides]


def _words(text: str) -> int:
    """How many words of the cutter's a shown text has: it is shown in whole words."""
    lane = Lane(changed=0.0)
    lane.write(text, now=0.0)
    lane.end()
    return len(lane.words)


def test_of_two_equal_answers_the_fast_one_cannot_be_told() -> None:
    """One side ten times faster: the same words at the same times as when the other is."""
    fast, slow = _steady(40, words_per_s=200), _steady(40, words_per_s=20)
    assert len(_play([fast, slow])) > 30
    assert _play([fast, slow]) == _play([slow, fast])


@pytest.mark.parametrize("long_is_fast", [True, False])
def test_the_longer_answer_goes_on_at_the_common_pace(long_is_fast: bool) -> None:
    """Twenty words beside a hundred, 20 words a second against 200: when the short one is over, the long one neither
    rushes nor lags by more than a tenth, whichever of them was the fast one."""
    rates = (200, 20) if long_is_fast else (20, 200)
    long, short = _steady(100, words_per_s=rates[0]), _steady(20, words_per_s=rates[1])
    shown, total = _counts(_play([long, short])), 0
    for now, gained in shown:
        total += gained[0]
        assert 18 * now - 2 <= total <= 20 * now
        assert gained[0] <= 2
    assert total == 100


def test_a_silent_side_stops_holding_the_others() -> None:
    """For the patience they wait; then they go on, and once it writes again they wait until it has caught up."""
    slow = [(0.1, "word word "), (30.0, "word "), (31.0, "word word word")]
    shown = _counts(_play([_steady(10, words_per_s=10), slow]))
    early, late = [(now, gained) for now, gained in shown if now < 30], [gained for now, gained in shown if now >= 30]
    assert [gained for now, gained in early if now <= PATIENCE_S] == [[1, 1], [1, 1]]
    assert [sum(gained[side] for _, gained in early) for side in (0, 1)] == [10, 2]
    assert late == [[0, 1], [0, 3]]


def test_a_pace_below_reading_is_not_kept() -> None:
    """A side of one word a second and its end: the other goes on at the least pace of a tail, not at that."""
    shown = _counts(_play([_steady(60, words_per_s=100), _steady(2, words_per_s=1)]))
    assert shown[0] == (2.0, [2, 2])
    assert shown[-1][0] - 2.0 == pytest.approx(58 / TAIL_WORDS_PER_S, abs=2 * TICK_S)


def test_empty_answers_are_over_at_once() -> None:
    """A side without a word holds nobody."""
    assert [gained for _, gained in _play([[(0.1, "")], [(0.2, "word")]])] == [["", "word"]]
