/** What is said once: to screen readers in a log, to everybody in a toast. */

import { signal } from "@preact/signals";
import { ApiError } from "../api/send";

interface Toast {
  text: string;
  undo?: (() => void) | undefined;
}

const said = signal<string[]>([]);
const toasted = signal<Toast | null>(null);
let timer = 0;

/** Has a screen reader read `text` out, after what it is saying now. */
export function announce(text: string): void {
  if (text.trim() !== "") said.value = [...said.value, text.trim()];
}

/** Drops what was read out already, so that it is not met a second time while browsing the page. */
export function clearAnnouncements(): void {
  said.value = [];
}

/** Shows one sentence for a while, with a way back if there is one. */
export function toast(text: string, undo?: () => void): void {
  toasted.value = { text, undo };
  clearTimeout(timer);
  timer = window.setTimeout(clearToast, undo ? 12_000 : 6_000);
}

/** Says in a toast why something did not work. */
export async function kindly(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message);
  }
}

export function clearToast(): void {
  toasted.value = null;
}

/** Where both appear; once in a page. */
export function Announcements() {
  const shown = toasted.value;
  const undo = () => {
    clearToast();
    shown?.undo?.();
  };
  return (
    <>
      <div id="toast" class="toast" role="status">
        {shown?.text}
        {shown?.undo && (
          <button type="button" onClick={undo}>
            Undo
          </button>
        )}
      </div>
      <div class="unseen" role="log" aria-label="Answers read out">
        {said.value.map((text, index) => (
          <p key={index}>{text}</p>
        ))}
      </div>
    </>
  );
}

/** Reads an answer out line by line while it grows: each word once, never half a line. */
export function speaker() {
  let spoken = 0;
  return {
    follow(text: string) {
      const end = text.lastIndexOf("\n") + 1;
      if (end > spoken) announce(text.slice(spoken, end));
      spoken = Math.max(spoken, end);
    },
    finish(text: string) {
      announce(text.slice(spoken));
    },
  };
}
