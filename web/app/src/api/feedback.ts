/** Votes of the session's rater, and what became of them. */

import { json } from "./send";
import { asRater, session } from "./session";

export type Preference = "a" | "b" | "tie" | "both_bad";
export type Target = { type: "completion"; id: string; choice_index: number } | { type: "comparison"; id: string };

/** Said again with more, or with another value, it takes the place of what was said before. */
export type Vote =
  | { kind: "thumb"; value: 1 | -1; reasons?: string[]; comment?: string }
  | { kind: "rating"; value: number }
  | { kind: "correction"; value: string }
  | { kind: "preference"; value: Preference };

export interface Stored {
  id: string;
  reveal?: { a: string; b: string };
}

export interface Fate {
  feedback: string;
  kind: string;
  value: unknown;
  created_at: string;
  fate: "waiting" | "used" | "set_aside" | "withdrawn";
  /** In words, e.g. `used in assistant@v2`; null where nobody can tell. */
  reason: string | null;
}

export function completion(id: string): Target {
  return { type: "completion", id, choice_index: 0 };
}

export async function vote(target: Target, said: Vote): Promise<Stored> {
  return json(await asRater("v1/feedback", { method: "POST", body: { target, ...said } }));
}

export async function takeBack(feedback: string): Promise<void> {
  await asRater(`v1/feedback/${encodeURIComponent(feedback)}`, { method: "DELETE" });
}

/** Newest first, from after the vote `after` on. */
export async function fates(after?: string): Promise<{ data: Fate[]; has_more: boolean; last_id: string | null }> {
  const query = after === undefined ? "" : `?after=${encodeURIComponent(after)}`;
  return json(await asRater(`page/votes${query}`));
}

/** Says whether what this rater writes and votes may be trained on. */
export async function consent(train: boolean): Promise<void> {
  const mine = session.value;
  if (!mine) return;
  await asRater(`v1/raters/${encodeURIComponent(mine.rater)}/consent`, { method: "POST", body: { train } });
  session.value = { ...mine, train };
}
