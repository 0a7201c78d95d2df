/** Thumbs below an answer. A changed mind is a new vote; the last one counts. */

import { ApiError, voteThumb } from "./api.js";
import { el, icon } from "./dom.js";

/**
 * Two toggle buttons that vote on the completion `id`. A vote shows at once and is taken back if it could not be saved.
 * @param {string} id
 */
export function thumbs(id) {
  /** @type {1 | -1 | null} */
  let wanted = null;
  /** @type {1 | -1 | null} */
  let saved = null;
  let saving = false;
  const up = thumb("up", "Good answer", () => choose(1));
  const down = thumb("down", "Bad answer", () => choose(-1));
  const notice = el("span", { class: "notice", role: "alert" });

  function show() {
    up.setAttribute("aria-pressed", String(wanted === 1));
    down.setAttribute("aria-pressed", String(wanted === -1));
  }

  /** @param {1 | -1} value */
  async function choose(value) {
    wanted = value;
    notice.textContent = "";
    show();
    if (saving) return; // the loop below sees the changed mind
    saving = true;
    try {
      while (wanted !== saved && wanted !== null) {
        const sent = wanted;
        await voteThumb(id, sent);
        saved = sent;
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      wanted = saved;
      notice.textContent = `Your vote was not saved. ${error.message}`;
    } finally {
      saving = false;
      show();
    }
  }

  show();
  return el("span", { class: "thumbs", role: "group", "aria-label": "Vote on this answer" }, up, down, notice);
}

/** @param {"up" | "down"} name @param {string} label @param {() => void} onclick @returns {HTMLElement} */
function thumb(name, label, onclick) {
  const attributes = { type: "button", class: `thumb ${name}`, "aria-label": label, title: label, onclick };
  return el("button", attributes, icon(name));
}
