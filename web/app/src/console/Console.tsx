/** The operator console: one screen of the loop, the rest a section each, which asks only while it is shown. */

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { List, Policy, Release } from "../api/loop";
import { key, keyWanted, takeKey } from "../api/operator";
import { Announcements } from "../ui/announce";
import { Mark } from "../ui/Icon";
import { type KeyGroup, KeysDialog } from "../ui/KeysDialog";
import { pressedBy } from "../ui/keys";
import { nextTheme } from "../ui/theme";
import { ActDialog } from "./ActDialog";
import { Audit } from "./Audit";
import { Compare } from "./Compare";
import { Feedback } from "./Feedback";
import { KeyForm } from "./KeyForm";
import { Lineage } from "./Lineage";
import { Loop } from "./Loop";
import { live } from "./policies";
import { Runs } from "./Runs";
import { Versions } from "./Versions";
import { type Seen, useWatch } from "./watch";

/** What most of the console is about; looked up once for all of it. */
export interface Served {
  policies: Seen<List<Policy>>;
  releases: Seen<List<Release>>;
}

const SECTIONS = [
  { name: "loop", title: "Loop", Section: Loop },
  { name: "versions", title: "Versions", Section: Versions },
  { name: "feedback", title: "Feedback", Section: Feedback },
  { name: "runs", title: "Runs", Section: Runs },
  { name: "lineage", title: "Lineage", Section: Lineage },
  { name: "compare", title: "Compare", Section: Compare },
  { name: "audit", title: "Audit", Section: Audit },
] as const;

const KEYS: KeyGroup[] = [
  {
    title: "Sections",
    keys: SECTIONS.map(({ title }, at): [string[], string] => [[String(at + 1)], title]),
  },
  {
    title: "The page",
    keys: [
      [["Ctrl", "Enter"], "send a reason"],
      [["Esc"], "close a dialog"],
      [["T"], "light or dark"],
      [["?"], "these keys"],
    ],
  },
];

const chosen = signal(SECTIONS[0] as (typeof SECTIONS)[number]);

/** Shows the section that the address names. */
export function followAddress(): void {
  const name = location.hash.slice(1);
  chosen.value = SECTIONS.find((it) => it.name === name) ?? SECTIONS[0];
}

export function Console() {
  const [keys, setKeys] = useState(false);
  return (
    <>
      {keyWanted.value === null ? (
        <Screen key={key.value} onKeys={() => setKeys(true)} />
      ) : (
        <KeyForm why={keyWanted.value} />
      )}
      <Announcements />
      <KeysDialog open={keys} onClose={() => setKeys(false)} groups={KEYS} />
      <button type="button" class="key-only" tabIndex={-1} aria-hidden="true" onClick={nextTheme} {...pressedBy("t")} />
    </>
  );
}

function Screen({ onKeys }: { onKeys: () => void }) {
  const served: Served = { policies: useWatch("v1/policies"), releases: useWatch("v1/releases", 2000) };
  const { title, Section } = chosen.value;
  return (
    <>
      <header class="top">
        <h1>
          <Mark />
          Console
        </h1>
        <Live {...served} />
        <span class="space" />
        {key.value !== "" && (
          <button type="button" class="quiet small" onClick={() => takeKey("")}>
            Forget the key
          </button>
        )}
        <button
          type="button"
          class="quiet square"
          aria-label="Keyboard"
          title="Keyboard (?)"
          onClick={onKeys}
          {...pressedBy("?")}
        >
          <kbd aria-hidden="true">?</kbd>
        </button>
      </header>
      <nav class="sections" aria-label="Sections">
        {SECTIONS.map(({ name, title }, at) => (
          <a
            key={name}
            href={`#${name}`}
            aria-current={chosen.value.name === name ? "page" : undefined}
            {...pressedBy(String(at + 1))}
          >
            {title}
          </a>
        ))}
      </nav>
      <main class="console" aria-label={title}>
        <Section {...served} />
      </main>
      <ActDialog />
    </>
  );
}

function Live({ policies }: Served) {
  const now = live(policies.value?.data ?? []);
  const state = policies.problem !== null ? "away" : now ? "live" : "none";
  const says = now ? `assistant@v${now.version}` : policies.value ? "no policy yet" : "…";
  return (
    <p id="live" class="chip" data-state={state}>
      <span class="unseen">Live policy: </span>
      <span>{says}</span>
      {policies.problem !== null && <span> (not of now)</span>}
    </p>
  );
}
