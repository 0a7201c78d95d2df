"""Every Prometheus object of ours. Labels are closed sets: never a rater, a prompt or a key.

The policy's number is a value, never a label of a counter: a label per version would grow for ever. Worker and
scheduler are short of a listener of their own; the API exports the runs' state from Redis when it is scraped.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each series, which nobody asks for
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80)
_WHOLE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 120, 240, 480)

# --- requests ---------------------------------------------------------------------------------------------------------

HTTP_REQUESTS = Counter(
    "plumbline_http_requests_total", "Answered requests.", ["route", "status_class"]
)  # status_class: 2xx, 4xx, 5xx
HTTP_DURATION = Histogram(
    "plumbline_http_request_duration_seconds",
    "Request to the last byte of its answer, so for streams the whole of it.",
    ["route"],
    buckets=_WHOLE,
)
CHATS = Counter("plumbline_chat_completions_total", "Chat completions by how they ended.", ["state"])
IN_FLIGHT = Gauge("plumbline_answers_in_flight", "Answers that are being written or wait to be.")
TURNED_AWAY = Counter("plumbline_requests_turned_away_total", "Chats that there was no room for.", ["reason"])
# reason: answers, tokens (prompt tokens that wait)
SHADOWS = Counter(
    "plumbline_shadow_answers_total", "Answers of a candidate that nobody sees, by what became of them.", ["result"]
)  # result: written, gave_way, failed, dropped (the chat's record is gone, its rater said no, enough wait)
STALLED = Counter("plumbline_streams_stalled_total", "Streams that were cut off because nobody read them.")
STREAMS_BROKEN = Counter("plumbline_streams_broken_total", "Streams that began well and ended with an error event.")
LIMITED = Counter("plumbline_requests_limited_total", "Refused because a limit of the API key was reached.", ["limit"])
# limit: requests, tokens, tokens_per_day, concurrency, votes
TTFT = Histogram("plumbline_time_to_first_token_seconds", "Request to first token.", buckets=_LATENCY)
TOKENS = Counter("plumbline_tokens_total", "Tokens, by direction.", ["direction"])  # prompt, completion
RECORDS_LOST = Counter(
    "plumbline_completion_records_lost_total",
    "Answers that could not be recorded.",
    ["reason"],
)
RECORDING = Gauge("plumbline_recording", "1 while this replica records completions, so that they can be voted on.")

# --- feedback ---------------------------------------------------------------------------------------------------------

VOTES = Counter("plumbline_votes_total", "Feedback requests by result.", ["kind", "result"])
# result: new, replay, refused, unavailable
VOTES_REFUSED = Counter("plumbline_votes_refused_total", "Feedback that was refused, by the error's code.", ["code"])
PREFERENCES = Counter("plumbline_preferences_total", "New preferences of people, by what they say.", ["value"])
# value: a, b (a is shown first), tie, both_bad
RECEIPTS_REFUSED = Counter("plumbline_receipts_refused_total", "Receipts that gave no vote, by the error.", ["code"])
# code: token_invalid, token_expired, token_scope
FEEDBACK_CHANGES = Counter("plumbline_feedback_changes_total", "Changes of stored feedback.", ["action", "result"])
# action: revise, withdraw, consent; result: done, refused, unavailable
VOTE_WRITE = Histogram(
    "plumbline_vote_write_duration_seconds",
    "The durable write of one vote.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
VOTES_UNUSED = Gauge("plumbline_votes_unused", "Preferences and rankings of people since the last snapshot.")
RATERS_QUARANTINED = Gauge("plumbline_raters_quarantined", "Raters in quarantine.")
VOTES_NEEDED = Gauge("plumbline_votes_needed", "Unused votes that start a round.")
LOG_ENTRIES = Gauge("plumbline_feedback_log_entries", "Entries of the feedback log that Redis holds.")
VOTE_HABIT = Gauge(
    "plumbline_vote_habit_ratio",
    "How often people took the side shown first, or the longer answer, when raters were last judged.",
    ["habit", "bound"],
)  # habit: first, longer; bound: value, low, high (95 %), for longer also expected (by what the answers say)
AGREEMENT = Gauge("plumbline_rater_agreement", "Krippendorff's alpha when raters were last judged.", ["scale"])
# scale: nominal, ordinal
SNAPSHOT_ROWS = Gauge("plumbline_snapshot_rows", "Rows of the newest snapshot that a run was made of.", ["use"])
# use: all, policy (may train the policy)
SNAPSHOT_DROPPED = Gauge("plumbline_snapshot_dropped", "Votes that the newest run's snapshot left out.", ["reason"])
# reason: as in the snapshot's manifest, a closed set of feedback/eligibility.py and feedback/influence.py

ARCHIVE_ENTRIES = Gauge("plumbline_archive_entries", "Entries of the log that the archive holds.")
ARCHIVE_SUCCESS = Gauge(
    "plumbline_archive_last_success_timestamp_seconds",
    "When the scheduler last archived what was old enough, if anything was; 0 if it never did.",
)
ARCHIVE_LAG = Gauge(
    "plumbline_archive_lag_seconds", "Age of the oldest entry of the log that is not archived; 0 if all are."
)
ARCHIVE_FAILING = Gauge("plumbline_archive_failing", "1 while the scheduler says that it cannot archive.")

# --- policies ---------------------------------------------------------------------------------------------------------

REGISTRY_GENERATION = Gauge("plumbline_registry_generation", "The registry's generation, which replicas follow.")
GENERATION = Gauge("plumbline_policy_generation", "The registry generation that this replica serves.")
LIVE_VERSION = Gauge("plumbline_policy_live_version", "The live policy version on this replica.")
POLICY_INFO = Gauge("plumbline_policy_info", "Resident policies.", ["version", "adapter_sha256", "role"])
POLICIES_MISSING = Gauge("plumbline_policies_missing", "Versions that should be resident here and cannot be loaded.")
POLICIES = Gauge("plumbline_policies", "Policy versions by state.", ["state"])
GATES = Gauge("plumbline_gates", "Policy versions by the verdict of their gate.", ["verdict"])
SWAPS = Counter("plumbline_policy_swaps_total", "Swaps on this replica.", ["result"])  # done, refused
SWAP_DURATION = Histogram(
    "plumbline_policy_swap_duration_seconds",
    "New generation seen to first request routed to it.",
    buckets=_LATENCY,
)
STARTUP = Gauge("plumbline_startup_seconds", "Phases of the engine's last start.", ["phase"])
# phase: imports, configuration, engine, serving_layer, warm_up, policies
ENGINE_UP = Gauge("plumbline_engine_up", "1 while the engine answers.")

# --- training and releases --------------------------------------------------------------------------------------------

RUNS = Gauge("plumbline_runs", "Training runs by state.", ["state"])
RUN_QUEUED = Gauge("plumbline_run_queued_seconds", "How long the oldest queued run has waited; 0 without one.")
RUN_SILENT = Gauge("plumbline_run_silent_seconds", "Since the running run was last heard of; 0 without one.")
RUN_AGE = Gauge("plumbline_run_age_seconds", "Age of the running run, all attempts; 0 without one.")
RUN_ATTEMPT = Gauge("plumbline_run_attempt", "Attempt of the active run; 0 without one.")
RUN_PROGRESS = Gauge("plumbline_run_progress_ratio", "How far the running run's stage is, by stage.", ["stage"])
RUN_LAST = Gauge("plumbline_run_last_duration_seconds", "Queued to registered, of the newest run that is done.")
VOTE_TO_POLICY = Gauge(
    "plumbline_vote_to_policy_seconds", "Newest vote of the newest run that is done to its registered version."
)
SCHEDULER_NEXT = Gauge(
    "plumbline_scheduler_next_check_timestamp_seconds", "When the scheduler said that it looks next; 0 if it never did."
)

SENTINEL = Gauge(
    "plumbline_sentinel",
    "What the over-optimisation sentinel was told of the newest candidate, if it was.",
    ["figure"],
)  # figure: a name of training/sentinel.py SERIES
SENTINEL_BLOCKED = Gauge("plumbline_sentinel_blocked", "Candidates that the over-optimisation sentinel blocked.")
RELEASE_OPEN = Gauge("plumbline_release_open", "1 while a release is open; without one the others are 0.")
RELEASE_STAGE = Gauge("plumbline_release_stage", "Stage of the open release, from 0.")
RELEASE_SHARE = Gauge("plumbline_release_share", "Share of end users whom the candidate answers.")
RELEASE_RATERS = Gauge("plumbline_release_raters", "People whose first vote counts for the open release.")
RELEASE_EVIDENCE = Gauge(
    "plumbline_release_evidence_log10",
    "log10 of the e-value for the candidate being better, and for its being worse.",
    ["direction"],
)  # direction: better, worse
RELEASE_COMPLETIONS = Gauge(
    "plumbline_release_completions", "Answers at the present share, by arm.", ["arm"]
)  # arm: candidate, incumbent
RELEASE_SHADOW = Gauge(
    "plumbline_release_shadow", "Answers of the open release that nobody saw, by what the judge said.", ["outcome"]
)  # outcome: win, tie, loss (of the candidate), waiting
RELEASES = Gauge("plumbline_releases", "Releases by state.", ["state"])
# state: canary, promoted, rolled_back, kept, stopped

# --- Redis ------------------------------------------------------------------------------------------------------------

REDIS_UP = Gauge("plumbline_redis_up", "1 if Redis answered this replica's last scrape.")
REDIS_MEMORY = Gauge("plumbline_redis_memory_bytes", "Memory that the votes' Redis uses.")
REDIS_MEMORY_MAX = Gauge("plumbline_redis_memory_max_bytes", "Its `maxmemory`; 0 if it has none.")
REDIS_DURABLE = Gauge(
    "plumbline_redis_durable", "1 while it writes its append-only file, and its last write and rewrite went well."
)
FIGURES_READ = Gauge(
    "plumbline_figures_read_timestamp_seconds",
    "When this replica last read the figures of feedback, training and releases from Redis and the archive.",
)
