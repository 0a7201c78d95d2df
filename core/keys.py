"""Every Redis key, stream and channel name, in one place.

Celery's own keys carry `BROKER_PREFIX`, so that one Redis can hold both roles on a laptop.
"""

PREFIX = "plumbline:"
BROKER_PREFIX = "plumbline-broker:"

DEPLOYMENT = PREFIX + "deployment"  # hash: fold_salt, base_sha256, secret_check; written once
REGISTRY = PREFIX + "registry"  # hash: generation, live, previous, next_version; of the open release: release (its id),
# canary (its version), share
POLICIES = PREFIX + "policies"  # hash: version -> PolicyVersion (JSON), without its state
POLICY_STATES = PREFIX + "policy-states"  # hash: version -> state
RELEASES = PREFIX + "releases"  # hash: release id -> Release (JSON)
AUDIT = PREFIX + "audit"  # stream, never edited: one entry per change of the registry and per act of an operator
AUDIT_HEAD = PREFIX + "audit-head"  # hash: sha256 and number of entries at the end of AUDIT (core/audit.py)

API_KEYS = PREFIX + "api-keys"  # hash: key id -> ApiKey (JSON); nothing is ever taken out of it
API_KEYS_REVOKED = PREFIX + "api-keys-revoked"  # hash: key id -> when
API_KEYS_CHANGE = PREFIX + "api-keys-change"  # string: counts the changes of the two; replicas look at it every second

FEEDBACK = PREFIX + "feedback"  # stream, never edited: `event` (Feedback, JSON) or `rater` (RaterEvent) in each entry
FEEDBACK_INDEX = PREFIX + "feedback-index:"  # hashes, 4,096 buckets: feedback id -> newest entry (lua/common.lua)
FEEDBACK_TRIMMED = PREFIX + "feedback-trimmed"  # string: the newest entry that only the archive holds
FEEDBACK_COUNTS = PREFIX + "feedback-counts"  # hash: kind -> events of people; "ai_" + kind -> of AIs
REGENERATED = PREFIX + "regenerated"  # hash: policy version -> answers in whose place their reader asked for another
PROMPTS = PREFIX + "prompts"  # stream: prompts of consented traffic, for the gate; trimmed by length
DELETED = PREFIX + "deleted"  # set: completions that were deleted and that the archive may still hold
TASKS = PREFIX + "tasks"  # sorted set: every rater task by its number
TASKS_READY = PREFIX + "tasks-ready"  # sorted set: tasks with a free place, first in turn first (lua/task_common.lua)
TASKS_DUE = PREFIX + "tasks-due"  # sorted set: when a lease (`{task} {rater}`) or an open task (`{task}`) ends
TASK_NAMES = PREFIX + "task-names"  # hash: the operator's own id of a task -> task id
ERASURES = PREFIX + "erasures"  # set: jobs that are not done
TAINTED = PREFIX + "tainted"  # hash: version of a policy that was trained on erased data -> when that was erased
RUNS = PREFIX + "runs"  # sorted set: run id by creation time
TRUST = PREFIX + "trust"  # string: the last TrustReport (JSON)
TRUST_RATERS = PREFIX + "trust-raters"  # hash: rater -> their last RaterReport (JSON); all are written together
INVITATIONS = PREFIX + "invitations"  # hash: rater -> Invitation (JSON) of whom the operator invited to the page
QUARANTINED = PREFIX + "quarantined"  # set: raters in quarantine now, as the log says (lua/rater_review.lua)
SURVEY = PREFIX + "survey"  # hash: the survey that the next round waits for (training/survey.py)
CHOICES = (
    PREFIX + "choices"
)  # hash: of the last run that ended `run`, `policy_version`, `versions` (VersionDoubt), `pairs` (OpenPairs)
SCHEDULER = PREFIX + "scheduler"  # hash: what `plumbline status` shows of the next round

RELEASE_LEASE = PREFIX + "release-lease"  # hash: owner, until; which scheduler advances the open release

TRAIN_QUEUE = "train"
OPS_QUEUE = "ops"


def completion(completion_id: str) -> str:
    """Hash: `record` (CompletionRecord, JSON), `outline` (the record without its bulk), `state`, and of each current
    vote `v:{rater kind}:{rater}:{choice}:{kind}` -> feedback id; `request` (StoredRequest, JSON) where the record does
    not say all, `metadata` if it was changed, `prompt`, the entry of `PROMPTS`, `regenerated`, the first completion
    that was asked for in its place, and for a while `shadow`, what a candidate would have answered (ShadowAnswer,
    JSON): nobody is shown it."""
    return f"{PREFIX}completion:{completion_id}"


def stored(tenant: str) -> str:
    """Sorted set: ids of a tenant's completions whose text is kept, by when they were asked for (ms); as long as the
    feedback window."""
    return f"{PREFIX}stored:{tenant}"


def comparison(comparison_id: str) -> str:
    """Hash: `record` (Comparison as JSON), `revealed`, and `v:...` fields as on a completion; while a rater task about
    it is open `t:{choice}:{kind}` (as on a completion, too) and `decided`, which then becomes `revealed`."""
    return f"{PREFIX}comparison:{comparison_id}"


def conversation(rater_id: str, conversation_id: str) -> str:
    """Hash with a TTL: a conversation of the page, `record` (Conversation, JSON), `title`, `digest` of the record, and
    what moves: `revision`, `created`, `updated`. Whose it is stands in its name, so nobody else's request finds it."""
    return f"{conversation_prefix(rater_id)}{conversation_id}"


def conversation_prefix(rater_id: str) -> str:
    return f"{PREFIX}conversation:{rater_id}:"


def conversations(rater_id: str) -> str:
    """Sorted set with a TTL: ids of a rater's conversations by when they were last written (ms)."""
    return f"{PREFIX}conversations:{rater_id}"


def visitor_votes(rater_id: str) -> str:
    """Sorted set with a TTL: feedback ids of a visitor's newest votes, by when they were given (ms)."""
    return f"{PREFIX}visitor-votes:{rater_id}"


def idempotency(key_digest: str) -> str:
    """Hash with a TTL: the feedback id and body digest that an `Idempotency-Key` was first used with."""
    return f"{PREFIX}idempotency:{key_digest}"


def rater(rater_id: str) -> str:
    """Hash: what the log says of one rater now: `consent`, `consent_event` (lua/rater.lua); `review_event` and
    `review_at`, the newest quarantine or restoration, and each in `review:{position}` (lua/rater_review.lua)."""
    return f"{PREFIX}rater:{rater_id}"


def task(task_id: str) -> str:
    """Hash: `record` (RaterTask, JSON), `state`, `order` in the queue, `digest` of what the operator sent, `answered`,
    `leased` (counts), and `a:{rater}` -> feedback id, `s:{rater}` -> why it was skipped."""
    return f"{PREFIX}task:{task_id}"


def task_rater(rater_id: str) -> str:
    """Hash: what one rater did, `{task}` -> `leased`, `answered`, `skipped`, `voted` (not as a task); `@lease`, the
    task that they hold; `@answered` and `@skipped`, how many."""
    return f"{PREFIX}task-rater:{rater_id}"


def call(word: str) -> str:
    """String with a short TTL: where in the log lies what one call wrote, for that call's own retry."""
    return f"{PREFIX}call:{word}"


def quota(counted_as: str) -> str:
    """Hash with a TTL: token buckets of an API key, of a visitor of the page or of a visitor's address (`address:` and
    a keyed hash), `{bucket}` -> level and `{bucket}_at` -> when; the buckets are `requests`, `tokens`, `writes` (of
    conversations), `sessions` and, for votes, `votes:{rater}` (lua/quota_*.lua)."""
    return f"{PREFIX}quota:{counted_as}"


def in_flight(key_id: str) -> str:
    """Sorted set: the requests of an API key or a visitor that are under way, by when their replica must have renewed
    them."""
    return f"{PREFIX}in-flight:{key_id}"


def usage(key_id: str) -> str:
    """Hash: what an API key used (`page`: all visitors of the page together), `{day} requests`, `… prompt_tokens`,
    `… completion_tokens`, `… votes`; a day is its number since 1970 (UTC)."""
    return f"{PREFIX}usage:{key_id}"


def erasure(job: str) -> str:
    """Hash: `record` (Erasure, JSON), `tombstone`, its place in the log; until nothing but the rewrite of the
    append-only file is left also `rater` and `traces`, what is to be erased."""
    return f"{PREFIX}erasure:{job}"


def rewriting(stream: str) -> str:
    """Stream: another one in the making, without what is erased."""
    return f"{stream}:rewriting"


def run(run_id: str) -> str:
    """Hash: the truth about one training run."""
    return f"{PREFIX}run:{run_id}"


def release_exposure(release_id: str) -> str:
    """Hash with a TTL: what ended in each arm of a release, `candidate:empty` and the like (core/exposures.py), and
    `batch:{replica}`, the last one counted."""
    return f"{PREFIX}release-exposure:{release_id}"


def release_people(release_id: str) -> str:
    """HyperLogLog with a TTL: whose completions were counted; with `:{share}:{arm}` behind it, who was in that arm."""
    return f"{PREFIX}release-people:{release_id}"


def release_evidence(release_id: str) -> str:
    """Hash: `record` (Evidence, JSON) and `position`, up to where the log was counted (core/evidence.py)."""
    return f"{PREFIX}release-evidence:{release_id}"


def release_voters(release_id: str) -> str:
    """Hash with a TTL: hashed rater -> what they gave to the evidence (Voter, JSON)."""
    return f"{PREFIX}release-voters:{release_id}"


def release_shadow(release_id: str) -> str:
    """Hash with a TTL: what the judge said of answers that nobody saw, in counts and sums (core/shadow.py)."""
    return f"{PREFIX}release-shadow:{release_id}"


def shadow_waiting(release_id: str) -> str:
    """Set with a TTL: completions of live whose like by the candidate, their field `shadow`, waits for the judge."""
    return f"{PREFIX}shadow-waiting:{release_id}"


def shadow_rung(release_id: str) -> str:
    """String with a TTL: the worker was told that answers wait for the judge."""
    return f"{PREFIX}shadow-rung:{release_id}"


def survey_lease(snapshot: str) -> str:
    """String with a TTL: who is about to survey a snapshot (training/survey.py)."""
    return f"{PREFIX}survey-lease:{snapshot}"
