/** What is shown is asked for again and again: only while somebody sees it, never twice at once. */

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { asOperator, inWords } from "../api/operator";
import { ApiError, isAbort } from "../api/send";

export interface Seen<T> {
  /** The newest answer; null before the first. */
  value: T | null;
  /** Why there is none that is newer; null if all is well. */
  problem: string | null;
  /** When the value came: milliseconds of this clock. */
  at: number;
}

const NOTHING = { value: null, problem: null, at: 0 };
const acts = signal(0);

/** Has everything that is shown be looked up at once: something was just changed. */
export function lookAgain(): void {
  acts.value += 1;
}

/**
 * What the address answers, looked up as long as the component is shown.
 * @param path null asks for nothing
 */
export function useWatch<T>(path: string | null, everyMs = 5000): Seen<T> {
  const [state, setState] = useState<{ path: string | null; seen: Seen<T> }>({ path, seen: NOTHING });
  const act = acts.value;
  useEffect(() => {
    if (path === null) return;
    const look = async (aborted: AbortSignal) => {
      const found = await ask<T>(path, aborted);
      if (!aborted.aborted)
        setState((before) => ({ path, seen: { ...(before.path === path ? before.seen : NOTHING), ...found } }));
    };
    return repeat(look, everyMs);
  }, [path, everyMs, act]);
  return state.path === path ? state.seen : NOTHING;
}

async function ask<T>(path: string, aborted: AbortSignal): Promise<Partial<Seen<T>>> {
  try {
    return { value: await asOperator<T>(path, { signal: aborted }), problem: null, at: Date.now() };
  } catch (error) {
    if (isAbort(error)) return {};
    if (!(error instanceof ApiError)) throw error;
    return { problem: inWords(error) };
  }
}

/**
 * Looks at once, and then each time that the last look ended so long ago and the page is seen.
 * @returns what ends it, and the look that is under way
 */
export function repeat(look: (aborted: AbortSignal) => Promise<void>, everyMs: number): () => void {
  const over = new AbortController();
  let timer: number | undefined;
  let rests = false;
  const run = async () => {
    rests = document.hidden;
    if (rests) return;
    await look(over.signal);
    if (!over.signal.aborted) timer = window.setTimeout(() => void run(), everyMs);
  };
  document.addEventListener("visibilitychange", () => rests && void run(), { signal: over.signal });
  void run();
  return () => {
    over.abort();
    clearTimeout(timer);
  };
}
