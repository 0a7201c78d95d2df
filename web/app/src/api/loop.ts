/** What the admin API tells of the loop, as far as the console shows it (docs/openapi-admin.json has the rest). */

export interface List<T> {
  data: T[];
}

export type PolicyState = "candidate" | "canary" | "live" | "previous" | "retired" | "rejected" | "rolled_back";

export interface GateReport {
  verdict: "pass" | "fail" | "inconclusive";
  live_version: number;
  metrics: Record<string, number>;
  summary: string;
}

export interface Policy {
  version: number;
  parent: number | null;
  method: string;
  run: string | null;
  gate: GateReport | null;
  created: number;
  state: PolicyState;
}

export interface Release {
  id: string;
  version: number;
  against: number;
  state: "canary" | "promoted" | "rolled_back" | "kept" | "stopped";
  /** 0 is the stage that nobody sees. */
  stage: number;
  share: number;
  opened: number;
  staged: number;
  ended: number | null;
  alpha: number;
  reason: string;
  actor: string;
}

export interface Evidence {
  wins: number;
  ties: number;
  losses: number;
  aside: number;
  finding: "better" | "worse" | "undecided" | null;
  log10_e: number;
  log10_e_against: number;
  low: number;
  high: number;
  candidate_thumbs: number;
  candidate_down: number;
  incumbent_thumbs: number;
  incumbent_down: number;
}

export interface EvidencePoint {
  raters: number;
  win_rate: number;
  low: number;
  high: number;
  log10_e: number;
  log10_e_against: number;
}

export interface Shadow {
  wins: number;
  ties: number;
  losses: number;
  low: number;
  high: number;
  waiting: number;
  error: string;
}

export type RunState = "queued" | "running" | "done" | "skipped" | "failed" | "cancelled";

export interface Run {
  id: string;
  snapshot: string;
  parent: number;
  method: string;
  state: RunState;
  stage: string;
  attempt: number;
  progress: number;
  created: number;
  updated: number;
  version: number | null;
  verdict: string;
  reason: string;
}

/** As many runs as the console shows, newest first. */
export const NEWEST_RUNS = "v1/runs?limit=30";

export interface RunLog {
  files: string[];
  file: string | null;
  text: string;
  is_whole: boolean;
}

export interface NextRound {
  votes_new: number;
  votes_needed: number;
  next_check_at: number | null;
  reason: string;
}

export interface Interval {
  value: number;
  low: number;
  high: number;
}

export interface Standing {
  version: number;
  anchor: number;
  votes: number;
  rank: number;
  rank_last: number;
  elo: Interval;
}

export interface Leaderboard {
  as_of: number;
  standings: Standing[];
  votes: number;
  raters: number;
  by_rater: boolean;
}

export interface StepFigures {
  version: string;
  state: PolicyState;
  figures: Record<string, number>;
}

export interface RewardModel {
  run: string;
  created: number;
  accuracy: number | null;
  accuracy_low: number | null;
  votes: number;
  ceiling: number | null;
  calibration: { error: number; by_chance: number; temperature: number | null } | null;
  earlier: number | null;
}

export interface FeedbackFigures {
  people: Record<string, number>;
  ai: Record<string, number>;
  regenerated: Record<string, number>;
  snapshot: string | null;
  dropped: Record<string, number>;
}

export interface Rater {
  id: string;
  state: "active" | "quarantined";
  review: { actor: string; reason: string; created_at: string } | null;
  report: { votes: number; judged: number; weight: number; reason: string } | null;
}

export interface RaterPage extends List<Rater> {
  last_id: string | null;
  has_more: boolean;
}

interface Share extends Interval {
  count: number;
}

export interface Trust {
  quarantined: number;
  report: {
    as_of: string;
    votes: number;
    raters: number;
    alpha_nominal: number | null;
    first: Share | null;
    longer: Share | null;
    longer_expected: number | null;
    habits: { habit: string; raters: number; log10_e: number }[];
    error: string;
  } | null;
}

export interface Step {
  version: number;
  state: PolicyState;
  method: string;
  run: string | null;
  created: number;
  votes: {
    snapshot: string;
    raters: number;
    /** By kind; `pairs.judge` and the like are folds. */
    rows: Record<string, number>;
    dropped: Record<string, number>;
    erased: number | null;
  } | null;
  tainted: number | null;
}

export interface Change {
  name: string;
  before: string;
  after: string;
}

export interface Difference {
  before: number;
  after: number;
  path: number[];
  gate: Change[];
  recipe: Change[];
  snapshot: Change[];
  people: {
    votes: number;
    raters: number;
    by_rater: boolean;
    win_rate: Interval | null;
    at_equal_length: Interval | null;
  };
}

export interface Sample {
  policy_version: string;
  content: string;
  finish_reason: string | null;
}

export interface AuditEntry {
  id: string;
  action: string;
  version: number | null;
  subject: string;
  actor: string;
  reason: string;
  at: number;
}

export interface AuditTrail extends List<AuditEntry> {
  entries: number;
  head: string;
  /** Empty if the chain is whole. */
  fault: string;
}
