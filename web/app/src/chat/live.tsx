/** Which policy is live: shown in the header and looked up again and again, so that a hot-swap can be seen. */

import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { livePolicy } from "../api/chat";
import { ApiError } from "../api/send";
import { toast } from "../ui/announce";

const EVERY_MS = 3000;

type State = "connecting" | "live" | "none" | "away";
const live = signal<{ state: State; name: string | null }>({ state: "connecting", name: null });
const WORDS: Record<State, string> = { connecting: "connecting…", live: "", none: "no policy yet", away: "offline" };

export function Live() {
  useEffect(() => {
    void lookUp();
    const timer = window.setInterval(() => document.hidden || void lookUp(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  const { state, name } = live.value;
  return (
    <p id="live" class="chip" data-state={state}>
      <span class="unseen">Live policy: </span>
      <span>{name ?? WORDS[state]}</span>
    </p>
  );
}

let known: string | null = null;

async function lookUp(): Promise<void> {
  try {
    const name = await livePolicy();
    if (name !== null && known !== null && known !== name) toast(`Now serving ${name}`);
    known = name ?? known;
    live.value = { state: name === null ? "none" : "live", name };
  } catch (error) {
    if (!(error instanceof ApiError) && !(error instanceof DOMException)) throw error;
    live.value = { state: "away", name: null };
  }
}
