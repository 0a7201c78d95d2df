"""Votes, completions and what they are judged by, as the rules of snapshots meet them."""

from collections.abc import Iterable, Mapping
from functools import cache

from core.records import Choice, CompletionRecord, CompletionState, Feedback, Message, Target
from feedback import eligibility, examples
from feedback.eligibility import Circumstances, Freshness, UsableVote
from feedback.events import LoggedPrompt, LoggedVote, RaterState
from feedback.examples import Selection
from feedback.influence import Caps
from feedback.rows import VoteRow, cluster_of, fold_of

SALT = b"salt"
FRESH = Freshness(versions=frozenset({3, 2}), since="100-0")


def circumstances(**given: object) -> Circumstances:
    """Live is version 3, before it was 2, and it learned from what came up to 100-0."""
    fields: dict[str, object] = {"salt": SALT, "freshness": FRESH}
    return Circumstances(**(fields | given))  # type: ignore[arg-type]


BY = circumstances()


@cache
def prompt_in(fold: str, number: int = 0) -> str:
    """A prompt text whose cluster falls into `fold`; another one for each number."""
    texts = (f"prompt {index}" for index in range(10_000))
    found = [text for text in texts if fold_of(SALT, cluster_of([Message(role="user", content=text)])) == fold]
    return found[number]


OPTIMIZE = prompt_in("optimize")


def side(identifier: str, *, prompt: str = OPTIMIZE, finish_reason: str = "stop", **given: object) -> CompletionRecord:
    """A complete answer of version 3 that ends with the last letter of its id."""
    text = str(given.pop("text", f"text of {identifier}"))
    fields: dict[str, object] = {
        "id": identifier,
        "state": CompletionState.COMPLETE,
        "created": 0.1,
        "messages": [Message(role="user", content=prompt)],
        "prompt_token_ids": [1, 2],
        "choices": [Choice(index=0, text=text, token_ids=[ord(text[-1]), 4], finish_reason=finish_reason)],
        "policy_version": 3,
        "adapter_sha256": "00",
        "assignment": "comparison",
    }
    return CompletionRecord.model_validate(fields | given)


def vote(value: object = "a", *, entry: str = "200-0", name: str = "1", **given: object) -> LoggedVote:
    """A preference of user-7 between the completions {name}-a and {name}-b."""
    fields: dict[str, object] = {
        "id": f"fb_{name}",
        "target": Target(type="comparison", id=f"cmp_{name}"),
        "kind": "preference",
        "value": value,
        "rater": "user-7",
        "created_at": float(entry.split("-")[0]) / 1000,
        "policy_versions": [3, 3],
        "completion_ids": [f"{name}-a", f"{name}-b"],
        "train": True,
    }
    return LoggedVote(entry=entry, feedback=Feedback.model_validate(fields | given))


def on_completion(kind: str, value: object, *, completion: str = "1-a", name: str = "t", **given: object) -> LoggedVote:
    """Of one completion: a thumb, a rating, a correction, a flag."""
    target = Target(type="completion", id=completion, choice_index=int(str(given.pop("choice_index", 0))))
    fields = {"target": target, "completion_ids": [completion], "policy_versions": [3]}
    return vote(value, name=name, kind=kind, **(fields | given))


def ranking(groups: list[list[str]], *, name: str = "r", **given: object) -> LoggedVote:
    """Over as many completions {name}-a, {name}-b, … as there are sides in the groups."""
    ids = [f"{name}-{letter}" for letter in sorted(letter for group in groups for letter in group)]
    return vote(groups, name=name, kind="ranking", completion_ids=ids, policy_versions=[3] * len(ids), **given)


def select(
    votes: list[LoggedVote],
    *sides: CompletionRecord,
    by: Circumstances = BY,
    caps: Caps | None = None,
    prompts: Iterable[LoggedPrompt] = (),
) -> Selection:
    records = {record.id: record for record in sides}

    def completions(ids: Iterable[str]) -> Mapping[str, CompletionRecord]:
        return {identifier: records[identifier] for identifier in ids if identifier in records}

    return examples.select(votes, completions, list(prompts), by=by, caps=caps)


def rows_of(
    votes: list[LoggedVote], *sides: CompletionRecord, by: Circumstances = BY, caps: Caps | None = None
) -> list[VoteRow]:
    """All rows of all votes, in the order of time."""
    records = {record.id: record for record in sides}
    found = select(votes, *sides, by=by, caps=caps)
    return [row for usable in found.votes for row in examples.rows(usable, records, by=by)]


def usable(given: LoggedVote, *sides: CompletionRecord, by: Circumstances = BY) -> UsableVote:
    """The vote as it may be used, which it may."""
    found = eligibility.judge(given, {record.id: record for record in sides}, by)
    assert isinstance(found, UsableVote), found
    return found


def states(**given: RaterState) -> dict[str, RaterState]:
    """By the rater's id, of which `-` is written `_`."""
    return {name.replace("_", "-"): state for name, state in given.items()}
