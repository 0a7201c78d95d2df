/**
 * A conversation as data, and what can be done to it. All functions are pure: each gives a new conversation.
 *
 * A turn is one question and its answers. Asking again adds an answer, and `shown` says which of them the conversation
 * goes on from. The two sides of a comparison are two answers of one turn, a before b, which share its id and its vote.
 * No branches: an edited question takes the place of the old one and of all that followed.
 */

import type { Message } from "../api/chat";
import type { Preference } from "../api/feedback";

export interface Answer {
  /** Null where no vote can reach it: the server could not record it, or it is a side of a comparison. */
  completion: string | null;
  choice: 0;
  text: string;
  model: string | null;
  finish_reason: string | null;
  thumb: 1 | -1 | null;
  rating: number | null;
  correction: string | null;
  comparison: string | null;
  vote: Preference | "skipped" | null;
  stopped: boolean;
}

export interface Turn {
  question: string;
  answers: Answer[];
  shown: number;
}

export interface Conversation {
  id: string;
  title: string;
  revision: number;
  turns: Turn[];
}

export const MAX_TITLE = 60;
/** The `finish_reason` of a stream that broke off: what came is shown, and not sent along as if it were an answer. */
export const BROKEN = "error";

const EMPTY: Answer = {
  completion: null,
  choice: 0,
  text: "",
  model: null,
  finish_reason: null,
  thumb: null,
  rating: null,
  correction: null,
  comparison: null,
  vote: null,
  stopped: false,
};

/** A new one. Not crypto.randomUUID: that one is missing on plain http away from localhost. */
export function fresh(): Conversation {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id: `conv_${hex}`, title: "", revision: 0, turns: [] };
}

/** Asks one more question; the first one gives the conversation its title. */
export function asked(conversation: Conversation, question: string): Conversation {
  const title = conversation.title === "" ? titleOf(question) : conversation.title;
  return { ...conversation, title, turns: [...conversation.turns, { question, answers: [], shown: 0 }] };
}

export function titleOf(question: string): string {
  const line = question.trim().replace(/\s+/g, " ");
  return line.length <= MAX_TITLE ? line : `${line.slice(0, MAX_TITLE - 1).trimEnd()}…`;
}

/** Asks another question in the place of that of `turn`; what followed is gone. */
export function reasked(conversation: Conversation, turn: number, question: string): Conversation {
  return asked({ ...conversation, turns: conversation.turns.slice(0, turn) }, question);
}

/** @param change what to do to the turn at this place */
export function changed(conversation: Conversation, turn: number, change: (turn: Turn) => Turn): Conversation {
  return { ...conversation, turns: conversation.turns.map((it, index) => (index === turn ? change(it) : it)) };
}

/** Changes the turn that holds an answer, wherever it stands by now. @param how is given the answer's place in it */
export function changedWhere(
  conversation: Conversation,
  holds: (answer: Answer) => boolean,
  how: (turn: Turn, index: number) => Turn,
): Conversation {
  const turns = conversation.turns.map((turn) => {
    const index = turn.answers.findIndex(holds);
    return index < 0 ? turn : how(turn, index);
  });
  return { ...conversation, turns };
}

/** Adds answers and shows the first of them. */
export function answered(turn: Turn, ...parts: Partial<Answer>[]): Turn {
  const answers = parts.map((part) => ({ ...EMPTY, ...part }));
  return { ...turn, answers: [...turn.answers, ...answers], shown: turn.answers.length };
}

export function withAnswer(turn: Turn, index: number, part: Partial<Answer>): Turn {
  return { ...turn, answers: turn.answers.map((it, at) => (at === index ? { ...it, ...part } : it)) };
}

/** Takes the last `count` answers away: they came to nothing. */
export function withoutLast(turn: Turn, count: number): Turn {
  const answers = turn.answers.slice(0, turn.answers.length - count);
  return { ...turn, answers, shown: Math.max(0, Math.min(turn.shown, answers.length - 1)) };
}

/** Records the vote on the comparison that begins at `index`; the better side goes on, else the first. */
export function voted(
  turn: Turn,
  index: number,
  vote: Preference | "skipped",
  reveal?: { a: string; b: string },
): Turn {
  const one = withAnswer(turn, index, { vote, model: reveal?.a ?? null });
  const both = withAnswer(one, index + 1, { vote, model: reveal?.b ?? null });
  return { ...both, shown: vote === "b" ? index + 1 : index };
}

/** What a turn can show: single answers, and comparisons by the place of their first side. */
export function drafts(turn: Turn): { index: number; pair: boolean }[] {
  const found: { index: number; pair: boolean }[] = [];
  for (let index = 0; index < turn.answers.length; index += 1) {
    const pair = isFirstSide(turn, index);
    found.push({ index, pair });
    if (pair) index += 1;
  }
  return found;
}

function isFirstSide({ answers }: Turn, index: number): boolean {
  const id = answers[index]?.comparison ?? null;
  return id !== null && answers[index + 1]?.comparison === id;
}

/** The draft that holds the shown answer; undefined while there is none. */
export function shownDraft(turn: Turn): { index: number; pair: boolean } | undefined {
  return drafts(turn).find(({ index, pair }) => turn.shown === index || (pair && turn.shown === index + 1));
}

/** Whether a comparison waits for its vote here, so that nobody knows yet how the conversation goes on. */
export function isUndecided(turn: Turn): boolean {
  const draft = shownDraft(turn);
  return draft?.pair === true && turn.answers[draft.index]?.vote === null;
}

/** What the conversation goes on from: the answer as its reader corrected it, else as it was written; may be empty. */
export function answerOf(turn: Turn): string {
  const answer = turn.answers[turn.shown];
  if (answer === undefined || answer.finish_reason === BROKEN) return "";
  return answer.correction ?? answer.text;
}

/** The messages up to the question of `turn`. Turns without an answer (failed, stopped at once) are not sent along. */
export function messagesOf({ turns }: Conversation, turn: number): Message[] {
  const before = turns.slice(0, turn).filter((past) => answerOf(past) !== "" && !isUndecided(past));
  const past = before.flatMap((it): Message[] => [
    { role: "user", content: it.question },
    { role: "assistant", content: answerOf(it) },
  ]);
  return [...past, { role: "user", content: turns[turn]?.question ?? "" }];
}
