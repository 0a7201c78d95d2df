/** Starts the chat page. */

import { render } from "preact";
import { ApiError } from "../api/send";
import "../styles/base.css";
import "../styles/controls.css";
import "../styles/prose.css";
import "../styles/cards.css";
import "../styles/chat.css";
import "../styles/dialogs.css";
import { toast } from "../ui/announce";
import { enter, followLinks } from "../ui/Invitation";
import { listen } from "../ui/keys";
import { applyTheme } from "../ui/theme";
import { App } from "./App";
import { halt } from "./asking";
import { followDrafts } from "./composing";
import { followAddress, readEntries, save } from "./keeping";
import { openAddress } from "./navigation";

async function start(): Promise<void> {
  applyTheme();
  followDrafts();
  listen();
  render(<App />, document.getElementById("app") as HTMLElement);
  try {
    if ((await enter()) === null) return;
    await openAddress();
    await readEntries();
    await save(); // what an earlier visit could not save
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    toast(error.message);
  } finally {
    followAddress();
  }
}

followLinks();
window.addEventListener("popstate", () => void openAddress());
window.addEventListener("pagehide", () => {
  halt();
  void save(true);
});
void start();
