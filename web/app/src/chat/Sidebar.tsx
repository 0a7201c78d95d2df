/** The conversations that the server keeps for this rater. On a narrow page they come as a drawer. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { Entry } from "../api/conversations";
import { MAX_TITLE } from "../model/conversation";
import { kindly } from "../ui/announce";
import { Confirm } from "../ui/Confirm";
import { Dialog } from "../ui/Dialog";
import { Icon } from "../ui/Icon";
import { pressedBy } from "../ui/keys";
import { Menu } from "../ui/Menu";
import { conversation, entries, moreEntries, problem, readEntries, revise, save } from "./keeping";
import { discard, open, startNew } from "./navigation";

export const drawer = signal(false);

export function Sidebar() {
  return (
    <nav class="sidebar" aria-label="Conversations">
      <List />
    </nav>
  );
}

export function Drawer() {
  return (
    <Dialog
      open={drawer.value}
      onClose={() => {
        drawer.value = false;
      }}
      title="Conversations"
      as="drawer"
    >
      <List />
    </Dialog>
  );
}

/** @param short without its words, in the header of a narrow page */
export function NewChat({ short = false }: { short?: boolean }) {
  const press = () => {
    drawer.value = false;
    startNew();
    document.getElementById("question")?.focus();
  };
  return (
    <button
      type="button"
      class={short ? "quiet square" : "new-chat"}
      onClick={press}
      title="New chat (N)"
      {...pressedBy("n")}
    >
      <Icon name="plus" />
      <span class={short ? "unseen" : ""}>New chat</span>
    </button>
  );
}

function List() {
  return (
    <>
      <NewChat />
      {problem.value !== null && (
        <div class="unsaved" role="status">
          <p>Not saved yet. {problem.value}</p>
          <button type="button" onClick={() => void save()}>
            Save now
          </button>
        </div>
      )}
      <ul class="entries">
        {entries.value.map((entry) => (
          <Row key={entry.id} entry={entry} />
        ))}
      </ul>
      {moreEntries.value !== null && (
        <button type="button" class="quiet" onClick={() => void kindly(readEntries(moreEntries.value ?? undefined))}>
          Show more
        </button>
      )}
    </>
  );
}

function Row({ entry }: { entry: Entry }) {
  const [naming, setNaming] = useState(false);
  const [asking, setAsking] = useState(false);
  const title = entry.title === "" ? "Untitled" : entry.title;
  const show = () => {
    drawer.value = false;
    void open(entry.id);
  };
  if (naming)
    return (
      <li>
        <Naming entry={entry} onDone={() => setNaming(false)} />
      </li>
    );
  return (
    <li>
      <button
        type="button"
        class="entry"
        onClick={show}
        aria-current={conversation.value.id === entry.id ? "page" : undefined}
      >
        {title}
      </button>
      <Menu
        label={`Options for ${title}`}
        icon="more"
        items={[
          { label: "Rename", run: () => setNaming(true) },
          { label: "Delete…", danger: true, run: () => setAsking(true) },
        ]}
      />
      <Confirm
        open={asking}
        onClose={() => setAsking(false)}
        title="Delete this conversation?"
        action="Delete"
        onConfirm={() => void kindly(discard(entry.id))}
      >
        “{title}” is deleted from the server. Your votes stay; they can be taken back under “What became of my votes”.
      </Confirm>
    </li>
  );
}

function Naming({ entry, onDone }: { entry: Entry; onDone: () => void }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const title = String(new FormData(event.currentTarget as HTMLFormElement).get("title")).trim();
    if (title !== "" && title !== entry.title) void kindly(revise(entry.id, (it) => ({ ...it, title })));
    onDone();
  };
  return (
    <form onSubmit={submit}>
      <input
        name="title"
        aria-label="Title"
        defaultValue={entry.title}
        maxLength={2 * MAX_TITLE}
        autofocus
        onKeyDown={(event) => event.key === "Escape" && onDone()}
      />
      <button type="submit" class="quiet square" aria-label="Save the title">
        <Icon name="check" />
      </button>
    </form>
  );
}
