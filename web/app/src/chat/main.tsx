/** Starts the chat page. */

import { render } from "preact";
import "../styles/base.css";
import "../styles/controls.css";
import "../styles/prose.css";
import "../styles/cards.css";
import "../styles/chat.css";
import "../styles/dialogs.css";
import { kindly } from "../ui/announce";
import { enter, followLinks } from "../ui/Invitation";
import { listen } from "../ui/keys";
import { applyTheme } from "../ui/theme";
import { App } from "./App";
import { halt } from "./asking";
import { followDrafts } from "./composing";
import { begun, followAddress, readEntries, save } from "./keeping";
import { openAddress } from "./navigation";

function start(): void {
  applyTheme();
  followDrafts();
  listen();
  render(<App />, document.getElementById("app") as HTMLElement);
  void kindly(arrive());
}

async function arrive(): Promise<void> {
  try {
    if ((await enter()) === null) return;
    if (!begun.value) await openAddress(); // who has asked something meanwhile goes on with that
  } finally {
    followAddress();
  }
  await readEntries();
  await save(); // what an earlier visit could not save
}

followLinks();
window.addEventListener("popstate", () => void openAddress());
window.addEventListener("pagehide", () => {
  halt();
  void save(true);
});
start();
