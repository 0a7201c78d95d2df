/** The chat page: the conversations at the side, the open one in the middle, the composer below it. */

import { signal } from "@preact/signals";
import { closedBecause, session } from "../api/session";
import { Announcements } from "../ui/announce";
import { Icon, Mark } from "../ui/Icon";
import { Invitation } from "../ui/Invitation";
import { type KeyGroup, KeysDialog } from "../ui/KeysDialog";
import { pressedBy } from "../ui/keys";
import { Menu } from "../ui/Menu";
import { nextTheme, theme } from "../ui/theme";
import { running, stop } from "./asking";
import { Composer } from "./Composer";
import { begun } from "./keeping";
import { Live } from "./live";
import { MyVotes } from "./MyVotes";
import { Settings } from "./Settings";
import { Drawer, drawer, NewChat, Sidebar } from "./Sidebar";
import { Thread } from "./Thread";

const KEYS: KeyGroup[] = [
  {
    title: "Writing",
    keys: [
      [["Enter"], "send the message"],
      [["Ctrl", "Enter"], "compare two answers"],
      [["Shift", "Enter"], "a new line"],
      [["Esc"], "stop, or leave the message box"],
      [["M"], "go to the message box"],
    ],
  },
  {
    title: "The answer in focus, or the last",
    keys: [
      [["G"], "good answer"],
      [["B"], "bad answer"],
      [["S"], "rate with stars"],
      [["C"], "correct it"],
      [["Y"], "copy it"],
      [["R"], "another answer"],
      [["[", "]"], "answer before, next answer"],
      [["E"], "edit the question"],
      [["K", "J"], "answer above, below"],
    ],
  },
  {
    title: "Two answers",
    keys: [
      [["1", "←"], "the first is better"],
      [["2", "="], "tie"],
      [["3", "→"], "the second is better"],
      [["4"], "both are bad"],
      [["0"], "skip"],
    ],
  },
  {
    title: "The page",
    keys: [
      [["N"], "new chat"],
      [["H"], "conversations"],
      [["V"], "what became of my votes"],
      [["D"], "your data"],
      [["T"], "light or dark"],
      [["?"], "these keys (Ctrl / works while writing)"],
    ],
  },
];

type Window = "votes" | "data" | "keys";
const shown = signal<Window | null>(null);
const show = (what: Window) => () => {
  shown.value = what;
};
const close = () => {
  shown.value = null;
};

export function App() {
  if (session.value === null) return <Closed />;
  return (
    <>
      <Header />
      <div class="columns">
        <Sidebar />
        <div class="middle">
          <Thread />
          <Composer />
        </div>
      </div>
      <Announcements />
      <Invitation />
      <Drawer />
      <MyVotes open={shown.value === "votes"} onClose={close} />
      <Settings open={shown.value === "data"} onClose={close} />
      <KeysDialog open={shown.value === "keys"} onClose={close} groups={KEYS} />
      <KeysOnly />
    </>
  );
}

function Header() {
  return (
    <header class="top">
      <button
        type="button"
        class="quiet square opens-drawer"
        aria-label="Conversations"
        title="Conversations (H)"
        onClick={() => {
          drawer.value = true;
        }}
        {...pressedBy("h")}
      >
        <Icon name="menu" />
      </button>
      <h1>
        <Mark />
        Plumbline
      </h1>
      <Live />
      <span class="space" />
      {begun.value && (
        <span class="narrow-only">
          <NewChat short />
        </span>
      )}
      <Menu
        label="Menu"
        icon="settings"
        items={[
          { label: "What became of my votes", note: "V", run: show("votes") },
          { label: "Your data", note: "D", run: show("data") },
          { label: "Theme", note: theme.value, run: nextTheme },
          { label: "Keyboard", note: "?", run: show("keys") },
          { label: "Rater tasks", run: () => location.assign("tasks") },
        ]}
      />
    </header>
  );
}

/** Moves the focus from answer to answer. */
function walk(step: 1 | -1): void {
  const all = [...document.querySelectorAll<HTMLElement>(".answer, .ballot")];
  const at = all.findIndex((it) => it.closest(".turn")?.contains(document.activeElement));
  const next = at < 0 ? all.at(step > 0 ? 0 : -1) : all[at + step];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

/** Actions that have a place in a menu, or none, and a key. */
function KeysOnly() {
  const button = (key: string, press: () => void) => (
    <button type="button" class="key-only" tabIndex={-1} aria-hidden="true" onClick={press} {...pressedBy(key)} />
  );
  return (
    <div>
      {button("v", show("votes"))}
      {button("d", show("data"))}
      {button("t", nextTheme)}
      {button("?", show("keys"))}
      {button("j", () => walk(1))}
      {button("k", () => walk(-1))}
      {running.value !== null && button("Escape", stop)}
    </div>
  );
}

/** What a visitor sees who is not let in. */
function Closed() {
  return (
    <main class="closed">
      <Mark />
      <h1>This page is not open</h1>
      <p>{closedBecause.value}</p>
    </main>
  );
}
