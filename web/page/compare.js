/** A blind comparison: two answers side by side, one vote, then who wrote which. */

import { ApiError, compareStream, votePreference } from "./api.js";
import { painter } from "./chat.js";
import { announce, el } from "./dom.js";

/** @typedef {"a" | "b" | "tie"} Vote */
/** @typedef {{element: HTMLElement, header: HTMLElement, body: HTMLElement}} Card */

/** @type {Record<string, Vote>} */
const KEYS = { 1: "a", 2: "tie", 3: "b", ArrowLeft: "a", "=": "tie", ArrowRight: "b" };

/**
 * Where a side stands: beside the other on a wide page, above or below it on a narrow one. The style sheet shows the
 * word that is true, to a screen reader as well.
 */
const PLACES = { a: { wide: "Left", narrow: "Top" }, b: { wide: "Right", narrow: "Bottom" } };

/** The server reveals nothing while hired raters are asked about the same comparison, which is to stay blind. */
const HELD = "Thank you. Others are still being asked about these answers, so who wrote them stays hidden.";

/**
 * Streams two answers to `messages` side by side and lets the person vote inside `place`. Resolves as soon as both are
 * written; `decided` is called with the text that continues the conversation, after the vote or when it was skipped.
 * Half an answer is no choice: what fails or is stopped leaves nothing in view.
 * @param {HTMLElement} place
 * @param {import("./api.js").Message[]} messages
 * @param {AbortSignal} signal
 * @param {(answer: string) => void} decided
 */
export async function compare(place, messages, signal, decided) {
  const cards = { a: card("a"), b: card("b") };
  const pages = { a: painter(cards.a.body), b: painter(cards.b.body) };
  const texts = { a: "", b: "" };
  let id = "";
  place.replaceChildren(el("div", { class: "cards" }, cards.a.element, cards.b.element));
  try {
    for await (const event of compareStream(messages, signal)) {
      if ("id" in event) id = event.id;
      else if (event.delta !== undefined) pages[event.side].show((texts[event.side] += event.delta));
      else cards[event.side].body.removeAttribute("aria-busy");
    }
  } catch (error) {
    place.replaceChildren();
    throw error;
  } finally {
    pages.a.finish(texts.a);
    pages.b.finish(texts.b);
  }
  ballot(place, id, cards, texts, decided);
}

/** An empty one, which is being written. @param {"a" | "b"} side @returns {Card} */
function card(side) {
  const body = el("div", { class: "prose", "aria-busy": "true" });
  const header = el("header", {}, el("h2", {}, ...position(side)));
  const element = el("article", { class: "card" }, header, body);
  return { element, header, body };
}

/** @param {"a" | "b"} side @returns {HTMLElement[]} */
function position(side) {
  const { wide, narrow } = PLACES[side];
  return [el("span", { class: "wide" }, wide), el("span", { class: "narrow" }, narrow)];
}

/**
 * @param {HTMLElement} place where the cards are @param {string} id of the comparison @param {{a: Card, b: Card}} cards
 * @param {{a: string, b: string}} texts @param {(answer: string) => void} decided
 */
function ballot(place, id, cards, texts, decided) {
  const notice = el("p", { class: "notice", role: "alert" });
  const buttons = [
    voteButton([...position("a"), isBetter()], "1", () => vote("a")),
    voteButton(["Tie"], "2", () => vote("tie")),
    voteButton([...position("b"), isBetter()], "3", () => vote("b")),
  ];
  const skip = el("button", { type: "button", class: "quiet", onclick: () => close("a") }, "Skip");
  const ask = el("p", { id: `ask-${id}` }, "Which answer is better?");
  const bar = el("div", { class: "ballot", role: "group", "aria-labelledby": ask.id, tabindex: -1 },
    ask, skip, ...buttons);
  const open = new AbortController();
  let sending = false;

  /** @param {Vote} value */
  async function vote(value) {
    if (sending) return;
    sending = true;
    notice.textContent = "";
    bar.setAttribute("aria-busy", "true");
    try {
      const { reveal: versions } = await votePreference(id, value);
      reveal(cards, value, versions);
      close(value === "b" ? "b" : "a", versions ? sentence(value, versions) : HELD);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      notice.textContent = `Your vote was not saved. ${error.message}`;
    } finally {
      sending = false;
      bar.removeAttribute("aria-busy");
    }
  }

  /** @param {"a" | "b"} kept @param {string} [outcome] */
  function close(kept, outcome = "No vote. The conversation goes on from the first answer.") {
    open.abort();
    bar.replaceWith(el("p", { class: "outcome" }, outcome));
    notice.remove();
    announce(outcome);
    decided(texts[kept]);
  }

  document.addEventListener("keydown", (event) => {
    if (!bar.isConnected) return open.abort();
    const choice = KEYS[event.key];
    if (choice === undefined || event.ctrlKey || event.altKey || event.metaKey || usesKeys(event.target)) return;
    event.preventDefault();
    vote(choice);
  }, { signal: open.signal });
  place.append(bar, notice);
  announce("Two answers. Press 1 for the first, 2 for a tie, 3 for the second.");
  if (!hasDraft(document.activeElement)) bar.focus({ preventScroll: true });
}

/** Left out where three buttons share a narrow row: the question above them says it. */
function isBetter() {
  return el("span", { class: "wide" }, " is better");
}

/** @param {(Node | string)[]} label @param {string} key @param {() => void} onclick */
function voteButton(label, key, onclick) {
  return el("button", { type: "button", "aria-keyshortcuts": key, onclick },
    el("span", {}, ...label), el("kbd", { "aria-hidden": "true" }, key));
}

/** Whether the element has a use of its own for digits or arrows. @param {EventTarget | null} target */
function usesKeys(target) {
  return target instanceof Element && target.closest("textarea, pre") !== null;
}

/** @param {Element | null} element */
function hasDraft(element) {
  return element instanceof HTMLTextAreaElement && element.value !== "";
}

/**
 * Names the writers on the cards and marks the chosen one.
 * @param {Record<"a" | "b", Card>} cards
 * @param {Vote} value @param {{a: string, b: string} | undefined} versions
 */
function reveal(cards, value, versions) {
  for (const side of /** @type {const} */ (["a", "b"])) {
    const { element, header } = cards[side];
    if (value === side) {
      element.classList.add("chosen");
      header.append(el("span", { class: "note" }, "your choice"));
    }
    if (versions) header.append(el("span", { class: "version" }, versions[side]));
  }
}

/** @param {Vote} value @param {{a: string, b: string}} versions */
function sentence(value, { a, b }) {
  if (a === b) return `Thank you. Both are drafts of ${a}.`;
  if (value === "tie") return `Thank you. A tie between ${a} and ${b}.`;
  return value === "a" ? `Thank you. You preferred ${a} to ${b}.` : `Thank you. You preferred ${b} to ${a}.`;
}
