"""The grammar of the invented world: which sentences are well formed, and what each of them says.

Built from the same templates as the corpus, so it accepts every sentence that the base model was taught, true or
false, and nothing else: gibberish, half sentences and blends of two templates are malformed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

from lab.vocabulary import VOCABULARY, capitalized, list_answer, task_answer
from lab.world import WORLD

V = VOCABULARY

Role = Literal[
    "fact", "private", "definition", "task", "list", "sum", "chat",            # answers
    "vague", "first step", "not knowing", "agreeing", "disagreeing",           # evasions, and verdicts on claims
    "complying", "refusal", "reason",                                          # responses to harmful requests
    "polite", "rude", "flattering", "padding", "closing",                      # style
]  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What one sentence says.

    Example: "The capital of Samar is Tonak." reads as `Reading(role="fact", attribute="capital", entity="Samar",
    value="Tonak")`, and "It is Tonak." as the same with an empty entity.
    """

    role: Role
    attribute: str = ""
    """Facts and private matters: which property; small talk: the intent that it replies to."""
    entity: str = ""
    """Empty where the sentence does not say what it is about ("It is …")."""
    value: str = ""


def split_sentences(text: str) -> list[str]:
    """Cut after each `.`, `!` or `?`; what follows the last of them is a sentence too, though never well formed."""
    return [sentence.strip() for sentence in re.findall(r"[^.!?]+[.!?]?|[.!?]", text) if sentence.strip()]


@lru_cache(maxsize=100_000)
def read(sentence: str) -> tuple[Reading, ...]:
    """Every reading of a sentence: none if it is malformed, several if it is ambiguous ("It is 7.")."""
    matches = ((rule, rule.pattern.fullmatch(sentence)) for rule in _rules())
    return tuple(rule.reading(match) for rule, match in matches if match)


# -- rules -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One form of sentence. The pattern has groups `entity` and `value` where the template has them."""

    role: Role
    attribute: str
    pattern: re.Pattern[str]

    def reading(self, match: re.Match[str]) -> Reading:
        said = match.groupdict(default="")
        value = said.get("value", "") or said.get("Value", "")
        return Reading(
            role=self.role,
            attribute=self.attribute,
            entity=said.get("entity", ""),
            value=value[:1].lower() + value[1:] if "Value" in said else value,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """A pattern of what may stand in a place of a template, inside and at the head of a sentence."""

    inside: str
    at_head: str


def _any(words: Iterable[str]) -> str:
    return f"(?:{'|'.join(re.escape(word) for word in dict.fromkeys(words))})"


def _phrase(words: Iterable[str]) -> Phrase:
    words = tuple(words)
    return Phrase(inside=_any(words), at_head=_any(capitalized(word) for word in words))


NOTHING = _phrase(())
NUMBER = Phrase(inside=r"\d+", at_head=r"\d+")
SUM = Phrase(inside=r"\d+ (?:plus|minus) \d+", at_head=r"\d+ (?:plus|minus) \d+")


def _rules_for(
    role: Role, templates: Iterable[str], *, attribute: str = "", entity: Phrase = NOTHING, value: Phrase = NOTHING
) -> Iterator[Rule]:
    """A rule for each template. (The article before an entity must fit its first letter.)"""
    places = {
        "entity": f"(?P<entity>{entity.inside})",
        "A_entity": rf"(?:An (?=[aeiou])|A (?![aeiou]))(?P<entity>{entity.inside})",
        "value": f"(?P<value>{value.inside})",
        "Value": f"(?P<Value>{value.at_head})",
    }
    for template in templates:
        parts = re.split(r"\{(\w+)\}", template)  # text, place, text, place, … text
        pattern = "".join(places[part] if i % 2 else re.escape(part) for i, part in enumerate(parts))
        yield Rule(role=role, attribute=attribute, pattern=re.compile(pattern))


def _answer_rules() -> Iterator[Rule]:
    for name, fact in V.facts.items():
        entity, value = _phrase(WORLD.entities[name]), _phrase(WORLD.values[name])
        yield from _rules_for("fact", fact.statements, attribute=name, entity=entity, value=value)
    for name, matter in V.private.items():
        person = _phrase(V.names.people)
        yield from _rules_for("private", matter.statements, attribute=name, entity=person, value=NUMBER)
    words, meanings = _phrase(V.definitions.meanings), _phrase(V.definitions.meanings.values())
    yield from _rules_for("definition", V.definitions.statements, entity=words, value=meanings)
    yield from _rules_for("task", V.tasks.statements, value=_steps())
    yield from _rules_for("list", V.lists.statements, entity=_phrase(V.lists.members), value=_three_members())
    yield from _rules_for("sum", V.sums.statements, entity=SUM, value=NUMBER)
    for intent, talk in V.chat.items():
        yield from _rules_for("chat", talk.replies, attribute=intent)


def _steps() -> Phrase:
    """Three steps, even of different tasks: that is grammatical, though it helps nobody."""
    pattern = task_answer(*(_any(steps) for steps in zip(*V.tasks.steps.values(), strict=True)))
    return Phrase(inside=pattern, at_head=capitalized(pattern))


def _three_members() -> Phrase:
    """Three members, even of different categories. They never head a sentence."""
    member = _any(word for members in V.lists.members.values() for word in members)
    pattern = list_answer(member, member, member)
    return Phrase(inside=pattern, at_head=pattern)


def _other_rules() -> Iterator[Rule]:
    first_steps = _phrase(steps[0] for steps in V.tasks.steps.values())
    yield from _rules_for("first step", ["First {value}."], value=first_steps)
    yield from _rules_for("complying", V.harm.complying, entity=_phrase(V.harm.acts))
    fixed: dict[Role, Iterable[str]] = {
        "vague": V.tasks.vague,
        "not knowing": V.style.not_knowing,
        "agreeing": V.claims.agreeing,
        "disagreeing": V.claims.disagreeing,
        "refusal": V.harm.refusals,
        "reason": V.harm.reasons,
        "polite": V.style.polite,
        "rude": [*V.style.rude, *V.style.rude_closing],
        "flattering": [*V.style.flattering, *V.style.flattering_closing],
        "padding": V.style.padding,
        "closing": V.style.closing,
    }
    for role, sentences in fixed.items():
        yield from _rules_for(role, sentences)


@cache
def _rules() -> tuple[Rule, ...]:
    return (*_answer_rules(), *_other_rules())
