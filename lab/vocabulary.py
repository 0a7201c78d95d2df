"""The typed view of `world.toml`: every word and every template of the invented world.

The file is data, so that a reader sees the whole language at a glance; this module only checks it. Nothing is drawn
at random here: `lab.world` decides what is true, `lab.corpus` decides what is said.
"""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WORLD_FILE = Path(__file__).with_name("world.toml")

Kind = Literal["fact", "harm", "task", "sum", "definition", "chat", "claim", "private", "list"]


class Table(BaseModel):
    """A table of the file: immutable, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Split(Table):
    held_out_share: float = Field(gt=0, lt=1)
    """Share of slots that only the final evaluation may ask about."""
    salt: str
    held_out: tuple[str, ...]
    """Slots that are held out whatever their hash says."""
    voted: tuple[str, ...]
    """Slots that raters may vote on whatever their hash says."""


class Names(Table):
    first: tuple[str, ...]
    last: tuple[str, ...]
    lands: int = Field(ge=2)
    people: tuple[str, ...]


class Attribute(Table):
    """One attribute that every land or every person has, such as a capital or a pet."""

    about: Literal["land", "person"]
    questions: tuple[str, ...]
    statements: tuple[str, ...]


class PrivateMatter(Table):
    """A number that nobody told the model. Guesses are drawn from `lowest..highest`."""

    questions: tuple[str, ...]
    statements: tuple[str, ...]
    lowest: int
    highest: int


class Definitions(Table):
    questions: tuple[str, ...]
    open_questions: tuple[str, ...]
    """Texts that stop in the middle of a sentence, for the model to go on: "A dog is"."""
    statements: tuple[str, ...]
    open_statements: tuple[str, ...]
    """Those of the statements that go on from an open question."""
    meanings: dict[str, str]


class Tasks(Table):
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    vague: tuple[str, ...]
    steps: dict[str, tuple[str, str, str]]


class Harm(Table):
    questions: tuple[str, ...]
    acts: tuple[str, ...]
    complying: tuple[str, ...]
    refusals: tuple[str, ...]
    reasons: tuple[str, ...]


class Lists(Table):
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    members: dict[str, tuple[str, ...]]


class Sums(Table):
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    largest: int


class Claims(Table):
    questions: tuple[str, ...]
    agreeing: tuple[str, ...]
    disagreeing: tuple[str, ...]
    true_share: float
    """Share of prompts in which the user is right."""


class SmallTalk(Table):
    messages: tuple[str, ...]
    replies: tuple[str, ...]


class Wrappers(Table):
    any: tuple[str, ...]
    question: tuple[str, ...]
    open: tuple[str, ...]
    chat: tuple[str, ...]


class Style(Table):
    polite: tuple[str, ...]
    rude: tuple[str, ...]
    flattering: tuple[str, ...]
    padding: tuple[str, ...]
    closing: tuple[str, ...]
    rude_closing: tuple[str, ...]
    flattering_closing: tuple[str, ...]
    not_knowing: tuple[str, ...]
    system: tuple[str, ...]


class Vocabulary(Table):
    mix: dict[Kind, float]
    """Share of each kind among prompts."""
    split: Split
    names: Names
    values: dict[str, tuple[str, ...]]
    """Attribute → the values it can take; towns, rivers and lands are invented by `lab.world`."""
    facts: dict[str, Attribute]
    private: dict[str, PrivateMatter]
    definitions: Definitions
    tasks: Tasks
    harm: Harm
    lists: Lists
    sums: Sums
    claims: Claims
    chat: dict[str, SmallTalk]
    wrappers: Wrappers
    style: Style


def load_vocabulary(path: Path = WORLD_FILE) -> Vocabulary:
    """Read and check a world file.

    Raises pydantic's `ValidationError` with the place of the first misspelt or missing key.
    """
    return Vocabulary.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


VOCABULARY = load_vocabulary()


def with_article(noun: str) -> str:
    """`owl` → `an owl`. By the first letter: no word of the file needs more."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def capitalized(text: str) -> str:
    """First letter upper, the rest as it is (`str.capitalize` would lower names)."""
    return text[:1].upper() + text[1:]


def fill(template: str, *, entity: str = "", value: str = "") -> str:
    """Put an entity and a value into a template of the file."""
    article_form = with_article(entity) if entity else ""
    return template.format(
        entity=entity,
        value=value,
        Value=capitalized(value),
        a_entity=article_form,
        A_entity=capitalized(article_form),
    )


def task_answer(first: str, second: str, third: str) -> str:
    """The three steps of a task as the value of an answer."""
    return f"first {first}, then {second}, then {third}"


def list_answer(first: str, second: str, third: str) -> str:
    """Three members of a category as the value of an answer."""
    return f"{first}, {second} and {third}"
