"""What can be seen of one answer without a judge: that it refuses, or that it goes round in circles.

Two sides look: the evaluation before the gate (training/measure.py) and the guardrails of a release (serving).
"""

import re
from collections.abc import Iterable, Sequence

REFUSALS = (
    r"\bI(?:'m| am) (?:sorry|afraid)\b.*\b(?:can(?:'t|not| not)|unable)",
    r"\bI (?:can(?:'t|not| not)|won't|will not) (?:help|assist|do|provide|answer|comply)\b",
    r"\bI(?:'m| am) unable to\b",
    r"\bas an? (?:AI|language model)\b",
)
"""Regular expressions, matched whatever the case: an answer in which one is found counts as a refusal."""
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in REFUSALS), re.IGNORECASE)
_BEGINNING = 400
"""Characters: who refuses does so at once, and a long answer may well quote a refusal."""
_LOOP_TOKENS, _LOOP_SHARE = 12, 0.5


def refuses(text: str) -> bool:
    """Whether an answer begins with a refusal."""
    return _REFUSAL.search(text[:_BEGINNING]) is not None


def grams(token_ids: Sequence[int], n: int) -> Iterable[tuple[int, ...]]:
    """All runs of n tokens: `grams([1, 2, 3], 2)` is (1, 2), (2, 3)."""
    return zip(*(token_ids[start:] for start in range(n)), strict=False)


def repetition(token_ids: Sequence[int], *, n: int = 4) -> float:
    """Share of a completion's n-grams that stood in it before (Welleck et al. 2019, seq-rep-n); 0 if it has none."""
    found = list(grams(token_ids, n))
    return 1 - len(set(found)) / len(found) if found else 0.0


def loops(token_ids: Sequence[int]) -> bool:
    """Whether more than half of an answer repeats itself; one of fewer than twelve tokens is too short to tell."""
    return len(token_ids) >= _LOOP_TOKENS and repetition(token_ids) > _LOOP_SHARE
