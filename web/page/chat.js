/** One answer, from the request to the vote: streams it into the page and shows who wrote it. */

import { chat } from "./api.js";
import { announce, el } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { thumbs } from "./votes.js";

const NOTES = { length: "cut off at the length limit", stopped: "stopped" };

/**
 * Streams the answer to `messages` into `place` and resolves to its text. A stop by the person keeps what came so far;
 * a failure, or a stop before the first word, goes to the caller, and what came stays in view.
 * @param {HTMLElement} place
 * @param {import("./api.js").Message[]} messages
 * @param {AbortSignal} signal
 * @returns {Promise<string>}
 */
export async function streamAnswer(place, messages, signal) {
  const body = el("div", { class: "prose", "aria-busy": "true" });
  const answer = el("article", { class: "answer", "aria-label": "Answer" }, body);
  place.replaceChildren(answer);
  const speech = speaker();
  const page = painter(body);
  let text = "";
  let last = { id: "", model: "", finishReason: /** @type {string | null} */ (null) };
  let recorded = true;
  try {
    const reply = await chat(messages, signal);
    recorded = reply.recorded;
    for await (const chunk of reply.chunks) {
      text += chunk.text;
      last = { ...chunk, finishReason: chunk.finishReason ?? last.finishReason };
      page.show(text);
      speech.follow(text);
    }
  } catch (error) {
    if (text === "") answer.remove();
    if (!signal.aborted || text === "") throw error;
    last.finishReason = "stopped";
  } finally {
    page.finish(text);
    body.removeAttribute("aria-busy");
  }
  speech.finish(text);
  answer.append(signature(last, recorded));
  return text;
}

/** The line below an answer: its version, how it ended, the thumbs.
 * @param {{id: string, model: string, finishReason: string | null}} last @param {boolean} recorded */
function signature({ id, model, finishReason }, recorded) {
  const note = finishReason === "length" || finishReason === "stopped" ? NOTES[finishReason] : null;
  const line = el("footer", { class: "signature" });
  if (model !== "") line.append(el("span", { class: "version", title: "The policy that wrote this answer" }, model));
  if (note !== null) line.append(el("span", { class: "note" }, note));
  if (finishReason === "stopped") return line; // an unfinished answer cannot be voted on
  if (recorded) line.append(thumbs(id));
  else line.append(el("span", { class: "note" }, "Voting is off for this answer: the server could not keep it."));
  return line;
}

/** Paints at most once a frame, however fast chunks arrive. @param {HTMLElement} body */
export function painter(body) {
  let frame = 0;
  let latest = "";
  return {
    /** @param {string} text */
    show(text) {
      latest = text;
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        renderMarkdown(body, latest);
      });
    },
    /** @param {string} text */
    finish(text) {
      cancelAnimationFrame(frame);
      renderMarkdown(body, text);
    },
  };
}

/** Reads an answer out line by line while it grows: each word once, never half a line. */
function speaker() {
  let spoken = 0;
  return {
    /** @param {string} text */
    follow(text) {
      const end = text.lastIndexOf("\n") + 1;
      if (end > spoken) announce(text.slice(spoken, end));
      spoken = Math.max(spoken, end);
    },
    /** @param {string} text */
    finish(text) {
      announce(text.slice(spoken));
    },
  };
}

/**
 * What is shown where no answer came: why, and two ways on.
 * @param {string} why @param {() => void} retry @param {() => void} edit
 */
export function failure(why, retry, edit) {
  return el("div", { class: "failure", role: "alert" },
    el("p", {}, why),
    el("button", { type: "button", onclick: retry }, "Try again"),
    el("button", { type: "button", class: "quiet", onclick: edit }, "Edit message"));
}
