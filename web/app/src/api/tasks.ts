/** The queue of rater tasks. What a rater gets is the same for questions whose answer is known and for others. */

import { type ApiError, json } from "./send";
import { asRater } from "./session";

export interface TaskAnswer {
  /** Null if there is only one. */
  side: string | null;
  content: string;
}

export interface Task {
  id: string;
  kind: "compare" | "rank" | "rate" | "correct";
  /** Markdown. */
  instructions: string;
  messages: { role: string; content: string }[];
  answers: TaskAnswer[];
}

export interface Progress {
  done: number;
  left: number;
}

const OVER = ["task_closed", "lease_expired", "task_skipped", "task_answered"];

/** Null when nothing is left. */
export async function nextTask(rater: string): Promise<Task | null> {
  const response = await asRater(`v1/tasks/next?rater=${encodeURIComponent(rater)}`);
  return response.status === 204 ? null : json(response);
}

export async function progress(rater: string): Promise<Progress> {
  return json(await asRater(`v1/tasks/progress?rater=${encodeURIComponent(rater)}`));
}

export async function answerTask(task: string, rater: string, value: unknown): Promise<void> {
  await asRater(`v1/tasks/${task}/answer`, { method: "POST", body: { rater: { id: rater }, value } });
}

export async function skipTask(task: string, rater: string): Promise<void> {
  await asRater(`v1/tasks/${task}/skip`, { method: "POST", body: { rater: { id: rater } } });
}

/** Whether a refusal means that this task is no longer this rater's, so that the next one is to come. */
export function isOver(error: ApiError): boolean {
  return error.code !== null && OVER.includes(error.code);
}
