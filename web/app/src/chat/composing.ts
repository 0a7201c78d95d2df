/** What is being written in the composer, and who may put something there. */

import { effect, signal, untracked } from "@preact/signals";
import { leaveDraft } from "../model/draft";
import { read } from "../model/storage";
import { begun, conversation } from "./keeping";

export const composed = signal("");

const draftName = () => `draft.${begun.value ? conversation.value.id : "new"}`;

/** Each conversation has a draft of its own, which outlives a reload. */
export function followDrafts(): void {
  let id = "";
  let name = "";
  effect(() => {
    const next = draftName();
    const opened = conversation.value.id !== id;
    if (opened) composed.value = read(next) ?? "";
    else if (next !== name) leaveDraft(name, ""); // it has begun, or has been emptied: the same text has another name
    id = conversation.value.id;
    name = next;
    leaveDraft(
      next,
      untracked(() => composed.value),
    );
  });
  effect(() => leaveDraft(untracked(draftName), composed.value));
}

export function hasDraft(): boolean {
  return composed.value !== "" && document.activeElement?.id === "question";
}

/** Moves a question back into the composer, before anything typed since. */
export function putBack(question: string): void {
  composed.value = [question, composed.value].filter((text) => text !== "").join("\n");
  focusComposer();
}

export function focusComposer(): void {
  document.getElementById("question")?.focus();
}
