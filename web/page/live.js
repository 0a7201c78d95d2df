/** Which policy is live: shown in the header and looked up again and again, so that a hot-swap can be seen. */

import { ApiError, livePolicy } from "./api.js";
import { byId, toast } from "./dom.js";

const EVERY_MS = 3000;

/** Keeps the header's chip true for as long as the page lives. */
export async function watchLivePolicy() {
  const chip = byId("live");
  let known = null;
  for (;;) {
    if (!document.hidden) {
      const { state, name } = await lookUp();
      chip.dataset.state = state;
      byId("live-name").textContent = name ?? (state === "away" ? "offline" : "no policy yet");
      if (name !== null) {
        if (known !== null && known !== name) toast(`Now serving ${name}`);
        known = name;
      }
    }
    await new Promise((resume) => setTimeout(resume, EVERY_MS));
  }
}

async function lookUp() {
  try {
    const name = await livePolicy();
    return { state: name === null ? "none" : "live", name };
  } catch (error) {
    if (error instanceof ApiError) return { state: "away", name: null };
    throw error;
  }
}
