/** Asks for an API key, where the listener needs one. */

import { useLayoutEffect, useRef } from "preact/hooks";
import { key, takeKey } from "../api/operator";
import { submitting } from "../ui/form";
import { Mark } from "../ui/Icon";

export function KeyForm({ why }: { why: string }) {
  const field = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => field.current?.focus(), []);
  const take = () => takeKey(field.current?.value.trim() ?? "");
  return (
    <main class="closed">
      <Mark />
      <h1>The console needs a key</h1>
      {key.value !== "" && (
        <p class="notice" role="alert">
          {why}
        </p>
      )}
      <form class="key-form" onSubmit={submitting(take)}>
        <label for="key">API key</label>
        <input
          ref={field}
          id="key"
          type="password"
          required
          autocomplete="off"
          spellcheck={false}
          pattern="\s*plumb_[0-9a-f_]+\s*"
          title="It begins with plumb_"
          aria-describedby="key-note"
        />
        <p id="key-note" class="note">
          With scope <code>read</code> to look and <code>admin</code> to act; <code>plumbline keys create</code> makes
          one. It is kept until this tab is closed.
        </p>
        <button class="primary" type="submit">
          Open the console
        </button>
      </form>
    </main>
  );
}
