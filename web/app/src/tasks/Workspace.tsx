/**
 * The page of rater tasks: one at a time, by mouse, touch or keyboard. Nothing here knows of policies or gold.
 *
 * The rater is the session's. Where the server offers no sessions (a deployment without the page, behind something that
 * knows its people) a rater says who they are.
 */

import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/send";
import { session } from "../api/session";
import { answerTask, isOver, nextTask, type Progress, progress, skipTask, type Task } from "../api/tasks";
import { read, write } from "../model/storage";
import { Announcements, clearToast, toast } from "../ui/announce";
import { Icon, Mark } from "../ui/Icon";
import { enter, Invitation } from "../ui/Invitation";
import { type KeyGroup, KeysDialog } from "../ui/KeysDialog";
import { pressedBy } from "../ui/keys";
import { nextTheme } from "../ui/theme";
import { TaskView } from "./Task";

const KEYS: KeyGroup[] = [
  {
    title: "Compare",
    keys: [
      [["1"], "A is better"],
      [["2"], "tie"],
      [["3"], "B is better"],
      [["4"], "both are bad"],
    ],
  },
  {
    title: "Rank",
    keys: [
      [["1", "…"], "the place of one answer after the other"],
      [["↑", "↓"], "move the answer whose handle has the focus"],
      [["Enter"], "send"],
    ],
  },
  { title: "Rate", keys: [[["1", "…", "5"], "bad to excellent"]] },
  { title: "Correct", keys: [[["Ctrl", "Enter"], "send"]] },
  {
    title: "The page",
    keys: [
      [["0"], "skip"],
      [["T"], "light or dark"],
      [["?"], "these keys"],
    ],
  },
];

type State =
  { is: "looking" } | { is: "asking" } | { is: "task"; task: Task } | { is: "done" } | { is: "away"; why: string };

const state = signal<State>({ is: "looking" });
const standing = signal<Progress | null>(null);
let rater = "";

/** Fetches the next task and how far the rater is. */
async function next(): Promise<void> {
  try {
    const task = await nextTask(rater);
    const { done, left } = await progress(rater);
    standing.value = { done, left: left + (task === null ? 0 : 1) };
    state.value = task === null ? { is: "done" } : { is: "task", task };
    clearToast(); // it spoke of what was here before
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    state.value = { is: "away", why: error.message };
  }
}

async function start(): Promise<void> {
  try {
    await enter();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    state.value = { is: "away", why: error.message };
    return;
  }
  rater = session.value?.rater ?? "";
  if (rater === "") state.value = { is: "asking" };
  else await next();
}

/** Sends an answer or a skip, then goes on; what could not be saved stays on the page. */
async function settle(work: () => Promise<void>): Promise<void> {
  try {
    await work();
    await next();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (isOver(error)) await next();
    toast(error.message);
  }
}

export function Workspace() {
  const [keys, setKeys] = useState(false);
  useEffect(() => void start(), []);
  return (
    <>
      <header class="top">
        <h1>
          <Mark />
          Tasks
        </h1>
        <Standing />
        <span class="space" />
        <button
          type="button"
          class="quiet square"
          aria-label="Keyboard"
          title="Keyboard (?)"
          onClick={() => setKeys(true)}
          {...pressedBy("?")}
        >
          <kbd aria-hidden="true">?</kbd>
        </button>
        <a class="quiet" href="./">
          Chat
        </a>
      </header>
      <Middle />
      <Announcements />
      <Invitation />
      <KeysDialog open={keys} onClose={() => setKeys(false)} groups={KEYS} />
      <button type="button" class="key-only" tabIndex={-1} aria-hidden="true" onClick={nextTheme} {...pressedBy("t")} />
    </>
  );
}

function Standing() {
  if (standing.value === null) return null;
  const { done, left } = standing.value;
  return (
    <>
      <p id="progress" class="chip" role="status">{`${done} done, ${left} to do`}</p>
      <progress class="wide" aria-hidden="true" value={done} max={Math.max(1, done + left)} />
    </>
  );
}

function Middle() {
  const place = useRef<HTMLElement>(null);
  const now = state.value;
  useLayoutEffect(() => {
    if (now.is !== "task") return;
    place.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [now]);
  return (
    <main id="task" ref={place} aria-label="Task" tabIndex={-1}>
      {now.is === "looking" && <p class="note">Looking for tasks…</p>}
      {now.is === "asking" && <Who />}
      {now.is === "task" && (
        <TaskView
          key={now.task.id}
          task={now.task}
          onAnswer={(value) => settle(() => answerTask(now.task.id, rater, value))}
          onSkip={() => settle(() => skipTask(now.task.id, rater))}
        />
      )}
      {now.is === "done" && <Rest text="Nothing is left for you. Thank you." />}
      {now.is === "away" && <Rest text={now.why} alert />}
      {session.value && (
        <p class="note whose">
          You rate as <code>{session.value.rater}</code>.
        </p>
      )}
    </main>
  );
}

function Rest({ text, alert }: { text: string; alert?: boolean }) {
  return (
    <div class="rest">
      {!alert && <Icon name="check" />}
      <p class={alert ? "notice" : ""} role={alert ? "alert" : undefined}>
        {text}
      </p>
      <button type="button" onClick={() => void (rater === "" ? start() : next())}>
        Look again
      </button>
    </div>
  );
}

function Who() {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const said = String(new FormData(event.currentTarget as HTMLFormElement).get("rater")).trim();
    if (said === "") return;
    rater = said;
    write("task-rater", said);
    void next();
  };
  return (
    <form id="who" onSubmit={submit}>
      <label for="rater">Your rater id</label>
      <input
        id="rater"
        name="rater"
        required
        maxLength={256}
        autocomplete="username"
        autofocus
        aria-describedby="whose"
        defaultValue={read("task-rater") ?? ""}
      />
      <p id="whose" class="note">
        The name under which your answers count. Keep to one.
      </p>
      <button class="primary" type="submit">
        Start
      </button>
    </form>
  );
}
