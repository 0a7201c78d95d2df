/** Text that a person is writing: kept in this browser under a name, so that a reload loses nothing. */

import { useCallback, useState } from "preact/hooks";
import { read, write } from "./storage";

/**
 * The text so far and how to set it. Empty, or equal to `initial`, it is not kept.
 * @param name e.g. `draft.conv_5d41…` @param initial what to begin with where nothing is kept
 */
export function useDraft(name: string, initial = ""): [string, (text: string) => void] {
  const [state, setState] = useState(() => ({ name, text: read(name) ?? initial }));
  const text = state.name === name ? state.text : (read(name) ?? initial);
  const set = useCallback(
    (next: string) => {
      write(name, next === "" || next === initial ? null : next);
      setState({ name, text: next });
    },
    [name, initial],
  );
  return [text, set];
}

/** Hands a text over to whoever opens the draft of this name next. */
export function leaveDraft(name: string, text: string): void {
  write(name, text === "" ? null : text);
}
