"""Every Prometheus object of ours. Labels are closed sets: never a rater, a prompt or a key.

The policy's number is a value, never a label of a counter: a label per version would grow for ever. Worker and
scheduler are short of a listener of their own; the API exports the runs' state from Redis when it is scraped.
"""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)

HTTP_REQUESTS = Counter(
    "plumbline_http_requests_total", "Answered requests.", ["route", "status_class"]
)  # status_class: 2xx, 4xx, 5xx
CHATS = Counter("plumbline_chat_completions_total", "Chat completions by how they ended.", ["state"])
TTFT = Histogram("plumbline_time_to_first_token_seconds", "Request to first token.", buckets=_LATENCY)
TOKENS = Counter("plumbline_tokens_total", "Tokens, by direction.", ["direction"])  # prompt, completion
RECORDS_LOST = Counter(
    "plumbline_completion_records_lost_total",
    "Answers that could not be recorded.",
    ["reason"],
)

VOTES = Counter("plumbline_votes_total", "Feedback requests by result.", ["kind", "result"])
FEEDBACK_CHANGES = Counter("plumbline_feedback_changes_total", "Changes of stored feedback.", ["action", "result"])
# action: revise, withdraw, consent; result: done, refused, unavailable
VOTE_WRITE = Histogram(
    "plumbline_vote_write_duration_seconds",
    "The durable write of one vote.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
VOTES_UNUSED = Gauge("plumbline_votes_unused", "Preferences and rankings of people since the last snapshot.")
RATERS_QUARANTINED = Gauge("plumbline_raters_quarantined", "Raters in quarantine.")
ARCHIVE_ENTRIES = Gauge("plumbline_archive_entries", "Entries of the log that the archive holds.")
ARCHIVE_SUCCESS = Gauge(
    "plumbline_archive_last_success_timestamp_seconds",
    "When the scheduler last archived what was old enough, if anything was; 0 if it never did.",
)

GENERATION = Gauge("plumbline_policy_generation", "The registry generation that this replica serves.")
LIVE_VERSION = Gauge("plumbline_policy_live_version", "The live policy version on this replica.")
POLICY_INFO = Gauge("plumbline_policy_info", "Resident policies.", ["version", "adapter_sha256", "role"])
SWAPS = Counter("plumbline_policy_swaps_total", "Swaps on this replica.", ["result"])  # done, refused
SWAP_DURATION = Histogram(
    "plumbline_policy_swap_duration_seconds",
    "New generation seen to first request routed to it.",
    buckets=_LATENCY,
)
ENGINE_UP = Gauge("plumbline_engine_up", "1 while the engine answers.")
RUNS = Gauge("plumbline_runs", "Training runs by state.", ["state"])
