/**
 * Who votes: a random id that stays with this browser. It says "the same person as before", nothing about who.
 */

const KEY = "plumbline.rater";

/** 128 random bits. Not crypto.randomUUID: that one is missing on plain http away from localhost. */
function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

function load() {
  const id = fresh();
  try {
    const kept = localStorage.getItem(KEY);
    if (kept !== null) return kept;
    localStorage.setItem(KEY, id);
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    // Storage is blocked or full: the id then lives as long as the page.
  }
  return id;
}

/** The id of this browser's rater, e.g. `web-5f4dcc3b5aa765d61d8327deb882cf99`. */
export const raterId = load();
