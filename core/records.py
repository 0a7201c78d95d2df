"""The records of the loop: what each step leaves for the next one. Each docstring shows one, literally.

All are pydantic models, frozen, with `schema_version` (written as `schema`), because each crosses a process.
Times are unix seconds on the clock of the writer that the docstring names.

A field with a default may be added without another `schema`: what was stored without it is read, and so is what a newer
process stored with it, since a reader passes over fields that it does not know. Only readers do: a record that is made,
or that a request brings, has the fields that stand here.
"""

import secrets
import time
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, model_validator

from core.text import Text

ALIAS = "assistant"
"""The public name of the live policy; `assistant@v3` names one version."""
_Extra = Literal["allow", "ignore", "forbid"]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)

    schema_version: int = Field(1, alias="schema")

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True)

    @classmethod
    def model_validate_json(
        cls, json_data: str | bytes | bytearray, *, extra: _Extra | None = "ignore", **options: Any
    ) -> Self:
        """As pydantic's; what a newer process wrote beside what is known here is passed over, in parts as well."""
        return super().model_validate_json(json_data, extra=extra, **options)

    @classmethod
    def model_validate(cls, obj: Any, *, extra: _Extra | None = "ignore", **options: Any) -> Self:
        """The same of a Redis hash."""
        return super().model_validate(obj, extra=extra, **options)


def new_id(prefix: Literal["chatcmpl-", "cmp_", "fb_", "task_"]) -> str:
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
    """Log-prob of each sampled token under the policy that sampled it; only where the client asked, because trainers
    compute their own and the engine would do so for every token of every chat."""
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
    assignment: Literal["live", "canary", "pinned", "comparison"]
    """How the version was chosen."""
    propensity: float = 1.0
    """Probability with which this version was chosen."""
    release: str | None = None
    """The release that was open, if this was traffic of one of its two arms: `live` or `canary`."""
    rater: str | None = None
    """`safety_identifier`, else `user`, else the API key; None for nobody in particular. As core/access.py keeps it."""
    train: bool = True
    """Consent: may the text be trained on?"""
    metadata: dict[str, str] = {}
    """The caller's own labels, as in OpenAI's API."""
    finished: float | None = None
    """When the last token was sampled; clock of the API process."""
    comparison_id: str | None = None
    """Set on the sides of a blind comparison, which `GET` hides before the vote."""
    tenant: str = ""
    """Whose key asked; empty for the deployment itself. To others the completion does not exist."""
    regenerates: str | None = None
    """The completion in whose place this one was asked for: somebody was not content with that."""

    def outline(self) -> str:
        """What a vote needs to know, as JSON of the same shape without the bulk: a prompt may be long, and Redis reads
        this while nobody else is served."""
        small = dict.fromkeys(("policy_version", "rater", "train", "comparison_id", "tenant"), True)
        bulky: dict[str, Any] = {"sampling": {"n"}, "choices": {"__all__": {"index"}}}
        return self.model_dump_json(include=small | bulky)


class StoredRequest(Record):
    """What a stored completion needs besides its record, where that is not a conversation of text alone.

    Example:
        StoredRequest(messages=[{"role": "user", "content": "Weather in Oslo?"}], fields={"tools": [{…}]},
            answers={0: {"role": "assistant", "content": None, "tool_calls": [{…}]}}, reasons={0: "tool_calls"})
    """

    messages: list[dict[str, Any]]
    """As they were sent."""
    fields: dict[str, Any] = {}
    """Of the request: `tools`, `tool_choice`, `response_format`."""
    answers: dict[int, dict[str, Any]] = {}
    """By choice, the message as it was shown; kept where tools may have been called, else the record has it."""
    reasons: dict[int, str | None] = {}
    """By choice, the finish reason as it was shown."""


Asked = Literal["random", "active", "requested", "release"]
"""Why a comparison was asked for: by a draw, because much can be learned from it, the client named the policies, or by
a draw of the open release: its candidate against the incumbent."""


class Comparison(Record):
    """Two to nine completions of one prompt, shown blind as sides `a`, `b`, … `i`.

    Example:
        Comparison(id="cmp_52ce…", created=1790000000.0, completion_ids=["chatcmpl-41ab…", "chatcmpl-77f0…"],
            policy_versions=[3, 2], order=[1, 0], asked="random", propensity=1.0, rater="user-7")
    """

    id: str
    created: float
    """Clock of the API process; before the first token."""
    completion_ids: list[str]
    """In the order in which they are shown: side `a` first."""
    policy_versions: list[int]
    """Of each side; withheld until the vote."""
    order: list[int]
    """Which of the requested policies stands at each place: `[1, 0]` if the second is side `a`."""
    asked: Asked = "random"
    propensity: float = 1.0
    """Probability with which this comparison was asked for, of those that could have been."""
    release: str | None = None
    """The open release, if `asked` says so: whose evidence the votes are."""
    rater: str | None = None
    tenant: str = ""
    """As on a completion."""


class Answer(BaseModel):
    """An answer in a conversation, and what its reader said of it: `Answer(completion="chatcmpl-41ab…", text="A pet")`.

    The page's own account, for showing it again; what trains is the completion and the votes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    completion: Text | None = Field(None, max_length=64)
    """None where it could not be recorded, or is a side of a comparison that is still blind."""
    choice: StrictInt = Field(0, ge=0, lt=1024)
    text: Text
    model: Text | None = Field(None, max_length=64)
    finish_reason: Text | None = Field(None, max_length=64)
    thumb: Literal[1, -1] | None = None
    rating: StrictInt | None = Field(None, ge=1, le=5)
    correction: Text | None = None
    comparison: Text | None = Field(None, max_length=64)
    vote: Text | None = Field(None, max_length=64)
    stopped: bool = False
    """By its reader, before its end."""


class Turn(BaseModel):
    """A question and its answers, several if it was asked again: `Turn(question="A dog is", answers=[…], shown=0)`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: Text
    answers: list[Answer] = []
    shown: StrictInt = Field(0, ge=0)
    """Which of them the conversation goes on from."""

    @model_validator(mode="after")
    def _shows_one(self) -> Self:
        if self.shown >= max(1, len(self.answers)):
            raise ValueError(f"shown is {self.shown}, and there are {len(self.answers)} answers")
        return self


class Conversation(Record):
    """A conversation of the page, as its rater wrote it last.

    Example:
        Conversation(id="conv_9f86…", rater="web-5f4d…", title="Dogs", turns=[Turn(…)], revision=3,
            created=1790000000.0, updated=1790000300.0)
    """

    id: str
    rater: str
    title: str
    turns: list[Turn]
    revision: int = 0
    """Counts its writes: who writes says which one they read."""
    created: float = 0.0
    updated: float = 0.0
    """Redis's clock, as `created`."""


SIDES = "abcdefghi"
"""Names of a comparison's sides, in the order of its completions."""


# --- feedback -----------------------------------------------------------------------------------------------------

Kind = Literal["thumb", "rating", "preference", "ranking", "correction", "comment", "flag"]
PreferenceValue = Literal["a", "b", "tie", "both_bad"]
FlagValue = Literal["safety", "pii", "spam", "other"]
Value = StrictInt | StrictStr | list[list[str]]
"""By kind: `thumb` 1 or -1 · `rating` 1 to 5 · `preference` PreferenceValue · `ranking` sides in groups, best first,
`[["b"], ["a", "d"], ["c"]]` · `correction` the edited answer · `comment` text · `flag` FlagValue."""
RaterKind = Literal["human", "ai", "ai_self"]
"""Who voted: a person, another model, or (`ai_self`) a model that is the policy in training or descends from it."""
Source = Literal["api", "receipt", "task"]
"""How a vote came: by an application, by a browser with a receipt, or as a rater's task."""


class Target(Record):
    """What a vote is about: `Target(type="completion", id="chatcmpl-41ab…", choice_index=0)`."""

    type: Literal["completion", "comparison"]
    id: str
    choice_index: int = 0


class Feedback(Record):
    """One revision of one act of feedback, as it lies in the log. Never edited: a changed mind is another event.

    `(id, revision)` names an event. A later revision replaces an earlier one; `withdrawn` takes the whole act back; a
    new vote of the same rater, target and kind has an id of its own and `supersedes` the one before.

    Example:
        Feedback(id="fb_9f86…", target=Target(type="comparison", id="cmp_52ce…"), kind="preference", value="a",
            rater="user-7", created_at=1790000003.2, supersedes=None, policy_versions=[3, 2],
            completion_ids=["chatcmpl-41ab…", "chatcmpl-77f0…"], train=True, reasons=["correct"])
    """

    schema_version: int = Field(2, alias="schema")
    """1: thumbs and preferences of two sides only, without revisions."""
    id: str
    revision: int = 1
    withdrawn: bool = False
    target: Target
    kind: Kind
    value: Value
    reasons: list[str] = []
    """Tags of the application's own choice: `["wrong", "too_long"]`."""
    comment: str | None = None
    metadata: dict[str, str] = {}
    rater: str | None = None
    rater_kind: RaterKind = "human"
    source: Source = "api"
    created_at: float
    """Of this revision: Redis's clock, set by the vote script."""
    occurred_at: float | None = None
    """When the person did it, if the client says that this was earlier; its clock."""
    supersedes: str | None = None
    policy_versions: list[int]
    """From our own record of the completions, never from the client."""
    completion_ids: list[str]
    """The completion, or a comparison's sides in the order of their names."""
    train: bool
    """The consent of every completion involved."""


class RaterEvent(Record):
    """Something that concerns all that one rater did; in the same log as feedback.

    Example:
        RaterEvent(rater="user-7", action="quarantine", reason="anomaly: p = 0.0004 after 41 votes",
            actor="scheduler", created_at=1790000100.0)
    """

    rater: str
    """Of an `erase`, a keyed hash (feedback/rows.py `hashed_rater`): the id itself is nowhere any more."""
    action: Literal["consent", "quarantine", "restore", "erase"]
    train: bool | None = None
    """For `consent`: whether what they write and vote may be trained on."""
    reason: str = ""
    actor: str
    created_at: float
    """Redis's clock."""


class Share(Record):
    """A measured share with its 95 % interval: `Share(value=0.53, low=0.49, high=0.57, count=612)`."""

    value: float
    low: float
    high: float
    count: int
    """Of votes."""


class RaterReport(Record):
    """How far one rater was trusted when a round was last prepared (feedback/raters.py).

    Example:
        RaterReport(rater="user-7", votes=41, judged=38, reliability=0.1, reliability_low=-0.4, reliability_high=0.5,
            weight=0.0, quarantined=True, reason="first side: e = 2.1e+06 after 38 votes", as_of=1790000100.0)
    """

    rater: str
    votes: int
    """That were looked at."""
    judged: int
    """Of which something is known about what an honest rater would have said."""
    reliability: float
    """1 as the usual rater, 0 a coin, below 0 the opposite."""
    reliability_low: float
    reliability_high: float
    """95 % credible interval."""
    weight: float
    """Of the rater's training rows, 0 to 1."""
    quarantined: bool = False
    """By what these votes say. What holds now, a person may have changed since: that stands in the log."""
    reason: str = ""
    as_of: float
    """Clock of the scheduler."""


class SharedHabit(Record):
    """What several raters have in common: `SharedHabit(habit="policy v3", raters=12, log10_e=9.1)`."""

    habit: str
    raters: int
    """Who have it with 90 % probability."""
    log10_e: float
    """Evidence against nobody having it."""


class TrustReport(Record):
    """What the votes say about those who cast them, when a round was last prepared. Names nobody.

    Example:
        TrustReport(as_of=1790000100.0, snapshot="5d41402a…", votes=1200, surveyed=1100, raters=61, quarantined=3,
            alpha_nominal=0.46, alpha_ordinal=None, first=Share(value=0.53, low=0.49, high=0.57, count=612),
            longer=Share(…), longer_expected=0.55, habits=[SharedHabit(…)], error="")
    """

    as_of: float
    """Clock of the scheduler."""
    snapshot: str
    """The one that was surveyed: before anybody was weighed."""
    votes: int
    """That were looked at."""
    surveyed: int
    """Of which a cross-fitted reward model has an opinion; none where the survey failed."""
    raters: int
    """Who were judged; who is set aside already is not judged again."""
    quarantined: int
    """Who are set aside now, by trust or by a person."""
    alpha_nominal: float | None
    """Krippendorff's, of preferences and thumbs on items with several votes."""
    alpha_ordinal: float | None
    """The same of ratings."""
    first: Share | None
    """How often people prefer the side that was shown first: one half without position bias."""
    longer: Share | None
    """How often they prefer the longer answer."""
    longer_expected: float | None
    """How often they would by what the answers say; more is length bias."""
    habits: list[SharedHabit] = []
    error: str = ""
    """Why there was no survey, if there was to be one."""


class ErasureState(StrEnum):
    QUEUED = "queued"
    ERASING = "erasing"
    REWRITING = "rewriting"
    """All is gone but from Redis's append-only file."""
    DONE = "done"


class Erasure(Record):
    """One person's erasure, without saying whose. It is tried again until it is done.

    Example:
        Erasure(id="er_5d41…", state="done", requested=1790000400.0, finished=1790000407.5,
            counts={"completions": 12, "feedback": 9}, snapshots=["5d41402a…"], runs=["3c59dc04…"], tainted=[3, 4])
    """

    id: str
    state: ErasureState
    tenant: str = ""
    """Whose rater it is; empty for the deployment's own."""
    requested: float
    """Clock of the process that was asked."""
    finished: float | None = None
    """Clock of the scheduler."""
    counts: dict[str, int] = {}
    """How much was removed, by what it was. What a killed attempt removed last may be missing."""
    snapshots: list[str] = []
    """Whose rows were deleted."""
    runs: list[str] = []
    """Whose directories were deleted."""
    tainted: list[int] = []
    """Policy versions that were trained on these snapshots, and those that descend from them."""
    error: str = ""
    """Why the last attempt did not get to the end."""


TaskKind = Literal["compare", "rank", "rate", "correct"]
"""What a rater is asked to do: answered by a `preference`, a `ranking`, a `rating` or a `correction`."""
TaskState = Literal["open", "done", "expired"]
"""Waiting for raters; answered by as many as were asked for; or over before that: past its deadline, target gone."""


class RaterTask(Record):
    """One question to hired raters about answers that exist already. What becomes of it, lies beside it in Redis.

    Example:
        RaterTask(id="task_0cc1…", kind="compare", target=Target(type="comparison", id="cmp_52ce…"),
            instructions="Prefer what is *true*.", overlap=3, gold="a", priority=10, asked="active", propensity=0.31,
            created=1790000000.0, deadline=1790604800.0)
    """

    id: str
    external_id: str | None = None
    """The operator's own name for it, which makes adding it idempotent. No rater sees it: it may say too much."""
    kind: TaskKind
    target: Target
    instructions: str = ""
    """Markdown, for the rater."""
    overlap: int = 1
    """How many raters are to answer it."""
    gold: Value | None = None
    """The answer that is known to be right; never sent to a rater."""
    priority: int = 0
    """Higher ones are given out first."""
    asked: Literal["random", "active"] = "random"
    """Why it was chosen: by a draw, or because much can be learned from it."""
    propensity: float = 1.0
    """Probability with which it was chosen."""
    created: float
    """Clock of the API process."""
    deadline: float
    """On Redis's clock: it is given out and answered until then, and its target is kept as long."""


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

    schema_version: int = Field(3, alias="schema")
    """1: without a table of thumbs and without the kind of a row's rater. 2: pairs, thumbs and prompts only."""
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
    """Votes that gave no row or no policy row, by reason, which begins with the kind (`thumb_stale`) but for
    preferences."""
    thumbs: int
    """Rows of thumbs."""
    policy_thumbs: int = 0
    """Thumbs that may train the policy; besides what holds for pairs, their completions stand in no pair."""
    rankings: int = 0
    ratings: int = 0
    demonstrations: int = 0
    raters: int = 0
    """People and AIs with rows; those without an id are not among them."""
    caps: dict[str, float] = {}
    """Bounds in force: `{"rater_share": 0.005, "rater_votes": 52, …}`; a share is missing where the bound is off, a
    number of votes where nobody had more."""
    live_version: int
    base_sha256: str
    tokenizer_sha256: str
    erased: float | None = None
    """When its rows were deleted, because they held somebody who was erased: it cannot be replayed."""


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


class VersionDoubt(Record):
    """How little the votes say about which policy version is better: the posterior covariance of their Bradley–Terry
    strengths, in log-odds.

    Example:
        VersionDoubt(versions=[0, 1], covariance=[[0.8, 0.2], [0.2, 0.8]], prior=1.0)
    """

    versions: list[int]
    """That votes compare, at most the newest 32."""
    covariance: list[list[float]]
    """In their order."""
    prior: float
    """Variance of a version that no vote compares; it is independent of the others."""

    def of(self, one: int, other: int) -> float:
        """Variance of the difference of two versions: `of(0, 1)` is 0.8 + 0.8 - 2 · 0.2 = 1.2."""
        places = [self.versions.index(each) if each in self.versions else None for each in (one, other)]
        alone = [self.prior if place is None else self.covariance[place][place] for place in places]
        shared = 0.0 if None in places else self.covariance[places[0] or 0][places[1] or 0]
        return sum(alone) - 2 * shared if one != other else 0.0


class OpenPairs(Record):
    """Pairs of answers to the same prompt that nobody has compared, most to be learned first.

    Example:
        OpenPairs(pairs=[("chatcmpl-41ab…", "chatcmpl-77f0…")], scores=[0.31])
    """

    pairs: list[tuple[str, str]]
    """Ids of completions, at most a thousand pairs."""
    scores: list[float]
    """What a vote is expected to teach the reward model (training/acquisition.py)."""


class Choices(Record):
    """What a run leaves behind for those who choose what to ask next: choices.json in its directory.

    Example:
        Choices(versions=VersionDoubt(…), clusters={"ab12…": 0.4}, open_pairs=OpenPairs(…), members=64)
    """

    versions: VersionDoubt
    clusters: dict[str, float]
    """Prompt cluster to the mean variance of the reward's margin between two answers there, in squared log-odds; the
    thousand clusters with the most."""
    open_pairs: OpenPairs
    members: int
    """Of the ensemble that was asked."""


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
    CANARY = "canary"
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
    """What the registry says now: `RegistryState(generation=5, live=3, previous=2, next_version=5, release="rel_4",
    canary=4, share=0.1)`."""

    generation: int
    live: int
    previous: int | None = None
    next_version: int
    release: str | None = None
    """The open one; None if there is none, as of the two that follow."""
    canary: int | None = None
    """Its candidate."""
    share: float | None = None
    """Of end users, whom the candidate answers."""


class AuditEvent(Record):
    """One entry of the audit trail: a change of the registry, or another act of an operator.

    Example:
        AuditEvent(id="1790000300-0", generation=5, action="promote", version=3, subject="rel_3", actor="scheduler",
            reason="e = 20.4 after 144 raters", at=1790000300.1, previous="77af…", sha256="90cd…")
    """

    id: str
    generation: int
    """Of the registry, after it."""
    action: str
    """`register`, `release.opened`, `release.advanced`, `release.rolled_back`, `release.kept`, `release.stopped`,
    `promote`, `rollback`; others do not concern policies."""
    version: int | None = None
    """Of the policy that it is about."""
    subject: str = ""
    """What else it is about: the release, the API key, the run."""
    actor: str
    reason: str
    at: float
    """Redis's clock."""
    previous: str = ""
    """The entry before, by its hash; 64 zeros of the first."""
    sha256: str = ""
    """Of this entry (core/lua/audit.lua)."""


def now() -> float:
    """Unix seconds on this machine's clock."""
    return time.time()
