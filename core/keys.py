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

FEEDBACK = PREFIX + "feedback"  # stream: one Feedback event (JSON) per entry, never edited
FEEDBACK_COUNTS = PREFIX + "feedback-counts"  # hash: kind -> events of people; "ai_" + kind -> of AIs
PROMPTS = PREFIX + "prompts"  # stream: prompts of consented traffic, for the gate; trimmed by length
RUNS = PREFIX + "runs"  # sorted set: run id by creation time
SCHEDULER = PREFIX + "scheduler"  # hash: what `plumbline status` shows of the next round

TRAIN_QUEUE = "train"
OPS_QUEUE = "ops"


def completion(completion_id: str) -> str:
    """Hash: `record` (CompletionRecord, JSON), `state`, and a `v:{rater}:{choice}:{kind}` field per current vote."""
    return f"{PREFIX}completion:{completion_id}"


def comparison(comparison_id: str) -> str:
    """Hash: `record` (Comparison as JSON), `revealed`, and `v:...` fields as on a completion."""
    return f"{PREFIX}comparison:{comparison_id}"


def idempotency(key_digest: str) -> str:
    """Hash with a TTL: the feedback id and body digest that an `Idempotency-Key` was first used with."""
    return f"{PREFIX}idempotency:{key_digest}"


def run(run_id: str) -> str:
    """Hash: the truth about one training run."""
    return f"{PREFIX}run:{run_id}"
