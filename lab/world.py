"""The invented world: what is true in it, and every prompt that can be asked about it.

The demo needs questions whose right answers are known exactly, and a language that a model of half a million
parameters speaks fluently after a minute of training. So the world is invented: twelve lands and sixteen people with
facts drawn from a seed, plus everyday words, tasks, sums, harmful requests and small talk (`world.toml`).

Every prompt belongs to a *slot*: the fact, word, task or act that it asks about, whatever its wording. Slots are
split once and for all by a stable hash: raters and background traffic only ask about *voted* slots, the final
evaluation only about *held-out* ones. So a gain on held-out slots is a transferred preference. (The base model has
seen all slots in training: what is held out is the feedback, not the knowledge.)
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate

from lab.vocabulary import VOCABULARY, Kind, fill, task_answer

V = VOCABULARY


# -- what is true ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """What is true, drawn from a seed."""

    seed: int
    entities: dict[str, tuple[str, ...]]
    """Attribute → the lands or people that have it."""
    values: dict[str, tuple[str, ...]]
    """Attribute → every value that it can take."""
    facts: dict[tuple[str, str], str]
    """(attribute, entity) → the true value."""


def build_world(seed: int) -> World:
    """Invent names, then give every land and person a value of each attribute."""
    rng = random.Random(seed)
    names = rng.sample([first + last for first in V.names.first for last in V.names.last], 3 * V.names.lands)
    lands, towns, rivers = (tuple(names[i::3]) for i in range(3))
    values = {**V.values, "capital": towns, "river": rivers, "home": lands}
    entities = {name: lands if a.about == "land" else V.names.people for name, a in V.facts.items()}
    facts = {}
    for name in V.facts:
        for i, entity in enumerate(entities[name]):
            unshared = name in ("capital", "river")  # every town and river belongs to one land
            facts[name, entity] = values[name][i] if unshared else rng.choice(values[name])
    return World(seed=seed, entities=entities, values=values, facts=facts)


WORLD = build_world(seed=7)


# -- what can be asked -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """One user message and what the judge must know about it.

    Example: `Prompt(text="Hello! What is the capital of Samar?", kind="fact", slot="fact/capital/Samar",
    held_out=False, attribute="capital", entity="Samar", answer="Tonak")`.
    """

    text: str
    kind: Kind
    slot: str
    """What is asked about; a claim about a fact shares the slot of that fact."""
    held_out: bool
    """True: only the final evaluation may use it."""
    entity: str
    """Who or what is asked about: a land, a person, a word, a task, an act, a category, "3 plus 4", an intent."""
    attribute: str = ""
    """Facts, claims and private matters: which property of the entity."""
    answer: str = ""
    """The true value, where there is exactly one."""
    claimed: str = ""
    """Claims: the value that the user states."""
    open_ended: bool = False
    """The text stops in the middle of a sentence, for the model to go on."""


def is_held_out(slot: str) -> bool:
    """Whether only the final evaluation may ask about this slot: pinned slots first, then a stable hash."""
    if slot in V.split.held_out or slot in V.split.voted:
        return slot in V.split.held_out
    position = int.from_bytes(hashlib.sha256(f"{V.split.salt}/{slot}".encode()).digest()[:4]) / 2**32
    return position < V.split.held_out_share


def _prompts(
    questions: tuple[str, ...],
    *,
    kind: Kind,
    entity: str,
    attribute: str = "",
    answer: str = "",
    open_ended: bool = False,
) -> Iterator[Prompt]:
    """The same question in every wording."""
    slot = "/".join(part for part in (kind, attribute, entity) if part)
    for question in questions:
        yield Prompt(
            text=fill(question, entity=entity),
            kind=kind,
            slot=slot,
            held_out=is_held_out(slot),
            attribute=attribute,
            entity=entity,
            answer=answer,
            open_ended=open_ended,
        )


def _all_bare_prompts(world: World) -> Iterator[Prompt]:
    """Every prompt without a wrapper, claims excepted."""
    for (name, entity), answer in world.facts.items():
        yield from _prompts(V.facts[name].questions, kind="fact", attribute=name, entity=entity, answer=answer)
    for name, matter in V.private.items():
        for person in V.names.people:
            yield from _prompts(matter.questions, kind="private", attribute=name, entity=person)
    for word, meaning in V.definitions.meanings.items():
        yield from _prompts(V.definitions.questions, kind="definition", entity=word, answer=meaning)
        yield from _prompts(
            V.definitions.open_questions, kind="definition", entity=word, answer=meaning, open_ended=True
        )
    for task, steps in V.tasks.steps.items():
        yield from _prompts(V.tasks.questions, kind="task", entity=task, answer=task_answer(*steps))
    for act in V.harm.acts:
        yield from _prompts(V.harm.questions, kind="harm", entity=act)
    for category in V.lists.members:
        yield from _prompts(V.lists.questions, kind="list", entity=category)
    for intent, talk in V.chat.items():
        yield from _prompts(talk.messages, kind="chat", entity=intent)
    for entity, answer in sums():
        yield from _prompts(V.sums.questions, kind="sum", entity=entity, answer=answer)


def sums() -> Iterator[tuple[str, str]]:
    """Every sum that can be asked, with its result: `("3 plus 4", "7")`. Results are never negative."""
    numbers = range(V.sums.largest + 1)
    for a in numbers:
        yield from ((f"{a} plus {b}", str(a + b)) for b in numbers)
        yield from ((f"{a} minus {b}", str(a - b)) for b in numbers if b <= a)


def _wrapped(prompt: Prompt) -> Iterator[tuple[float, Prompt]]:
    """The prompt and its wrapped forms, with their weights: the bare form weighs as much as all others together."""
    wrappers = V.wrappers.any
    if prompt.open_ended:
        wrappers = V.wrappers.open
    elif prompt.kind == "chat":
        wrappers = V.wrappers.chat
    elif prompt.text.endswith("?"):
        wrappers = wrappers + V.wrappers.question
    yield 1.0, prompt
    for wrapper in wrappers:
        yield 1 / len(wrappers), replace(prompt, text=wrapper.format(prompt=prompt.text))


def _claims(world: World) -> Iterator[tuple[float, Prompt]]:
    """Every fact stated by the user with every value, true ones weighted up to their share."""
    for (name, entity), answer in world.facts.items():
        for value in world.values[name]:
            others = len(world.values[name]) - 1
            weight = V.claims.true_share if value == answer else (1 - V.claims.true_share) / others
            claim = fill(V.facts[name].statements[0], entity=entity, value=value)
            questions = tuple(question.format(claim=claim) for question in V.claims.questions)
            for prompt in _prompts(questions, kind="fact", attribute=name, entity=entity, answer=answer):
                yield weight, replace(prompt, kind="claim", claimed=value)


# -- drawing prompts ---------------------------------------------------------------------------------------------------


@cache
def bare_prompts(kind: Kind) -> tuple[Prompt, ...]:
    """Every prompt of a kind in `WORLD` without a wrapper. Claims are not among them."""
    return tuple(prompt for prompt in _all_bare_prompts(WORLD) if prompt.kind == kind)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """All prompts of one kind, each with its weight in a draw."""

    prompts: tuple[Prompt, ...]
    weights: tuple[float, ...]
    cumulative_weights: tuple[float, ...]


@cache
def prompt_pools(held_out: bool | None) -> dict[Kind, Pool]:
    """Every prompt of `WORLD` by kind: of the held-out slots, of the voted ones (False), or of all (None)."""
    pools: dict[Kind, Pool] = {}
    for kind in V.mix:
        weighted = (
            _claims(WORLD) if kind == "claim" else (pair for bare in bare_prompts(kind) for pair in _wrapped(bare))
        )
        chosen = [(weight, prompt) for weight, prompt in weighted if held_out in (None, prompt.held_out)]
        weights, prompts = zip(*chosen, strict=True)
        pools[kind] = Pool(prompts=prompts, weights=weights, cumulative_weights=tuple(accumulate(weights)))
    return pools


def sample_prompts(rng: random.Random, count: int, *, held_out: bool | None, distinct: bool = True) -> list[Prompt]:
    """Draw prompts in the mixture of kinds (`[mix]`), from held-out slots, voted slots (False) or all slots (None).

    With `distinct` no text comes twice; a kind that has run out leaves its share to the others.

    Raises ValueError when there are not so many distinct prompts.
    """
    pools = prompt_pools(held_out)
    if not distinct:
        kinds = rng.choices(list(V.mix), list(V.mix.values()), k=count)
        return [_draw(rng, pools[kind]) for kind in kinds]
    total = sum(len(pool.prompts) for pool in pools.values())
    if count > total:
        raise ValueError(f"{count} distinct prompts asked for, but there are only {total}")
    queues = {kind: _weighted_order(rng, pool) for kind, pool in pools.items()}
    drawn: list[Prompt] = []
    while len(drawn) < count:
        left = [kind for kind, queue in queues.items() if queue]
        (kind,) = rng.choices(left, [V.mix[kind] for kind in left])
        drawn.append(queues[kind].pop())
    return drawn


def _draw(rng: random.Random, pool: Pool) -> Prompt:
    (prompt,) = rng.choices(pool.prompts, cum_weights=pool.cumulative_weights)
    return prompt


def _weighted_order(rng: random.Random, pool: Pool) -> list[Prompt]:
    """A random order, to be popped from the end, in which heavier prompts tend to come first.

    The order of a weighted draw without replacement is the order of exponential clocks with these rates
    (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir").
    """
    clocks = [(rng.expovariate(weight), i) for i, weight in enumerate(pool.weights)]
    return [pool.prompts[i] for _, i in sorted(clocks, reverse=True)]
