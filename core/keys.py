"""Every Redis key, stream and channel name, in one place.

Celery's own keys carry `BROKER_PREFIX`, so that one Redis can hold both roles on a laptop.
"""

PREFIX = "plumbline:"
BROKER_PREFIX = "plumbline-broker:"

DEPLOYMENT = PREFIX + "deployment"  # hash: fold_salt, base_sha256; written once
REGISTRY = PREFIX + "registry"  # hash: generation, live, next_version
POLICIES = PREFIX + "policies"  # hash: version -> PolicyVersion (JSON), without its state
POLICY_STATES = PREFIX + "policy-states"  # hash: version -> state
AUDIT = PREFIX + "audit"  # stream: one entry per change of the registry

FEEDBACK = PREFIX + "feedback"  # stream, never edited: `event` (Feedback, JSON) or `rater` (RaterEvent) in each entry
FEEDBACK_INDEX = PREFIX + "feedback-index:"  # hashes, 4,096 buckets: feedback id -> newest entry (lua/common.lua)
FEEDBACK_TRIMMED = PREFIX + "feedback-trimmed"  # string: the newest entry that only the archive holds
FEEDBACK_COUNTS = PREFIX + "feedback-counts"  # hash: kind -> events of people; "ai_" + kind -> of AIs
PROMPTS = PREFIX + "prompts"  # stream: prompts of consented traffic, for the gate; trimmed by length
TASKS = PREFIX + "tasks"  # sorted set: every rater task by its number
TASKS_READY = PREFIX + "tasks-ready"  # sorted set: tasks with a free place, first in turn first (lua/task_common.lua)
TASKS_DUE = PREFIX + "tasks-due"  # sorted set: when a lease (`{task} {rater}`) or an open task (`{task}`) ends
TASK_NAMES = PREFIX + "task-names"  # hash: the operator's own id of a task -> task id
ERASURES = PREFIX + "erasures"  # set: jobs that are not done
TAINTED = PREFIX + "tainted"  # hash: version of a policy that was trained on erased data -> when that was erased
RUNS = PREFIX + "runs"  # sorted set: run id by creation time
TRUST = PREFIX + "trust"  # string: the last TrustReport (JSON)
TRUST_RATERS = PREFIX + "trust-raters"  # hash: rater -> their last RaterReport (JSON); all are written together
QUARANTINED = PREFIX + "quarantined"  # set: raters in quarantine now, as the log says (lua/rater_review.lua)
SURVEY = PREFIX + "survey"  # hash: the survey that the next round waits for (training/survey.py)
CHOICES = (
    PREFIX + "choices"
)  # hash: of the last run that ended `run`, `policy_version`, `versions` (VersionDoubt), `pairs` (OpenPairs)
SCHEDULER = PREFIX + "scheduler"  # hash: what `plumbline status` shows of the next round

TRAIN_QUEUE = "train"
OPS_QUEUE = "ops"


def completion(completion_id: str) -> str:
    """Hash: `record` (CompletionRecord, JSON), `outline` (the record without its bulk), `state`, and of each current
    vote `v:{rater kind}:{rater}:{choice}:{kind}` -> feedback id."""
    return f"{PREFIX}completion:{completion_id}"


def comparison(comparison_id: str) -> str:
    """Hash: `record` (Comparison as JSON), `revealed`, and `v:...` fields as on a completion; while a rater task about
    it is open `t:{choice}:{kind}` (as on a completion, too) and `decided`, which then becomes `revealed`."""
    return f"{PREFIX}comparison:{comparison_id}"


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


def survey_lease(snapshot: str) -> str:
    """String with a TTL: who is about to survey a snapshot (training/survey.py)."""
    return f"{PREFIX}survey-lease:{snapshot}"
