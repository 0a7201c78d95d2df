/** Where questions are written. Enter asks, Ctrl-Enter compares, Shift-Enter is a line, Escape stops or leaves. */

import { useRef } from "preact/hooks";
import { submitting } from "../ui/form";
import { Icon } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { useFit } from "../ui/TextBox";
import { ask, isFree, running, stop, undecided, type Way } from "./asking";
import { composed, focusComposer } from "./composing";

function submit(way: Way): void {
  const text = composed.value;
  if (text.trim() !== "" && isFree.value) {
    composed.value = "";
    ask(text, way);
  }
  focusComposer();
}

function onKey(event: KeyboardEvent): void {
  if (event.key === "Escape" && running.value === null) (event.currentTarget as HTMLElement).blur();
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  submit(event.ctrlKey || event.metaKey ? "comparison" : "answer");
}

export function Composer() {
  const box = useRef<HTMLTextAreaElement>(null);
  useFit(box, composed.value);
  const busy = running.value !== null;
  return (
    <footer class="bottom">
      <form id="composer" onSubmit={submitting(() => submit("answer"))}>
        <label class="unseen" for="question">
          Message
        </label>
        <textarea
          ref={box}
          id="question"
          rows={1}
          placeholder="Message the assistant"
          autocomplete="off"
          autofocus
          value={composed.value}
          onInput={(event) => {
            composed.value = event.currentTarget.value;
          }}
          onKeyDown={onKey}
        />
        <div class="actions">
          <Hint />
          <button id="compare" type="button" aria-disabled={!isFree.value} onClick={() => submit("comparison")}>
            <Icon name="compare" />
            <span>
              Compare <span class="wide">two answers</span>
              <span class="narrow unseen">two answers</span>
            </span>
          </button>
          {busy ? (
            <button id="stop" type="button" onClick={stop}>
              <Icon name="stop" />
              Stop
            </button>
          ) : (
            <button id="send" class="primary" type="submit" aria-disabled={!isFree.value}>
              <Icon name="send" />
              Send
            </button>
          )}
        </div>
      </form>
      <Focus />
    </footer>
  );
}

function Hint() {
  if (undecided.value) return <p class="hint urgent">Choose an answer above to go on.</p>;
  return <p class="hint">Enter sends, Ctrl+Enter compares.</p>;
}

/** Never seen: what the key that leads to the message box presses. */
function Focus() {
  return (
    <button
      type="button"
      class="key-only"
      tabIndex={-1}
      aria-hidden="true"
      onClick={focusComposer}
      {...pressedBy("m", "/")}
    />
  );
}
