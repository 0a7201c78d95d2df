/** Asking and being answered: one request at a time, its stream written into the open conversation. */

import { computed, signal } from "@preact/signals";
import { chat, compare } from "../api/chat";
import type { Preference } from "../api/feedback";
import { ApiError, isAbort } from "../api/send";
import {
  type Answer,
  answered,
  asked,
  BROKEN,
  type Conversation,
  changed,
  changedWhere,
  isUndecided,
  messagesOf,
  reasked,
  type Turn,
  voted,
  withAnswer,
  withoutLast,
} from "../model/conversation";
import { announce, clearAnnouncements, kindly, speaker, toast } from "../ui/announce";
import { conversation, keep, opening, revise } from "./keeping";

export type Way = "answer" | "comparison";

export interface Running {
  turn: number;
  way: Way;
  stop: AbortController;
}

export interface Failure {
  why: string;
  way: Way;
}

export const running = signal<Running | null>(null);
/** By the place of the turn, where no answer came. */
export const failures = signal<ReadonlyMap<number, Failure>>(new Map());

/** Whether a comparison waits for its vote, so that nobody knows yet how the conversation goes on. */
export const undecided = computed(() => running.value === null && conversation.value.turns.some(isUndecided));
/** Whether a question may be asked. */
export const isFree = computed(() => running.value === null && !undecided.value && opening.value === null);

/** Asks; false if it cannot be done now. */
export function ask(question: string, way: Way): boolean {
  if (question.trim() === "" || !isFree.value) return false;
  conversation.value = asked(conversation.value, question.trim());
  void run(conversation.value.turns.length - 1, way);
  return true;
}

/** Asks the same again, or again after a failure. */
export function again(turn: number, way: Way): void {
  if (isFree.value) void run(turn, way);
}

/** Asks another question in the place of an old one; what followed can be brought back for a while. */
export function edit(turn: number, question: string): void {
  if (question.trim() === "" || running.value !== null || opening.value !== null) return;
  const before = conversation.value;
  conversation.value = reasked(before, turn, question.trim());
  failures.value = new Map();
  if (before.turns.length > turn + 1) toast("The messages after it are gone.", () => restore(before));
  void run(turn, "answer");
}

function restore(before: Conversation): void {
  if (conversation.value.id !== before.id) return;
  stop();
  running.value = null;
  conversation.value = before;
  keep(before);
}

/** Takes a question away that got no answer; gives its text back. */
export function withdraw(turn: number): string {
  const question = conversation.value.turns[turn]?.question ?? "";
  conversation.value = { ...conversation.value, turns: conversation.value.turns.filter((_, at) => at !== turn) };
  failures.value = new Map();
  keep(conversation.value);
  return question;
}

export function stop(): void {
  running.value?.stop.abort();
}

/** Ends what is under way at once, before another conversation takes its place. */
export function halt(): void {
  const now = running.value;
  if (now === null) return;
  now.stop.abort();
  running.value = null; // from here on its stream writes nothing
  conversation.value = changed(conversation.value, now.turn, (turn) => halted(turn, now.way));
  keep(conversation.value);
}

function halted(turn: Turn, way: Way): Turn {
  const last = turn.answers.length - 1;
  if (way === "comparison") return isUndecided(turn) ? withoutLast(turn, 2) : turn;
  return turn.answers[last]?.text ? withAnswer(turn, last, { stopped: true }) : withoutLast(turn, 1);
}

export function change(turn: number, how: (turn: Turn) => Turn): void {
  conversation.value = changed(conversation.value, turn, how);
  keep(conversation.value);
}

/**
 * Writes down what was said of an answer, once it is saved: another conversation may be open by then, or other turns may
 * stand in the place of these.
 * @param id the conversation's
 */
export function mark(id: string, completion: string, part: Partial<Answer>): void {
  const holds = (answer: Answer) => answer.completion === completion;
  void kindly(revise(id, (it) => changedWhere(it, holds, (turn, index) => withAnswer(turn, index, part))));
}

/** The same of a comparison. */
export function decide(
  id: string,
  comparison: string,
  vote: Preference | "skipped",
  reveal?: { a: string; b: string },
): void {
  const holds = (answer: Answer) => answer.comparison === comparison;
  void kindly(revise(id, (it) => changedWhere(it, holds, (turn, index) => voted(turn, index, vote, reveal))));
}

async function run(turn: number, way: Way): Promise<void> {
  const now: Running = { turn, way, stop: new AbortController() };
  running.value = now;
  setFailure(turn, null);
  clearAnnouncements();
  keep(conversation.value);
  try {
    await (way === "answer" ? answering(now) : comparing(now));
  } catch (error) {
    if (!(error instanceof ApiError) && !isAbort(error)) throw error;
    if (running.value === now) setFailure(turn, { why: error instanceof ApiError ? error.message : "Stopped.", way });
  } finally {
    if (running.value === now) {
      running.value = null;
      keep(conversation.value);
    }
  }
}

function setFailure(turn: number, failure: Failure | null): void {
  const next = new Map(failures.value);
  if (failure === null) next.delete(turn);
  else next.set(turn, failure);
  failures.value = next;
}

/** Writes into the turn, at most once a frame however fast words arrive, and only while it is this one's. */
function writer(now: Running) {
  let frame = 0;
  let next: ((turn: Turn) => Turn) | null = null;
  const flush = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    if (next !== null && running.value === now) conversation.value = changed(conversation.value, now.turn, next);
    next = null;
  };
  return {
    /** What is said later in the same frame takes its place. */
    soon(how: (turn: Turn) => Turn) {
      next = how;
      frame ||= requestAnimationFrame(flush);
    },
    atOnce(how: (turn: Turn) => Turn) {
      next = null;
      flush();
      next = how;
      flush();
    },
  };
}

/** Streams one answer. A stop keeps what came; a failure, or a stop before the first word, goes to the caller. */
async function answering(now: Running): Promise<void> {
  const turn = conversation.value.turns[now.turn] as Turn;
  const kept = dropBroken(turn);
  const messages = messagesOf(conversation.value, now.turn);
  const page = writer(now);
  const speech = speaker();
  const index = kept.answers.length;
  const answer: Partial<Answer> = { text: "" };
  page.atOnce(() => answered(kept, answer));
  let recorded = true;
  let id: string | null = null;
  try {
    const reply = await chat(messages, kept.answers[kept.shown]?.completion ?? null, now.stop.signal);
    recorded = reply.recorded;
    for await (const chunk of reply.chunks) {
      id = chunk.id;
      answer.text += chunk.text;
      answer.model = chunk.model;
      answer.finish_reason = chunk.finishReason ?? answer.finish_reason ?? null;
      page.soon((it) => withAnswer(it, index, answer));
      speech.follow(answer.text ?? "");
    }
    answer.completion = recorded ? id : null;
  } catch (error) {
    if (answer.text === "") page.atOnce((it) => ({ ...withoutLast(it, 1), shown: kept.shown }));
    if (answer.text === "") throw error;
    answer.stopped = true;
    if (!isAbort(error)) answer.finish_reason = BROKEN;
    if (!isAbort(error)) throw error;
  } finally {
    if (answer.text !== "") page.atOnce((it) => withAnswer(it, index, answer));
  }
  speech.finish(answer.text ?? "");
}

/** What is left of a stream that broke is of no use once the question is asked again. */
function dropBroken(turn: Turn): Turn {
  return turn.answers.at(-1)?.finish_reason === BROKEN ? withoutLast(turn, 1) : turn;
}

/** Streams two answers side by side. Half an answer is no choice: what fails or is stopped leaves nothing in view. */
async function comparing(now: Running): Promise<void> {
  const kept = dropBroken(conversation.value.turns[now.turn] as Turn);
  const messages = messagesOf(conversation.value, now.turn);
  const page = writer(now);
  const texts = { a: "", b: "" };
  const ended = { a: false, b: false };
  let id = "";
  const show = () =>
    answered(
      kept,
      { comparison: id, text: texts.a, finish_reason: ended.a ? "stop" : null },
      { comparison: id, text: texts.b, finish_reason: ended.b ? "stop" : null },
    );
  page.atOnce(show);
  try {
    for await (const event of compare(messages, now.stop.signal)) {
      if ("id" in event) id = event.id;
      else if (event.delta !== undefined) texts[event.side] += event.delta;
      else ended[event.side] = true;
      page.soon(show);
    }
  } catch (error) {
    page.atOnce(() => kept);
    throw error;
  }
  page.atOnce(show);
  announce("Two answers. Press 1 for the first, 2 for a tie, 3 for the second, 4 if both are bad.");
}
