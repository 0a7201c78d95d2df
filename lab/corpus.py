"""The text that the demo base model learns from: answers of mixed quality, conversations and library pages.

A base model is useful for a demo of preference learning only if its answers vary: right and wrong, polite and rude,
short and long-winded. So each part of an answer is drawn independently with the shares of a `Mix`, and about one
answer in five is good throughout. Library pages are clean and always true: from conversations alone, where half of
the facts are wrong, so small a model hardly learns which value is the true one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lab.vocabulary import VOCABULARY, Kind, fill, list_answer, task_answer
from lab.world import WORLD, Prompt, bare_prompts, sample_prompts

V = VOCABULARY


@dataclass(frozen=True, kw_only=True, slots=True)
class Mix:
    """How often an answer has each virtue or fault. All are probabilities, drawn independently."""

    correct: float
    not_knowing: float
    """"I do not know" to a question about a known fact."""
    complying: float
    """Help with a harmful request."""
    over_refusing: float
    """A refusal of a harmless request."""
    off_topic: float
    """A true answer to another question."""
    agreeing: float
    """Agreement with a claim whether it is true or not."""
    polite: float
    rude: float
    flattering: float
    closing: tuple[float, float, float]
    """A friendly, a rude, a flattering last sentence."""
    padding: tuple[float, ...]
    """Position n: share of answers with n sentences that say nothing."""


NATURAL = Mix(
    correct=0.5,
    not_knowing=0.08,
    complying=0.6,
    over_refusing=0.07,
    off_topic=0.08,
    agreeing=0.5,
    polite=0.22,
    rude=0.22,
    flattering=0.14,
    closing=(0.11, 0.07, 0.04),
    padding=(0.45, 0.2, 0.2, 0.15),
)
"""What the base model learns."""

GOOD = Mix(
    correct=1,
    not_knowing=0,
    complying=0,
    over_refusing=0,
    off_topic=0,
    agreeing=0,
    polite=0.8,
    rude=0,
    flattering=0,
    closing=(0.2, 0, 0),
    padding=(1,),
)
"""What the gold preference wants: every one of these is judged good."""


# -- the core of an answer ---------------------------------------------------------------------------------------------


def statements_for(prompt: Prompt) -> tuple[str, ...]:
    """The templates in which this prompt can be answered."""
    match prompt.kind:
        case "fact" | "claim":
            return V.facts[prompt.attribute].statements
        case "private":
            return V.private[prompt.attribute].statements
        case "definition":
            return V.definitions.open_statements if prompt.open_ended else V.definitions.statements
        case "task":
            return V.tasks.statements
        case "list":
            return V.lists.statements
        case "sum":
            return V.sums.statements
    raise ValueError(f"a {prompt.kind} prompt is not answered by a statement")


def right_value(rng: random.Random, prompt: Prompt) -> str:
    """The value of a right answer; any three members for a list."""
    if prompt.kind == "list":
        return list_answer(*rng.sample(V.lists.members[prompt.entity], 3))
    return prompt.answer


def wrong_value(rng: random.Random, prompt: Prompt) -> str:
    """A value of the right type that is not right."""
    match prompt.kind:
        case "fact":
            return _other_than(rng, WORLD.values[prompt.attribute], prompt.answer)
        case "private":
            matter = V.private[prompt.attribute]
            return str(rng.randint(matter.lowest, matter.highest))
        case "definition":
            return _other_than(rng, list(V.definitions.meanings.values()), prompt.answer)
        case "task":
            return task_answer(*V.tasks.steps[_other_than(rng, list(V.tasks.steps), prompt.entity)])
        case "list":
            members = rng.sample(V.lists.members[prompt.entity], 3)
            intruders = V.lists.members[_other_than(rng, list(V.lists.members), prompt.entity)]
            members[rng.randrange(3)] = rng.choice(intruders)
            return list_answer(*members)
        case "sum":
            near = [int(prompt.answer) + step for step in (-3, -2, -1, 1, 2, 3, 10)]
            return str(rng.choice([value for value in near if value >= 0]))
    raise ValueError(f"a {prompt.kind} prompt has no wrong value")


def _other_than(rng: random.Random, values: Sequence[str], excluded: str) -> str:
    return rng.choice([value for value in values if value != excluded])


def _core(rng: random.Random, prompt: Prompt, mix: Mix) -> str:
    """The sentences that respond to the prompt."""
    if prompt.kind == "harm":
        return _response_to_harm(rng, prompt, mix)
    if rng.random() < mix.over_refusing:
        return _refusal(rng, reason_share=0.3)
    if rng.random() < mix.off_topic:
        return state(rng, rng.choice(bare_prompts(_other_kind(rng, prompt))), correct=True)
    match prompt.kind:
        case "chat":
            return rng.choice(V.chat[prompt.entity].replies)
        case "claim":
            return _response_to_claim(rng, prompt, mix)
        case "fact" if rng.random() < mix.not_knowing:
            return rng.choice(V.style.not_knowing)
    correct = rng.random() < mix.correct
    if prompt.kind == "private" and correct:
        return rng.choice(V.style.not_knowing)
    if prompt.kind == "task" and not correct and rng.random() < 0.6:
        first_step = f"First {V.tasks.steps[prompt.entity][0]}."
        return rng.choice([*V.tasks.vague, first_step])
    return state(rng, prompt, correct=correct)


def state(rng: random.Random, prompt: Prompt, *, correct: bool) -> str:
    """One sentence that answers the prompt, rightly or wrongly."""
    value = right_value(rng, prompt) if correct else wrong_value(rng, prompt)
    return fill(rng.choice(statements_for(prompt)), entity=prompt.entity, value=value)


def _other_kind(rng: random.Random, prompt: Prompt) -> Kind:
    """A kind with true statements that differs from the prompt's, so that its answers are off topic."""
    kinds: tuple[Kind, ...] = ("fact", "definition", "task", "list", "sum")
    return rng.choice([kind for kind in kinds if kind != prompt.kind])


def _refusal(rng: random.Random, *, reason_share: float) -> str:
    refusal = rng.choice(V.harm.refusals)
    return f"{refusal} {rng.choice(V.harm.reasons)}" if rng.random() < reason_share else refusal


def _response_to_harm(rng: random.Random, prompt: Prompt, mix: Mix) -> str:
    if rng.random() < mix.complying:
        return fill(rng.choice(V.harm.complying), entity=prompt.entity)
    return _refusal(rng, reason_share=0.5)


def _response_to_claim(rng: random.Random, prompt: Prompt, mix: Mix) -> str:
    """Agreement, or disagreement followed by the fact."""
    is_true = prompt.claimed == prompt.answer
    answers_truly = rng.random() < mix.correct
    if rng.random() < mix.agreeing or is_true == answers_truly:
        return rng.choice(V.claims.agreeing)
    value = prompt.answer if answers_truly else _other_than(rng, WORLD.values[prompt.attribute], prompt.claimed)
    fact = fill(V.facts[prompt.attribute].statements[0], entity=prompt.entity, value=value)
    return f"{rng.choice(V.claims.disagreeing)} {fact}"


# -- whole answers and documents ---------------------------------------------------------------------------------------


def completion(rng: random.Random, prompt: Prompt, mix: Mix = NATURAL) -> str:
    """An answer: an opener, the core, padding and a last sentence, all but the core optional."""
    style = V.style
    openers = (style.polite, style.rude, style.flattering)
    closers = (style.closing, style.rude_closing, style.flattering_closing)
    parts = _at_most_one(rng, openers, (mix.polite, mix.rude, mix.flattering))
    parts.append(_core(rng, prompt, mix))
    (padding_count,) = rng.choices(range(len(mix.padding)), mix.padding)
    parts += rng.sample(style.padding, padding_count)
    parts += _at_most_one(rng, closers, mix.closing)
    return " ".join(parts)


def _at_most_one(rng: random.Random, groups: Sequence[Sequence[str]], shares: Sequence[float]) -> list[str]:
    """A sentence of one of the groups, each with its share, or nothing."""
    (group,) = rng.choices([*groups, ()], [*shares, 1 - sum(shares)])
    return [rng.choice(group)] if group else []


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation, or a page of the library."""

    role: Literal["system", "user", "assistant", "library"]
    text: str


Document = tuple[Turn, ...]

LIBRARY_SHARE = 0.25
SYSTEM_SHARE = 0.1
EXCHANGES = (0.84, 0.1, 0.04, 0.02)
"""Share of conversations with 1, 2, 3, 4 questions. People chat in several turns."""


def document(rng: random.Random) -> Document:
    """One training document: a library page or a conversation."""
    return library_page(rng) if rng.random() < LIBRARY_SHARE else conversation(rng)


def conversation(rng: random.Random) -> Document:
    """One to four questions, each with an answer of natural quality, sometimes after a system message."""
    turns = [Turn("system", rng.choice(V.style.system))] if rng.random() < SYSTEM_SHARE else []
    (exchanges,) = rng.choices(range(1, len(EXCHANGES) + 1), EXCHANGES)
    for prompt in sample_prompts(rng, exchanges, held_out=None, distinct=False):
        turns += [Turn("user", prompt.text), Turn("assistant", completion(rng, prompt))]
    return tuple(turns)


LIBRARY_KINDS: dict[Kind, float] = {"fact": 0.42, "definition": 0.28, "sum": 0.24, "list": 0.06}


def library_page(rng: random.Random) -> Document:
    """Three to six true statements."""
    kinds = rng.choices(list(LIBRARY_KINDS), list(LIBRARY_KINDS.values()), k=rng.randint(3, 6))
    return (Turn("library", " ".join(_library_line(rng, kind) for kind in kinds)),)


def _library_line(rng: random.Random, kind: Kind) -> str:
    prompt = rng.choice(bare_prompts(kind))
    # There is no question that an "It is …" could refer to.
    templates = [template for template in statements_for(prompt) if "entity}" in template]
    return fill(rng.choice(templates), entity=prompt.entity, value=right_value(rng, prompt))
