/** What was looked up, once it is there; why it is not; and a word where it is not of now. */

import type { ComponentChildren } from "preact";
import type { Seen } from "./watch";

interface Props<T> {
  seen: Seen<T>;
  children: (value: T) => ComponentChildren;
}

export function Shown<T>({ seen, children }: Props<T>) {
  const { value, problem, at } = seen;
  if (value === null) return <p class={problem === null ? "note" : "notice"}>{problem ?? "Looking it up…"}</p>;
  return (
    <>
      {problem !== null && (
        <p class="notice" role="status">
          {problem} What follows is of {new Date(at).toLocaleTimeString("en-GB")}.
        </p>
      )}
      <div class={problem === null ? "fresh" : "stale"}>{children(value)}</div>
    </>
  );
}
