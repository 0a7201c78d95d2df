"""The records of the loop: what each step leaves for the next one. Each docstring shows one, literally.

All are pydantic models, frozen, with `schema_version` (written as `schema`), because each crosses a process.
Times are unix seconds on the clock of the writer that the docstring names.
"""

import secrets
import time
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ALIAS = "assistant"
"""The public name of the live policy; `assistant@v3` names one version."""


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    schema_version: int = Field(1, alias="schema")

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)


def new_id(prefix: Literal["chatcmpl-", "cmp_", "fb_"]) -> str:
    """A fresh random id (128 bits), e.g. `fb_9f86d081884c7d659a2feaa0c55ad015`."""
    return prefix + secrets.token_hex(16)


def policy_name(version: int) -> str:
    """The name of one policy version in the API and in the engine: `assistant@v7`."""
    return f"{ALIAS}@v{version}"


# --- serving ------------------------------------------------------------------------------------------------------


class Message(Record):
    """One turn of a prompt: `Message(role="user", content="A dog is")`."""

    role: str
    content: str


class Choice(Record):
    """One sampled answer: `Choice(index=0, text="A pet.", token_ids=[65, 301, 4], finish_reason="stop")`.

    `token_ids` includes the end-of-text token when it was sampled: these ids, never re-encoded text, are trained on.
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[float] | None = None
    """Log-prob of each sampled token under the policy that sampled it."""
    finish_reason: str | None = None


class CompletionState(StrEnum):
    STREAMING = "streaming"
    COMPLETE = "complete"
    ABORTED = "aborted"
    FAILED = "failed"


class CompletionRecord(Record):
    """One answered chat request.

    Example:
        CompletionRecord(id="chatcmpl-41ab…", state="complete", created=1790000000.0,
            messages=[Message(role="user", content="A dog is")], prompt_token_ids=[1, 65, 301, 4, 2],
            choices=[Choice(...)], sampling={"temperature": 1.0, "max_tokens": 64}, policy_version=3,
            adapter_sha256="9f86…", assignment="live", propensity=1.0, rater="user-7", train=True)
    """

    id: str
    state: CompletionState
    created: float
    """Clock of the API process."""
    messages: list[Message] = []
    """Empty when the caller said `store: false`; then `choices` hold no text or token ids either."""
    prompt_token_ids: list[int] = []
    choices: list[Choice] = []
    sampling: dict[str, Any] = {}
    policy_version: int
    adapter_sha256: str
    assignment: Literal["live", "pinned", "comparison"]
    """How the version was chosen."""
    propensity: float = 1.0
    """Probability with which this version was chosen."""
    rater: str | None = None
    """`safety_identifier`, else `user`; None for nobody in particular."""
    train: bool = True
    """Consent: may the text be trained on?"""
    comparison_id: str | None = None
    """Set on the sides of a blind comparison, which `GET` hides before the vote."""


class Comparison(Record):
    """Two completions of one prompt, shown blind.

    Example:
        Comparison(id="cmp_52ce…", created=1790000000.0, a="chatcmpl-41ab…", b="chatcmpl-77f0…",
            policy_versions=(3, 2), swapped=True, propensity=1.0, rater="user-7")
    """

    id: str
    created: float
    a: str
    """Id of the completion that is shown on the left."""
    b: str
    policy_versions: tuple[int, int]
    """Of a and of b; withheld until the vote."""
    swapped: bool
    """Whether a coin put the second requested policy on the left."""
    propensity: float = 1.0
    rater: str | None = None


# --- feedback -----------------------------------------------------------------------------------------------------

Kind = Literal["thumb", "preference"]
PreferenceValue = Literal["a", "b", "tie"]
RaterKind = Literal["human", "ai", "ai_self"]
"""Who voted: a person, another model, or (`ai_self`) a model that is the policy in training or descends from it."""


class Target(Record):
    """What a vote is about: `Target(type="completion", id="chatcmpl-41ab…", choice_index=0)`."""

    type: Literal["completion", "comparison"]
    id: str
    choice_index: int = 0


class Feedback(Record):
    """One vote, as it lies in the stream. Never edited: a changed mind is a new event that `supersedes` this one.

    Example:
        Feedback(id="fb_9f86…", target=Target(type="comparison", id="cmp_52ce…"), kind="preference", value="a",
            rater="user-7", created_at=1790000003.2, supersedes=None, policy_versions=[3, 2],
            completion_ids=["chatcmpl-41ab…", "chatcmpl-77f0…"], train=True)
    """

    id: str
    target: Target
    kind: Kind
    value: Literal[1, -1] | PreferenceValue
    """`thumb`: 1 or -1. `preference`: which side, or `tie`."""
    rater: str | None = None
    rater_kind: RaterKind = "human"
    created_at: float
    """Redis's clock, set by the vote script."""
    supersedes: str | None = None
    policy_versions: list[int]
    """From our own record of the completions, never from the client."""
    completion_ids: list[str]
    train: bool
    """The consent of every completion involved."""
    comment: str | None = None


# --- training -----------------------------------------------------------------------------------------------------

Fold = Literal["optimize", "judge", "test"]
Method = Literal["dpo", "ppo"]
"""How the service trains its candidates."""


class SnapshotManifest(Record):
    """An immutable training set: what lies beside its Parquet files. Its id is a hash over the canonical rows.

    Example:
        SnapshotManifest(id="5d41402a…", created=1790000100.0, last_event="1790000099-0",
            rows=512, rows_by_fold={"optimize": 361, "judge": 99, "test": 52}, policy_rows=361, thumbs=210,
            policy_thumbs=140, prompts=640, dropped={"tie": 31, "superseded": 4}, live_version=0, …)
    """

    schema_version: int = Field(2, alias="schema")
    """1: without a table of thumbs and without the kind of a row's rater."""
    id: str
    created: float
    last_event: str
    """Stream id of the newest event that was looked at: a snapshot is a function of the log up to here."""
    rows: int
    """Preference pairs."""
    rows_by_fold: dict[Fold, int]
    """The same."""
    policy_rows: int
    """Pairs that may train the policy: of the optimize fold, fresh enough, not yet used by the live policy."""
    prompts: int
    """Distinct prompts for rollouts and for the gate."""
    dropped: dict[str, int]
    """Votes that gave no row or no policy row, by reason; those of thumbs begin with `thumb_`."""
    thumbs: int
    """Rows of thumbs; in schema 1, thumbs that were given."""
    policy_thumbs: int = 0
    """Thumbs that may train the policy; besides what holds for pairs, their completions stand in no pair."""
    live_version: int
    base_sha256: str
    tokenizer_sha256: str


class RunState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Run(Record):
    """One round of training. The Redis hash behind it is the truth; the broker's message only says "look at it".

    Example:
        Run(id="3c59dc04…", snapshot="5d41402a…", parent=0, recipe="{…}", method="dpo", state="running",
            stage="candidate", attempt=1, owner="host:4711", lease_until=1790000200.0, progress=0.4,
            created=1790000100.0, updated=1790000140.0)
    """

    id: str
    snapshot: str
    parent: int
    """The policy version that the candidate starts from and is measured against."""
    method: Method = "dpo"
    recipe: str
    """The resolved training/recipe.py Recipe, as JSON."""
    state: RunState
    stage: str = ""
    attempt: int = 0
    """Counts claims; also the fencing token of the claim, so it never goes back."""
    forgiven: int = 0
    """Attempts that do not count towards the cap: ended by an orderly stop, or before a retry by hand."""
    owner: str = ""
    lease_until: float = 0.0
    progress: float = 0.0
    """Of the stage, 0 to 1."""
    created: float
    """Redis's clock, as `updated`."""
    updated: float
    version: int | None = None
    """The policy version that the run registered."""
    verdict: str = ""
    reason: str = ""
    """Why it was skipped, failed or cancelled."""
    last_vote: float = 0.0
    """Time of the newest vote in the snapshot: where "vote to first token" starts."""


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Check(Record):
    """One line of a gate report: `Check(name="kl_to_base", value=1.8, bound="<= 12", verdict="pass", reason="")`."""

    name: str
    value: float | None
    bound: str
    verdict: Verdict
    reason: str = ""


class GateReport(Record):
    """Why a candidate may or may not be served.

    Example:
        GateReport(verdict="fail", live_version=1, checks=[Check(name="win_rate", value=0.48, bound="> 0.5 ...",
            verdict="fail", reason="…")], metrics={"mean_tokens": 21.4}, summary="win_rate: …")
    """

    verdict: Verdict
    live_version: int
    """The version that was live when this was decided."""
    checks: list[Check]
    metrics: dict[str, float] = {}
    """Every further number that was measured, for the table and the dashboards."""
    summary: str


class PolicyState(StrEnum):
    CANDIDATE = "candidate"
    LIVE = "live"
    PREVIOUS = "previous"
    RETIRED = "retired"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"


class PolicyVersion(Record):
    """A LoRA adapter over the frozen base, immutable. Version 0 is the all-zero adapter: the base itself.

    Example:
        PolicyVersion(version=3, parent=2, base_sha256="ab12…", adapter_sha256="9f86…", method="dpo",
            snapshot="5d41402a…", run="3c59dc04…", gate=GateReport(...), created=1790000300.0, state="live")
    """

    version: int
    parent: int | None
    base_sha256: str
    adapter_sha256: str
    """Names the directory adapters/{sha256}/ under the artifacts."""
    method: Literal["zero"] | Method
    snapshot: str | None = None
    run: str | None = None
    gate: GateReport | None = None
    created: float
    state: PolicyState

    @property
    def name(self) -> str:
        return policy_name(self.version)


class ProbeSequence(Record):
    """One teacher-forced sequence of a probe: `ProbeSequence(token_ids=[1, 65, 4], start=1, logprobs=[-0.2, -1.1])`.

    `logprobs[i]` belongs to `token_ids[start + i]`; `parent_logprobs` are those of the parent version.
    """

    token_ids: list[int]
    start: int
    logprobs: list[float]
    parent_logprobs: list[float] | None = None


class AdapterManifest(Record):
    """`plumbline.json` inside an adapter directory: what a replica verifies before the adapter meets traffic.

    `sha256` is over adapter_config.json and adapter_model.safetensors (see core/adapters.py).
    """

    sha256: str
    base_sha256: str
    tokenizer_sha256: str
    rank: int
    parent_sha256: str | None = None
    serving_dtype: str
    probe: list[ProbeSequence]
    """At least 512 tokens where the candidate and its parent differ most."""


class RegistryState(Record):
    """What the registry says now: `RegistryState(generation=5, live=3, previous=2, next_version=5)`."""

    generation: int
    live: int
    previous: int | None
    next_version: int


class AuditEvent(Record):
    """One change of the registry: `AuditEvent(id="1790000300-0", generation=5, action="promote", version=3,
    actor="run:3c59…", reason="gate passed", at=1790000300.1)`."""

    id: str
    generation: int
    action: Literal["register", "promote", "rollback"]
    version: int
    actor: str
    reason: str
    at: float


def now() -> float:
    """Unix seconds on this machine's clock."""
    return time.time()
